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
from ..engine.tasks import RangeReport, Task, ranges
from ..parallel.blas_threads import ONE_BLAS_THREAD
from .rank_worker import RankWorker

SECONDS_PER_ROUND = 0.5  # of teams, which all wait for the last: long against a step, short for who presses Ctrl-C
BLOCK_BYTES = 1 << 24  # of an array, on its way to rank 0 and into a file
NO_LOSS = "eval_metric loss is not measured over ranks; choose another, such as ndcg_at_5"


class RankEngine:
    """A `slide_fast.engine.local_engine.Engine` over all processes of an MPI run; exists in the first process.

    A context manager: on exit the other processes return from `follow`. `should_stop`, called before each task, returns
    whether the run should end early.
    """

    def __init__(self, own: RankWorker):
        self.own, self.n_workers = own, own.workers.size
        self.should_stop: Callable[[], bool] = lambda: False
        self.parts, self.tables = own.learner.parts, own.learner.tables
        self.test_order = own.arrays.get("test_order", np.empty(0, np.int32))

    def run(self, method: str, *arguments: Any) -> Any:
        """Call a method of the workers of all processes; return the result of this one."""
        task = Task(method, arguments)
        self.own.everyone.broadcast(task)
        with ONE_BLAS_THREAD:
            return self.own.run(task)

    def __enter__(self) -> RankEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.own.everyone.broadcast(None)

    def order_samples(self, epoch: int) -> None:
        self.run("order", epoch)

    def rebuild(self, words: list[int], number: int) -> None:
        if not self.should_stop():
            self.run("rebuild", number, sorted({self.parts[word].layer for word in words}))

    def steps_of_range(self, n_left: int, step_seconds: float, all_steps: int) -> int:
        if self.n_workers == 1:
            return fair_range(n_left, 1, step_seconds)
        n_teams = workers_at(all_steps, self.n_workers)
        n_steps = min(int(SECONDS_PER_ROUND / step_seconds), STEPS_PER_RANGE * n_teams)
        return min(n_left, max(1, n_steps // n_teams) * n_teams)

    def train(self, tasks: Iterator[Task], at_most: Callable[[], int]) -> Iterator[tuple[Task, RangeReport]]:
        while not self.should_stop() and (task := next(tasks, None)) is not None:
            yield task, self.run(task.method, *task.arguments)

    def end_stretch(self) -> None:
        if self.own.drifts:  # hidden layers that several teams updated are made alike (S31)
            self.run("level")

    def predict(self, n_rows: int) -> Iterator[np.ndarray]:
        for edges in ranges(n_rows, ROWS_PER_PREDICTION * self.n_workers):
            if self.should_stop():
                return
            yield self.run("predict", *edges)

    def held_out_loss(self, n_rows: int) -> float:
        raise ConfigError(NO_LOSS)

    def keep_best(self) -> None:
        self.run("keep_best")

    def load_best(self, folder: Path) -> None:
        self.run("load_best", folder)

    def restore_best(self) -> None:
        self.run("restore_best")

    def weights(self, step: int) -> Arrays:
        self.run("check", step)
        return {name: self._blocks(name) for name in self.own.parameters if "_" not in name}

    def arrays(self, with_tables: bool) -> Arrays:
        return {name: self._blocks(name) for name in self.own.whole}

    def _blocks(self, name: str) -> Blocks:
        """Return an array of the whole network as blocks, received from its holders while it is being saved."""
        shape, dtype = self.own.whole[name]
        n_rows = max(1, BLOCK_BYTES // max(1, dtype.itemsize * math.prod(shape[1:])))

        def parts() -> Iterator[np.ndarray]:
            for rank, n in self.own.holders(name):
                for edges in ranges(n, n_rows):
                    yield self.run("rows", name, rank, *edges)

        return Blocks(shape, dtype, parts)


def follow(own: RankWorker) -> None:
    """Carry out the first process's tasks until there are no more."""
    while (task := own.everyone.broadcast()) is not None:
        with ONE_BLAS_THREAD, suppress(DivergedError, ModelError):
            own.run(task)
