"""The engine of a run over several ranks: all processes carry out every task together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.errors import ConfigError, DivergedError, ModelError
from slide_ref.common.schedule import workers_at
from slide_ref.common.storage.array_files import Arrays, Blocks

from ..engine.local_engine import ROWS_PER_PREDICTION, STEPS_PER_RANGE, fair_range
from ..engine.tasks import PredictRows, RangeReport, TrainRange
from ..parallel.blas_threads import ONE_BLAS_THREAD
from .rank_worker import RankWorker
from .tasks import Check, KeepBest, Level, LoadBest, Order, Rebuild, RestoreBest, Rows

SECONDS_PER_ROUND = 0.5  # of teams, which all wait for the last: long against a step, short for who presses Ctrl-C
BLOCK_BYTES = 1 << 24  # of an array, on its way to rank 0 and into a file
NO_LOSS = "eval_metric loss is not measured over ranks; choose another, such as ndcg_at_5"


class RankEngine:
    """A `slide_fast.engine.local_engine.Engine` over all processes of an MPI run; exists in the first process.

    A context manager: on exit the other processes return from `follow`.

    Parameters
    ----------
    own : RankWorker
        The worker of this process.

    Attributes
    ----------
    should_stop : callable
        Returns whether the run should end early; called before each task.
    """

    def __init__(self, own: RankWorker):
        self.own, self.n_workers = own, own.workers.size
        self.should_stop: Callable[[], bool] = lambda: False
        self.parts, self.tables = own.learner.parts, own.learner.tables
        self.test_order = own.arrays.get("test_order", np.empty(0, np.int32))

    def run(self, task: Any) -> Any:
        """Carry out a task in all processes; return the result of this one."""
        self.own.everyone.broadcast(task)
        with ONE_BLAS_THREAD:
            return self.own.run(task)

    def __enter__(self) -> RankEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.own.everyone.broadcast(None)

    def order_samples(self, epoch: int) -> None:
        self.run(Order(epoch))

    def rebuild(self, words: list[int], number: int) -> None:
        if not self.should_stop():
            self.run(Rebuild(number, sorted({self.parts[word].layer for word in words})))

    def steps_of_range(self, n_left: int, step_seconds: float, all_steps: int) -> int:
        if self.n_workers == 1:
            return fair_range(n_left, 1, step_seconds)
        n_teams = workers_at(all_steps, self.n_workers)
        n_steps = min(int(SECONDS_PER_ROUND / step_seconds), STEPS_PER_RANGE * n_teams)
        return min(n_left, max(1, n_steps // n_teams) * n_teams)

    def train(
        self, ranges: Iterator[TrainRange], at_most: Callable[[], int]
    ) -> Iterator[tuple[TrainRange, RangeReport]]:
        while not self.should_stop() and (task := next(ranges, None)) is not None:
            yield task, self.run(task)

    def end_stretch(self) -> None:
        if self.own.drifts:  # hidden layers that several teams updated are made alike (S31)
            self.run(Level())

    def predict(self, n_rows: int) -> Iterator[np.ndarray]:
        at_once = ROWS_PER_PREDICTION * self.n_workers
        for first in range(0, n_rows, at_once):
            if self.should_stop():
                return
            yield self.run(PredictRows(first, min(first + at_once, n_rows)))

    def held_out_loss(self, n_rows: int) -> float:
        raise ConfigError(NO_LOSS)

    def keep_best(self) -> None:
        self.run(KeepBest())

    def load_best(self, folder: Path) -> None:
        self.run(LoadBest(folder))

    def restore_best(self) -> None:
        self.run(RestoreBest())

    def weights(self, step: int) -> Arrays:
        self.run(Check(step))
        return {name: self._blocks(name) for name in self.own.parameters if "_" not in name}

    def arrays(self, with_tables: bool) -> Arrays:
        return {name: self._blocks(name) for name in self.own.whole}

    def _blocks(self, name: str) -> Blocks:
        """Return an array of the whole network as blocks, received from its holders while it is being saved."""
        shape, dtype = self.own.whole[name]
        n_rows = max(1, BLOCK_BYTES // max(1, dtype.itemsize * math.prod(shape[1:])))

        def parts() -> Iterator[np.ndarray]:
            for rank, n in self.own.holders(name):
                for first in range(0, n, n_rows):
                    yield self.run(Rows(name, rank, first, min(first + n_rows, n)))

        return Blocks(shape, dtype, parts)


def follow(own: RankWorker) -> None:
    """Carry out the first process's tasks until there are no more."""
    while (task := own.everyone.broadcast()) is not None:
        with ONE_BLAS_THREAD, suppress(DivergedError, ModelError):
            own.run(task)
