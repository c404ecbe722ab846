"""Training over several ranks: each holds a range of the labels and a share of the samples; the hidden layers all hold.

Rank 0 conducts: it runs the very `Run` that trains on one machine, but every task it hands out is carried out by all
ranks together. In a training step each rank computes the hidden layers for all samples, which are small, and the output
for its labels; in between the ranks tell each other what the softmax and the hidden layers need of all labels.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from slide_ref.common.checkpoint import Blocks
from slide_ref.common.config import Config
from slide_ref.common.divergence import check_weights
from slide_ref.common.errors import ConfigError, DataError, DivergedError, SlideError
from slide_ref.common.model_folder import Model
from slide_ref.common.parameters import ARRAYS_OF_A_LAYER, array_shapes, initialise
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.sharding import label_edges
from slide_ref.common.sparse_rows import Dataset

from .checkpoints import Checkpoints, State, fingerprint
from .communicator import Communicator
from .interrupt import deferred_interrupt
from .machine import MemoryMeter
from .network import LayerPass, RowGradient, backward
from .pool import ONE_BLAS_THREAD, InProcess
from .prediction import topk_rows
from .progress import Event, log_event
from .run import Facts, Run
from .schedule import learning_rate, sample_order, steps_per_epoch
from .shared_arrays import SharedArrays
from .shares import SharedSamples, merge_best
from .tasks import TOP, MicroBatch, RangeReport, Setup, WorkerState, samples_of, table_arrays
from .training import TrainingInterrupted

BLOCK_BYTES = 1 << 24  # of an array, on its way to rank 0 and into a file


@contextmanager
def together(ranks: Communicator) -> Iterator[None]:
    """What every rank does for itself; where it fails on one of them, all raise that rank's error."""
    error: Exception | None = None
    try:
        yield
    except (SlideError, OSError, MemoryError) as found:
        error = found
    ranks.agree(error)


def shards_of(config: Config, ranks: Communicator, rank: int | None = None) -> range:
    """The shards of a rank, by default this one; all have equally many (S31). Raises ConfigError if they cannot."""
    each, rest = divmod(config.shards, ranks.size)
    if rest:
        raise ConfigError(
            f"shards is {config.shards}, and {ranks.size} ranks cannot have equally many of them; start a number of "
            f"ranks that divides it, or set shards to a multiple of {ranks.size}"
        )
    rank = ranks.rank if rank is None else rank
    return range(rank * each, (rank + 1) * each)


