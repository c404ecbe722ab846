"""Training over several ranks: each holds a range of the labels and a share of the samples; the hidden layers all hold.

Rank 0 conducts: it runs the very `Run` that trains on one machine, but every task it hands out is carried out by all
ranks together (`slide_fast.rank_state`).
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from slide_ref.common.array_files import Blocks
from slide_ref.common.config import Config
from slide_ref.common.errors import DataError, DivergedError
from slide_ref.common.model_folder import Model
from slide_ref.common.sparse_rows import Dataset

from .checkpoints import Checkpoints, State, fingerprint
from .communicator import Communicator
from .interrupt import deferred_interrupt
from .pool import ONE_BLAS_THREAD, InProcess
from .progress import Event, log_event
from .rank_state import RankState, shards_of, together
from .run import Facts, Run
from .shares import SharedSamples
from .training import TrainingInterrupted

BLOCK_BYTES = 1 << 24  # of an array, on its way to rank 0 and into a file


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
