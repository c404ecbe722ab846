"""The engine of a run on one machine: shared memory and a pool of workers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.divergence import check_weights
from slide_ref.common.parameters import initialise, layers_of
from slide_ref.common.parts import Part, parts_of
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.schedule import sample_order
from slide_ref.common.storage.array_files import Array, Arrays
from slide_ref.common.storage.model_folder import load_model

from ..hash_tables import Tables
from ..parallel.in_process import InProcess
from ..parallel.pool import Pool
from ..parallel.shared_arrays import Layout, SharedArrays
from .data_summary import DataSummary
from .layout import dataset_of, layouts, table_arrays, tables_of
from .rebuilds import stages
from .tasks import MeasureLoss, PredictRows, RangeReport, Ready, TrainRange
from .worker import Worker, WorkerConfig

SECONDS_PER_RANGE = 0.05  # long against handing out work, short against the wait for the last range of a stretch
STEPS_PER_RANGE = 64
ROWS_PER_PREDICTION = 256
WORKER = "slide_fast.engine.worker:Worker"


class Engine(Protocol):
    """Interface of what a run trains with: a network with its tables, samples in keyed order, and workers.

    Attributes
    ----------
    n_workers : int
    parts : dict of int to Part
        Layers with tables and shards, by their words in keys.
    tables : dict of int to HashTables or CentroidTable
    test_order : ndarray of int32
        The keyed order of the test rows.
    """

    n_workers: int
    parts: dict[int, Part]
    tables: dict[int, Tables]
    test_order: np.ndarray

    def order_samples(self, epoch: int) -> None:
        """Put the samples in the order of an epoch (S13)."""

    def rebuild(self, words: list[int], number: int) -> None:
        """Build the tables of some parts in parallel: rebuild `number` (S14)."""

    def steps_of_range(self, n_left: int, step_seconds: float, all_steps: int) -> int:
        """Return how many of the remaining steps of a stretch to hand out next."""

    def train(
        self, ranges: Iterator[TrainRange], at_most: Callable[[], int]
    ) -> Iterator[tuple[TrainRange, RangeReport]]:
        """Train on ranges of steps, with at most `at_most` workers at once; yield each range with its report."""

    def end_stretch(self) -> None:
        """Do what must be done when no step is in progress."""

    def predict(self, n_rows: int) -> Iterator[np.ndarray]:
        """Yield blocks of the best labels of the first test rows in keyed order, int32, shape (n_some, TOP)."""

    def held_out_loss(self, n_rows: int) -> float:
        """Return the mean loss, over all labels, of the labelled rows among the first test rows in keyed order."""

    def keep_best(self) -> None:
        """Remember the current network as the best."""

    def load_best(self, folder: Path) -> None:
        """Remember the network of a model folder as the best. Raises ModelError."""

    def restore_best(self) -> None:
        """Restore the network that was remembered, if any."""

    def weights(self, step: int) -> Arrays:
        """Return the parameters after `step`, in memory that persists after the run. Raises DivergedError (S29)."""

    def arrays(self, with_tables: bool) -> Arrays:
        """Return parameters and moments, and with `with_tables` the tables, which resuming a run needs."""


def fair_range(n_left: int, n_workers: int, step_seconds: float) -> int:
    """Return how many steps a worker gets next: few enough that all finish a stretch at about the same time."""
    return max(1, min(n_left // (2 * n_workers), int(SECONDS_PER_RANGE / step_seconds), STEPS_PER_RANGE))


class LocalEngine:
    """An `Engine` over shared memory and worker processes; one worker works in this process.

    Parameters
    ----------
    config : Config
    summary : DataSummary
    stop : callable
        Returns whether the run should end early; called often.
    stack : ExitStack
        Closes the workers and the shared memory.
    """

    def __init__(self, config: Config, summary: DataSummary, stop: Callable[[], bool], stack: ExitStack):
        self.config, self._summary, self._stop, self._stack = config, summary, stop, stack
        self.parts = parts_of(config, summary.n_labels)
        self.best: dict[str, np.ndarray] = {}
        self.test_order: np.ndarray = np.empty(0, np.int32)
        self._blocks: list[SharedArrays] = []

    def move_data(self, data: dict[str, np.ndarray]) -> DataSummary:
        """Move the arrays of the data into shared memory one by one, so that `data` is empty in the end.

        Returns the summary, with the labels of the test data as views of shared memory.
        """
        shared: dict[str, np.ndarray] = {}
        for name in list(data):
            array = data.pop(name)
            block = self._share({name: (array.shape, array.dtype)})
            block.arrays[name][:] = array
            shared |= block.arrays
        if self._summary.test_labels is not None:
            test = dataset_of("test", shared, self._summary.n_features, self._summary.n_labels)
            self._summary = self._summary._replace(test_labels=test.labels)
        return self._summary

    def _share(self, layout: Layout) -> SharedArrays:
        self._blocks.append(self._stack.enter_context(SharedArrays.create(layout)))
        return self._blocks[-1]

    def allocate(self, begun: dict[str, Array] | None) -> None:
        """Allocate one shared block each for parameters, moments, and tables, and fill them.

        Parameters persist after the run, in the model, and the moments if the state is kept. `begun` holds the arrays
        of a state to continue from, and is emptied.
        """
        config, summary = self.config, self._summary
        n_test = None if summary.test_labels is None else summary.test_labels.n_rows
        parts = layouts(config, (summary.n_features, summary.n_labels), summary.n_train, n_test)
        self._parameters, self._moments, self._working = (self._share(part).arrays for part in parts)
        arrays = self._parameters | self._moments | self._working
        if begun is None:
            initialise(layers_of(arrays), config)
        else:
            for name in list(begun):
                arrays[name][:] = begun.pop(name)  # moments that an earlier run did not keep begin at 0
        if n_test is not None:
            self.test_order = arrays["test_order"]
            self.test_order[:] = permutation(config.seed, Purpose.EVALUATION, n=n_test)
        self.tables = tables_of(self.parts, arrays)

    def start(self, n_workers: int, steps_before: int, max_restarts: int, worker_timeout: float) -> None:
        """Start the workers and wait until all are ready; `steps_before` counts the steps of earlier runs (S13)."""
        self.n_workers = n_workers
        setup = WorkerConfig(self.config, self._summary.n_features, self._summary.n_labels, steps_before)
        if n_workers == 1:
            arrays = {name: array for block in self._blocks for name, array in block.arrays.items()}
            self._pool: Pool | InProcess = InProcess(Worker(setup, arrays))
        else:
            self._pool = Pool(WORKER, setup, self._blocks, n_workers, max_restarts, worker_timeout)
            self._stack.callback(self._pool.close)
        self._finish(Ready() for _ in range(n_workers))  # the time that workers take to start is not training

    @property
    def pids(self) -> list[int]:
        """Process ids of the current workers."""
        return self._pool.pids

    def _finish(self, tasks: Iterable[Any]) -> None:
        """Carry out tasks that may run in any order."""
        for _ in self._pool.run(tasks, self._stop):
            pass

    def order_samples(self, epoch: int) -> None:
        self._working["train_order"][:] = sample_order(self.config.seed, epoch, self._summary.n_train)

    def rebuild(self, words: list[int], number: int) -> None:
        for stage in stages((self.parts[word] for word in words), number):
            self._finish(stage)

    def steps_of_range(self, n_left: int, step_seconds: float, all_steps: int) -> int:
        return fair_range(n_left, self.n_workers, step_seconds)

    def train(
        self, ranges: Iterator[TrainRange], at_most: Callable[[], int]
    ) -> Iterator[tuple[TrainRange, RangeReport]]:
        return self._pool.run(ranges, self._stop, at_most)

    def end_stretch(self) -> None:
        pass

    def predict(self, n_rows: int) -> Iterator[np.ndarray]:
        edges = range(0, n_rows, ROWS_PER_PREDICTION)
        tasks = [PredictRows(first, min(first + ROWS_PER_PREDICTION, n_rows)) for first in edges]
        early: dict[PredictRows, np.ndarray] = {}
        following = deque(tasks)
        for done, ids in self._pool.run(tasks, self._stop):
            early[done] = ids
            while following and following[0] in early:
                yield early.pop(following.popleft())

    def held_out_loss(self, n_rows: int) -> float:
        tasks = [MeasureLoss(first, min(first + ROWS_PER_PREDICTION, n_rows))
                 for first in range(0, n_rows, ROWS_PER_PREDICTION)]  # fmt: skip
        sums = dict(self._pool.run(tasks, self._stop))
        losses, counts = (math.fsum(sums[task][i] for task in tasks if task in sums) for i in (0, 1))
        return losses / max(counts, 1)

    def keep_best(self) -> None:
        self.best = {}  # the last one goes before the next one comes
        self.best = {name: array.copy() for name, array in self._parameters.items()}

    def load_best(self, folder: Path) -> None:
        self.best = {name: np.asarray(array) for name, array in load_model(folder).arrays.items()}

    def restore_best(self) -> None:
        for name, array in self.best.items():
            self._parameters[name][:] = array

    def weights(self, step: int) -> Arrays:
        check_weights(step, self._parameters)
        return dict(self._parameters)

    def arrays(self, with_tables: bool) -> Arrays:
        tables = table_arrays(self.config, self._summary.n_labels) if with_tables else {}
        return self._parameters | self._moments | {name: self._working[name] for name in tables}