class RankState(WorkerState):
    """One rank's part of a run, and what it can be asked to do together with the others.

    Parameters
    ----------
    config : Config
    train, test : SharedSamples
        `test` may be None.
    label_counts : ndarray of int64, shape (n_labels,)
        Training samples that carry each label.
    ranks : Communicator
    state : State or None
        Where the run begins; its arrays are those of the whole network.
    """

    def __init__(
        self,
        config: Config,
        train: SharedSamples,
        test: SharedSamples | None,
        label_counts: np.ndarray,
        ranks: Communicator,
        state: State | None,
    ):
        self.ranks, self.train_samples, self.test_samples = ranks, train, test
        self.meter: MemoryMeter | None = None
        self.n_steps, self.traffic = 0, ({}, {})  # messages and bytes in training, by their kind
        self.shards, n_features, n_labels = shards_of(config, ranks), train.n_features, train.n_labels
        edges = label_edges(config, n_labels)
        self.edges = edges[:: len(self.shards)]  # of the ranks
        first, last = self.edges[ranks.rank], self.edges[ranks.rank + 1]
        self.label_counts = label_counts[first:last].copy()
        self.whole, own = (
            {name: (shape, np.dtype(np.float32)) for name, shape in array_shapes(config, n_features, n).items()}
            for n in (n_labels, last - first)
        )
        self.whole |= {name: (shape, np.dtype(d)) for name, (shape, d) in table_arrays(config, n_labels).items()}
        tables = table_arrays(config, n_labels, self.shards)
        orders = {"train_order": ((train.n_samples,), np.int32)}
        orders |= {} if test is None else {"test_order": ((test.n_samples,), np.int32)}
        self.block = SharedArrays.create(own | tables | orders)
        self.parameters = {name: self.block[name] for name in own}
        self._holder: dict[str, int] = {}  # of tables; those of hidden layers are the same on all ranks
        for rank in range(ranks.size):
            for name in table_arrays(config, n_labels, shards_of(config, ranks, rank)):
                self._holder.setdefault(name, rank)
        steps_before = 0 if state is None else state.before.steps
        super().__init__(Setup(config, n_features, n_labels, steps_before, self.shards), self.block.arrays)
        if test is not None:
            self.arrays["test_order"][:] = permutation(config.seed, Purpose.EVALUATION, n=test.n_samples)
        if state is None:
            initialise(self.layers, config.seed, first)
        for name, array in ({} if state is None else state.arrays).items():
            if name in self.arrays:
                self.arrays[name][:] = array[first:last] if self._is_split(name) else array

    def label_shares(self) -> np.ndarray:
        """As in the class above, of all ranks' samples."""
        return self.label_counts / max(self.train_samples.n_labelled, 1)

    def _is_split(self, name: str) -> bool:
        """Whether every rank has rows of an array: those of the output layer."""
        return name in {f"{kind}{len(self.config.hidden)}" for kind in ARRAYS_OF_A_LAYER}

    def holders(self, name: str) -> list[tuple[int, int]]:
        """Who has rows of an array of the whole network, in their order: ranks and numbers of rows."""
        if self._is_split(name):
            return [(rank, self.edges[rank + 1] - self.edges[rank]) for rank in range(self.ranks.size)]
        return [(self._holder.get(name, 0), self.whole[name][0][0])]

    def run(self, task: tuple) -> object:
        """Carry out one task; whatever goes wrong on this rank alone ends all of them, since they wait for it."""
        try:
            return super().run(task)
        except DivergedError:  # all ranks have seen it
            raise
        except BaseException as error:
            self.ranks.give_up(error)

    def order(self, epoch: int) -> None:
        """Put the samples in the order of an epoch (S13)."""
        self.arrays["train_order"][:] = sample_order(self.config.seed, epoch, self.train_samples.n_samples)

    def rebuild(self, number: int) -> None:
        """Build the tables of this rank's shards, and those of hidden layers, anew (S14)."""
        for word, tables in self.tables.items():
            L, n = tables.ids.shape
            self.order_insertion(word, number)
            self.hash_neurons(word, 0, n)
            for table in range(L):
                self.sort_table(word, table, number)

    def train(self, epoch: int, first_step: int, n_steps: int) -> RangeReport:
        """As in the class above; active neurons are those of all ranks."""
        before = [dict(counts) for counts in (self.ranks.messages, self.ranks.n_bytes)]
        report = super().train(epoch, first_step, n_steps)
        self.n_steps += n_steps
        for total, now, earlier in zip(self.traffic, (self.ranks.messages, self.ranks.n_bytes), before, strict=True):
            total.update({kind: total.get(kind, 0) + n - earlier.get(kind, 0) for kind, n in now.items()})
        return report._replace(active=float(self.ranks.allreduce(np.array([report.active]))[0]))

    def micro_batch(self, epoch: int, step: int) -> MicroBatch:
        """The samples of a step, put together from the shares of all ranks."""
        config, n = self.config, self.train_samples.n_samples
        samples = samples_of(config, n, self.arrays["train_order"], step)
        data = self.train_samples.take(samples)
        labelled = np.flatnonzero(np.diff(data.labels.indptr))
        rate = learning_rate(config, step, config.epochs * steps_per_epoch(n, config.micro_batch))
        n_unlabelled = len(samples) - len(labelled)
        return MicroBatch(data.take(labelled), samples[labelled], epoch, step, rate, n_unlabelled)

    def backward(self, passes: list[LayerPass], batch: MicroBatch) -> tuple[float, list[RowGradient]]:
        """Loss and gradient of a micro-batch; of the output layer for this rank's labels."""
        return backward(
            self.layers, passes, batch.data.labels, self.scratch, batch.weights, self.ranks, self.first_label
        )

    def predict(self, first: int, last: int) -> np.ndarray:
        """The `TOP` best labels over all ranks, int32 (n_rows, TOP), of some rows of the test data."""
        rows = self.test_samples.take(self.arrays["test_order"][first:last].astype(np.int64)).features
        ids, scores = topk_rows(self.layers, rows, TOP, self.scratch)
        ids = np.where(ids < 0, ids, ids + np.int32(self.first_label))
        parts = [np.stack(self.ranks.allgather(array)) for array in (ids, scores)]
        return merge_best(*parts, TOP)[0]

    def rows(self, name: str, holder: int, first: int, last: int) -> np.ndarray:
        """Rows of an array that rank `holder` has; rank 0 gets them."""
        shape, dtype = self.whole[name]
        own = self.arrays[name][first:last] if self.ranks.rank == holder else np.empty((0, *shape[1:]), dtype)
        parts = self.ranks.gather(own)
        return parts[holder] if self.ranks.rank == 0 else own

    def check(self, step: int) -> None:
        """Raise DivergedError on all ranks if a weight on any is not finite (S29)."""
        error = None
        try:
            check_weights(step, {name: array for name, array in self.parameters.items() if "_" not in name})
        except DivergedError as found:
            error = found
        self.ranks.agree(error)

    def peaks(self) -> list[int]:
        """Bytes of memory that each rank took at its peak, where it was metered; rank 0 gets them."""
        peak = 0 if self.meter is None else self.meter.peak_bytes
        return [int(part[0]) for part in self.ranks.gather(np.array([peak]))]


