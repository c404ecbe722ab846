"""A worker's tasks: training on some steps, its part of a rebuild, predictions for some rows.

All arrays are in shared memory, so that a task and its result are a few numbers (`slide_fast.engine.tasks`). A task
that is repeated after a worker's death keeps its step numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.hash_constants import samples_to_cluster
from slide_ref.common.micro_batches import MicroBatch, micro_batch
from slide_ref.common.priors import label_priors

from ..prediction import topk_rows
from .held_out_loss import loss_over_all_labels
from .layout import dataset_of
from .learner import Learner
from .tasks import RangeReport, Task

TOP = 5


class WorkerConfig(NamedTuple):
    """What a worker needs besides the shared arrays; `steps_before` counts the steps of earlier runs (S13)."""

    config: Config
    n_features: int
    n_labels: int
    steps_before: int = 0


class Worker:
    """A worker of a run on one machine: a `Learner` over samples, network and tables in shared memory, the `arrays`."""

    def __init__(self, setup: WorkerConfig, arrays: Mapping[str, np.ndarray]):
        self.config, self.arrays, self.steps_before = setup.config, arrays, setup.steps_before
        self.sizes = setup.n_features, setup.n_labels
        self.train_data = dataset_of("train", arrays, *self.sizes)
        self.learner = Learner(self.config, arrays, setup.n_labels, label_priors(self.train_data.labels))

    def run(self, task: Task) -> Any:
        """Carry out one task."""
        return task.of(self, self.learner)

    def ready(self) -> None:
        """Do nothing; the answer shows that the worker has started."""

    def train(self, epoch: int, first_step: int, n_steps: int) -> RangeReport:
        """Train on `n_steps` micro-batches, the first of which is step `first_step` of the run."""
        config, order, weights = self.config, self.arrays["train_order"], self.arrays.get("train_weights")
        steps = range(first_step, first_step + n_steps)
        batches = (micro_batch(config, self.train_data, order, epoch, step, weights) for step in steps)
        return train_on(self.learner, batches, self.steps_before)

    def gather_queries(self, word: int, rebuild: int, first: int, last: int) -> None:
        """Write the inputs of a part's layer for samples `first` to `last` - 1 of those that a rebuild clusters."""
        part, n = self.learner.parts[word], self.train_data.n_samples
        samples = samples_to_cluster(part.lsh, self.config.seed, part.layer, rebuild, n)[first:last]
        self.learner.take_queries(word, first, self.train_data.features.take(samples))

    def predict(self, first: int, last: int) -> np.ndarray:
        """Return the `TOP` best labels, int32 (n_rows, TOP), of some test rows in keyed order."""
        features = dataset_of("test", self.arrays, *self.sizes).features
        rows = features.take(self.arrays["test_order"][first:last])
        return topk_rows(self.learner.layers, rows, TOP, self.learner.scratch)[0]

    def measure_loss(self, first: int, last: int) -> tuple[float, int]:
        """Return the summed loss of some test rows, and how many of them have labels."""
        rows = dataset_of("test", self.arrays, *self.sizes).take(self.arrays["test_order"][first:last])
        return loss_over_all_labels(self.learner.layers, rows, self.learner.scratch)


def train_on(learner: Learner, batches: Iterable[MicroBatch], steps_before: int) -> RangeReport:
    """Take a step on each micro-batch, and report the totals."""
    started = time.perf_counter()
    n_samples = n_labelled = 0
    loss = active = 0.0
    for batch in batches:
        step_loss, step_active = learner.train_step(batch._replace(step=batch.step + steps_before))
        n_samples += len(batch.samples) + batch.n_unlabelled
        n_labelled += len(batch.samples)
        loss += step_loss * len(batch.samples)
        active += step_active * len(batch.samples)
    return RangeReport(n_samples, n_labelled, loss, active, time.perf_counter() - started)
