"""One rank's part of a training run: a range of the labels, a share of the samples, and all of the hidden layers.

Every task is carried out by all ranks together. In a training step each rank computes the hidden layers for all samples
and the output for its labels; in between the ranks tell each other what the softmax and the hidden layers need of all
labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.divergence import check_weights
from slide_ref.common.errors import ConfigError, DivergedError, SlideError
from slide_ref.common.parameters import ARRAYS_OF_A_LAYER, array_shapes, initialise
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.sharding import label_edges

from .checkpoints import State
from .communicator import Communicator
from .machine import MemoryMeter
from .micro_batches import MicroBatch, samples_of
from .network import LayerPass, RowGradient, backward
from .prediction import topk_rows
from .schedule import learning_rate, sample_order, steps_per_epoch
from .shared_arrays import SharedArrays
from .shares import SharedSamples, merge_best
from .tasks import TOP, RangeReport, Setup, WorkerState, table_arrays


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
        with together(self.ranks):
            check_weights(step, {name: array for name, array in self.parameters.items() if "_" not in name})

    def peaks(self) -> list[int]:
        """Bytes of memory that each rank took at its peak, where it was metered; rank 0 gets them."""
        peak = 0 if self.meter is None else self.meter.peak_bytes
        return [int(part[0]) for part in self.ranks.gather(np.array([peak]))]