class Conductor:
    """What rank 0 holds instead of workers: each task is carried out by all ranks together.

    Parameters
    ----------
    own : RankState
    """

    def __init__(self, own: RankState):
        self.own = own

    def run(self, task: tuple) -> Any:
        """Carry out a task on all ranks; rank 0's result."""
        self.own.ranks.broadcast(task)
        return self.own.run(task)

    def __enter__(self) -> Conductor:
        return self

    def __exit__(self, *exception: object) -> None:
        """Let the other ranks go on."""
        self.own.ranks.broadcast(None)


def follow(own: RankState) -> None:
    """What ranks other than 0 do: carry out tasks until there are no more."""
    while (task := own.ranks.broadcast()) is not None:
        with ONE_BLAS_THREAD, suppress(DivergedError):
            own.run(task)


class ShardedRun(Run):
    """A training run over all ranks, as rank 0 sees it.

    Parameters
    ----------
    conductor : Conductor
    facts, eval_samples, max_seconds, checkpoints, state, callback, stop
        See `Run`.
    """

    def __init__(
        self,
        conductor: Conductor,
        facts: Facts,
        eval_samples: int,
        max_seconds: float,
        checkpoints: Checkpoints | None,
        state: State | None,
        callback: Callable[[Event], None],
        stop: threading.Event,
    ):
        own = self.own = conductor.own
        super().__init__(own.config, facts, eval_samples, max_seconds, math.inf, checkpoints, state, callback, stop)
        self.conductor, self.pool = conductor, InProcess(conductor)
        self.working, self.parts, self.tables = own.block, own.parts, own.tables

    def build_tables(self, number: int) -> None:
        self.barrier([("rebuild", number)])

    def order_samples(self) -> None:
        self.conductor.run(("order", self.progress.epoch))

    def blocks(self, name: str) -> Blocks:
        """An array of the whole network, which comes from those who hold it while it is being saved."""
        shape, dtype = self.own.whole[name]
        n_rows = max(1, BLOCK_BYTES // max(1, dtype.itemsize * math.prod(shape[1:])))

        def parts() -> Iterator[np.ndarray]:
            for rank, n in self.own.holders(name):
                for first in range(0, n, n_rows):
                    yield self.conductor.run(("rows", name, rank, first, min(first + n_rows, n)))

        return Blocks(shape, dtype, parts)

    def learned(self) -> dict[str, np.ndarray | Blocks]:
        self.conductor.run(("check", self.before.steps + self.progress.step))
        return {name: self.blocks(name) for name in self.own.parameters if "_" not in name}

    def state(self, is_over: bool = False) -> State:
        arrays = {name: self.blocks(name) for name in self.own.whole}
        return State(self.config, self.n_features, self.n_labels, arrays, self.before, self.progress, self.data)


def facts_of_ranks(train: SharedSamples, test: SharedSamples | None, ranks: Communicator) -> Facts:
    """The facts of data that the ranks hold in shares; all of them must ask."""
    counts = ranks.allreduce(np.bincount(train.own.labels.indices, minlength=train.n_labels))
    test_labels = None if test is None else test.all_labels()
    number = np.array([fingerprint(train.own, None, train.first)], dtype=np.uint64)
    total = int(ranks.allreduce(number)[0])  # modulo 2^64
    return Facts(train.n_samples, train.n_features, train.n_labels, counts, test_labels, lambda: total)


def without_arrays(state: State | None) -> State | None:
    """What rank 0 must know of a state once every rank has its rows, so that nobody holds on to the rest."""
    return None if state is None else dataclasses.replace(state, arrays={})


def assembled(model: Model) -> Model:
    """A model with its arrays whole, in the memory of this process."""
    arrays = {name: np.concatenate(list(array.blocks())) for name, array in model.arrays.items()}
    return Model(**{**vars(model), "arrays": arrays})


def prepare(
    config: Config, train: Dataset, test: Dataset | None, ranks: Communicator, state: State | None
) -> tuple[RankState, Facts]:
    """Check the settings against the ranks, and make this rank's part; all ranks call it with their shares.

    Raises
    ------
    SlideError, MemoryError
        On all ranks alike.
    """
    with together(ranks):
        shards_of(config, ranks)
    samples = [None if part is None else SharedSamples(part, ranks) for part in (train, test)]
    facts = facts_of_ranks(*samples, ranks)
    with together(ranks):
        if samples[1] is not None and not samples[1].n_samples:
            raise DataError("test data: there are no samples")
        if not facts.label_counts.any():
            raise DataError("training data: no sample has a label")
        if state is not None:
            state.check_fits(config, facts.n_features, facts.n_labels, f"{facts.fingerprint():016x}")
        own = RankState(config, *samples, facts.label_counts, ranks, state)
    return own, facts


def conduct(
    conductor: Conductor,
    facts: Facts,
    *,
    eval_every: float = 1.0,
    eval_samples: int = 10_000,
    max_seconds: float = math.inf,
    checkpoints: Checkpoints | None = None,
    state: State | None = None,
    callback: Callable[[Event], None] = lambda event: None,
    label_names: list[str] | None = None,
) -> Model:
    """Train on rank 0 while the others `follow`; options as those of `training.fit_with_state`.

    Returns
    -------
    Model
        Its arrays are `Blocks`: it can be saved, or assembled, as long as the other ranks follow.
    """
    with ExitStack() as stack:
        stop = stack.enter_context(deferred_interrupt())
        run = ShardedRun(conductor, facts, eval_samples, max_seconds, checkpoints, state, log_event(callback), stop)
        run.report("start", {"n_workers": conductor.own.ranks.size, "pids": tuple, "n_samples": run.n_train})
        run.carry_out(eval_every)
        if stop.is_set():
            raise TrainingInterrupted(run.model(label_names))
        return run.model(label_names)


def fit_sharded(
    config: Config,
    train: Dataset,
    *,
    ranks: Communicator,
    test: Dataset | None = None,
    state: State | None = None,
    finish: Callable[[Model], Any] = assembled,
    **options: Any,
) -> Any:
    """Train a network over several ranks, each of which calls this with its share of the samples.

    Parameters
    ----------
    config : Config
        The number of ranks divides `config.shards`.
    train, test : Dataset
        This rank's samples; they follow those of the rank before. All ranks count the same features and labels.
    ranks : Communicator
        From `communicator.mpi_ranks`.
    state : State, optional
        A run to resume from a checkpoint, the same on all ranks, of whatever number of ranks.
    finish : callable
        Called on rank 0 with the model, whose arrays are `Blocks` that can be saved; by default the model is put
        together in the memory of rank 0.
    **options
        Those of `conduct`; only rank 0 looks at them.

    Returns
    -------
    What `finish` returned on rank 0, None on the others.

    Raises
    ------
    SlideError
        As `training.fit_with_state`.
    """
    own, facts = prepare(config, train, test, ranks, state)
    if ranks.rank:
        del facts
        return follow(own)
    with Conductor(own) as conductor:
        return finish(conduct(conductor, facts, state=without_arrays(state), **options))
