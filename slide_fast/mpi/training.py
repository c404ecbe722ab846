"""Training over several ranks: each holds a range of the labels and a share of the samples; the hidden layers all hold.

The first process conducts: it runs the very `Run` that trains on one machine, but every task it hands out is carried
out by all processes together (`slide_fast.mpi.rank_worker`).
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import DataError, DivergedError, ModelError
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.array_files import Blocks
from slide_ref.common.storage.model_folder import Model

from ..engine.checkpoints import BEST, Checkpoints, State, fingerprint
from ..engine.data_summary import Facts, n_labelled
from ..engine.option_checks import checked
from ..engine.progress import Event, log_event
from ..engine.run import STEPS_PER_RANGE, Run
from ..parallel.blas_threads import ONE_BLAS_THREAD
from ..parallel.interrupt import deferred_interrupt
from ..parallel.pool import InProcess
from ..schedule import workers_at
from ..training import TrainingInterrupted
from .communicator import Communicator, together
from .process_grid import place_of
from .rank_worker import RankState, shards_of
from .sample_ranges import SharedSamples, pooled

SECONDS_PER_ROUND = 0.5  # of teams, which all wait for the last: long against a step, short for who presses Ctrl-C
BLOCK_BYTES = 1 << 24  # of an array, on its way to rank 0 and into a file


class Conductor:
    """What the first process holds instead of workers: each task is carried out by all together.

    Parameters
    ----------
    own : RankState
    """

    def __init__(self, own: RankState):
        self.own = own

    def run(self, task: tuple) -> Any:
        """Carry out a task in all processes; the result of this one."""
        self.own.everyone.broadcast(task)
        return self.own.run(task)

    def __enter__(self) -> Conductor:
        return self

    def __exit__(self, *exception: object) -> None:
        """Let the others go on."""
        self.own.everyone.broadcast(None)


def follow(own: RankState) -> None:
    """What the other processes do: carry out tasks until there are no more."""
    while (task := own.everyone.broadcast()) is not None:
        with ONE_BLAS_THREAD, suppress(DivergedError, ModelError):
            own.run(task)


class ShardedRun(Run):
    """A training run over all ranks, as the first process sees it.

    Parameters
    ----------
    conductor : Conductor
    facts, eval_samples, max_seconds, patience, checkpoints, state, callback, stop, label_names
        See `Run`.
    """

    def __init__(
        self,
        conductor: Conductor,
        facts: Facts,
        eval_samples: int,
        max_seconds: float,
        patience: float,
        checkpoints: Checkpoints | None,
        state: State | None,
        callback: Callable[[Event], None],
        stop: threading.Event,
        label_names: list[str] | None = None,
    ):
        self.conductor, self.pool = conductor, InProcess(conductor)
        own = self.own = conductor.own
        self.n_teams = own.workers.size
        self.rows_of_prediction = Run.rows_of_prediction * self.n_teams
        rest = (max_seconds, patience, checkpoints, state, callback, stop, label_names)
        super().__init__(own.config, facts, eval_samples, *rest)
        self.working, self.parts, self.tables = own.block, own.parts, own.tables

    def steps_of_range(self, n_left: int) -> int:
        """As in the class above; for each of several teams equally many, as far as they go."""
        if self.n_teams == 1:
            return super().steps_of_range(n_left)
        n_teams = workers_at(self.all_steps, self.n_teams)
        n_steps = min(int(SECONDS_PER_ROUND / self.progress.step_seconds), STEPS_PER_RANGE * n_teams)
        return min(n_left, max(1, n_steps // n_teams) * n_teams)

    def train_to(self, last_step: int) -> None:
        """As in the class above; where all meet, hidden layers that drifted apart are made alike (S31)."""
        super().train_to(last_step)
        if self.own.drifts:
            started = time.perf_counter()
            self.conductor.run(("level",))
            self._spend(time.perf_counter() - started)

    def keep_best(self) -> None:
        self.conductor.run(("keep_best",))

    def load_best(self, checkpoints: Checkpoints) -> None:
        self.conductor.run(("load_best", checkpoints.folder / BEST))

    def restore_best(self) -> None:
        self.conductor.run(("take_best",))

    def build_tables(self, number: int) -> None:
        self.barrier([("rebuild", number, self.progress.step)])

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
        self.conductor.run(("check", self.all_steps))
        return {name: self.blocks(name) for name in self.own.parameters if "_" not in name}

    def state(self, is_over: bool = False) -> State:
        arrays = {name: self.blocks(name) for name in self.own.whole}
        kept = (tuple(self.history), self.label_names)
        return State(self.config, self.n_features, self.n_labels, arrays, self.before, self.progress, self.data, *kept)


def facts_of_ranks(train: SharedSamples, test: SharedSamples | None, ranks: Communicator) -> Facts:
    """The facts of data that the ranks hold in shares; all of them must ask."""
    own = np.append(np.bincount(train.own.labels.indices, minlength=train.n_labels), n_labelled(train.own))
    *counts, n = np.split(ranks.allreduce(own), [train.n_labels])
    test_labels = None if test is None else test.all_labels()
    number = np.array([fingerprint(train.own, train.weights, train.first)], dtype=np.uint64)
    total = int(ranks.allreduce(number)[0])  # modulo 2^64
    sizes = (train.n_samples, train.n_features, train.n_labels)
    return Facts(*sizes, *counts, int(n[0]), test_labels, lambda: total)


def without_arrays(state: State | None) -> State | None:
    """What rank 0 must know of a state once every rank has its rows, so that nobody holds on to the rest."""
    return None if state is None else dataclasses.replace(state, arrays={})


def assembled(model: Model) -> Model:
    """A model with its arrays whole, in the memory of this process."""
    arrays = {name: np.concatenate(list(array.blocks())) for name, array in model.arrays.items()}
    return Model(**{**vars(model), "arrays": arrays})


def prepare(
    config: Config,
    train: Dataset,
    test: Dataset | None,
    everyone: Communicator,
    state: State | None,
    n_workers: int = 1,
    weights: np.ndarray | None = None,
) -> tuple[RankState, Facts]:
    """Check the settings against the processes, and make this one's part; all of them call it with their shares.

    Raises
    ------
    SlideError, MemoryError
        In all processes alike.
    """
    with together(everyone):
        place = place_of(everyone, n_workers)
        shards_of(config, place.ranks)
    shares = [None if part is None else pooled(part, own, place) for part, own in ((train, weights), (test, None))]
    samples = [None if share is None else SharedSamples(share[0], place.ranks, share[1]) for share in shares]
    del shares
    facts = facts_of_ranks(*samples, place.ranks)
    with together(everyone):
        if samples[1] is not None and not samples[1].n_samples:
            raise DataError("test data: there are no samples")
        if not facts.label_counts.any():
            raise DataError("training data: no sample has a label")
        if state is not None:
            state.check_fits(config, facts.n_features, facts.n_labels, f"{facts.fingerprint():016x}")
        own = RankState(config, *samples, facts.label_counts, place, state)
    return own, facts


def conduct(
    conductor: Conductor,
    facts: Facts,
    *,
    eval_every: float = 1.0,
    eval_samples: int = 10_000,
    max_seconds: float = math.inf,
    patience: float = math.inf,
    checkpoints: Checkpoints | None = None,
    state: State | None = None,
    callback: Callable[[Event], None] = lambda event: None,
    label_names: list[str] | None = None,
) -> Model:
    """Train in the first process while the others `follow`; options as those of `training.fit_with_state`.

    Returns
    -------
    Model
        Its arrays are `Blocks`: it can be saved, or assembled, as long as the others follow.
    """
    with ExitStack() as stack:
        stop = stack.enter_context(deferred_interrupt())
        callback = log_event(callback)
        rest = (max_seconds, patience, checkpoints, state, callback, stop, label_names)
        run = ShardedRun(conductor, facts, eval_samples, *rest)
        run.report("start", {"n_workers": conductor.own.everyone.size, "pids": tuple, "n_samples": run.n_train})
        run.carry_out(eval_every)
        if stop.is_set():
            raise TrainingInterrupted(run.model())
        return run.model()


def fit_sharded(
    config: Config,
    train: Dataset,
    *,
    ranks: Communicator,
    n_workers: int = 1,
    test: Dataset | None = None,
    weights: np.ndarray | None = None,
    state: State | None = None,
    finish: Callable[[Model], Any] = assembled,
    **options: Any,
) -> Any:
    """Train a network over several ranks; every process calls this with its share of the samples.

    Parameters
    ----------
    config : Config
        The number of ranks divides `config.shards`.
    train, test : Dataset
        This process's samples; they follow those of the process before. All count the same features and labels.
    ranks : Communicator
        All processes, from `communicator.mpi_ranks`.
    n_workers : int
        Processes a rank, which follow each other and share its memory. With one worker a rank, steps are the same on
        any number of ranks up to the rounding of sums; with more, teams of one worker of every rank update the network
        without locks, and no two runs are the same.
    weights : ndarray of float64, shape (n_samples,), optional
        How much each of these training samples counts (S10); finite, at least 0. All processes give some, or none does.
    state : State, optional
        A run to resume from a checkpoint, the same in all processes, of whatever number of ranks and workers.
    finish : callable
        Called in the first process with the model, whose arrays are `Blocks` that can be saved; by default the model is
        put together in its memory.
    **options
        Those of `conduct`; only the first process looks at them.

    Returns
    -------
    What `finish` returned in the first process, None in the others.

    Raises
    ------
    SlideError
        As `training.fit_with_state`.
    """
    with together(ranks):
        options = checked(options)
    own, facts = prepare(config, train, test, ranks, state, n_workers, weights)
    if ranks.rank:
        del facts
        return follow(own)
    with Conductor(own) as conductor:
        return finish(conduct(conductor, facts, state=without_arrays(state), **options))
