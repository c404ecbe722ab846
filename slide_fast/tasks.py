"""What a worker can be asked to do: train on some steps, do its part of a rebuild, predict some rows.

A task is a tuple: the name of a method of `WorkerState` and its arguments. All arrays stand in shared memory, so a
task and its result are a few numbers. A task that is done again after a worker's death keeps its step numbers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.divergence import check_loss
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

from .hash_tables import HashTables, array_shapes, hash_rows, insertion_order, priority_order, sort_table
from .hashing import addresses_of, hash_constants
from .network import backward, forward
from .optimizers import update
from .prediction import topk_rows
from .sampling import Active, active_sets, inclusion, label_shares, retrieve
from .schedule import learning_rate, steps_per_epoch
from .scratch import Scratch

TOP = 5


class Setup(NamedTuple):
    """What a worker must know besides the shared arrays; `steps_before` are those of earlier runs (S13)."""

    config: Config
    n_features: int
    n_labels: int
    steps_before: int = 0


class MicroBatch(NamedTuple):
    """The labelled samples of one step, as in the reference."""

    data: Dataset
    samples: np.ndarray
    epoch: int
    step: int
    rate: float
    n_unlabelled: int
    weights: np.ndarray | None = None


class RangeReport(NamedTuple):
    """What a range of steps did: `loss` and `active` are sums over the labelled samples; `seconds` it took."""

    n_samples: int
    n_labelled: int
    loss: float
    active: float
    seconds: float


def table_arrays(config: Config, n_labels: int) -> dict[str, tuple[tuple[int, ...], type]]:
    """Names, shapes and dtypes of what the tables of all layers need: ``table_ids1`` for layer 1, and so on."""
    sizes = (*config.hidden, n_labels)
    return {
        f"{name}{l}": entry
        for l, lsh in config.sampled_layers(n_labels).items()
        for name, entry in array_shapes(lsh, sizes[l]).items()
    }


def tables_of(config: Config, arrays: Mapping[str, np.ndarray], n_labels: int) -> dict[int, HashTables]:
    """Tables of all layers that have some, by layer; `arrays` are named as in `table_arrays`."""
    return {
        l: HashTables(arrays[f"table_ids{l}"], arrays[f"table_offsets{l}"], lsh.bucket_size, lsh.policy)
        for l, lsh in config.sampled_layers(n_labels).items()
    }


def dataset_arrays(prefix: str, data: Dataset) -> dict[str, np.ndarray]:
    """The arrays of a data set under the names they have in shared memory."""
    return {
        f"{prefix}_{part}_{name}": array
        for part, rows in zip(Dataset._fields, data, strict=True)
        for name in ("indptr", "indices", "data")
        if (array := getattr(rows, name)) is not None
    }


def dataset_of(prefix: str, arrays: Mapping[str, np.ndarray], n_features: int, n_labels: int) -> Dataset:
    """The inverse of `dataset_arrays`."""
    parts = []
    for part, n_columns in zip(Dataset._fields, (n_features, n_labels), strict=True):
        indptr, indices, data = (arrays.get(f"{prefix}_{part}_{name}") for name in ("indptr", "indices", "data"))
        parts.append(SparseRows(indptr, indices, data, n_columns))
    return Dataset(*parts)


def micro_batch(
    config: Config, train: Dataset, order: np.ndarray, epoch: int, step: int, weights: np.ndarray | None = None
) -> MicroBatch:
    """The samples of a step: its place in the epoch's order, rows without labels or weight left out (S10, S13)."""
    place = (step - 1) % steps_per_epoch(train.n_samples, config.micro_batch)
    samples = order[place * config.micro_batch : (place + 1) * config.micro_batch].astype(np.int64)
    labelled = samples[train.labels.indptr[samples + 1] > train.labels.indptr[samples]]
    labelled = labelled if weights is None else labelled[weights[labelled] > 0]
    rate = learning_rate(config, step, config.epochs * steps_per_epoch(train.n_samples, config.micro_batch))
    own = None if weights is None else weights[labelled]
    return MicroBatch(train.take(labelled), labelled, epoch, step, rate, len(samples) - len(labelled), own)


class WorkerState:
    """One worker's view of the run: networks, tables and data in shared memory, buffers of its own.

    Parameters
    ----------
    setup : Setup
    arrays : mapping of str to ndarray
        Parameters, moments, tables and data.
    """

    def __init__(self, setup: Setup, arrays: Mapping[str, np.ndarray]):
        self.config, self.arrays, self.scratch = setup.config, arrays, Scratch()
        self.steps_before = setup.steps_before
        self.layers = layers_of(arrays)
        self.train_data = dataset_of("train", arrays, setup.n_features, setup.n_labels)
        self.weights = arrays.get("train_weights")
        self.shares = label_shares(self.train_data.labels) if self.config.correction else None
        self.test_data = None
        if "test_order" in arrays:
            self.test_data = dataset_of("test", arrays, setup.n_features, setup.n_labels)
        self.lsh = self.config.sampled_layers(setup.n_labels)
        self.tables = tables_of(self.config, arrays, setup.n_labels)
        self.constants = {
            l: hash_constants(lsh, self.config.seed, l, self.layers[l].W.shape[1]) for l, lsh in self.lsh.items()
        }

    def run(self, task: tuple) -> object:
        """Carry out one task."""
        name, *arguments = task
        return getattr(self, name)(*arguments)

    def ready(self) -> None:
        """Nothing: an answer tells that the worker has started."""

    def train(self, epoch: int, first_step: int, n_steps: int) -> RangeReport:
        """Train on `n_steps` micro-batches, the first of which is step `first_step` of the run."""
        started = time.perf_counter()
        n_samples = n_labelled = 0
        loss = active = 0.0
        for step in range(first_step, first_step + n_steps):
            batch = micro_batch(self.config, self.train_data, self.arrays["train_order"], epoch, step, self.weights)
            step_loss, step_active = self.train_step(batch._replace(step=step + self.steps_before))
            n_samples += len(batch.samples) + batch.n_unlabelled
            n_labelled += len(batch.samples)
            loss += step_loss * len(batch.samples)
            active += step_active * len(batch.samples)
        return RangeReport(n_samples, n_labelled, loss, active, time.perf_counter() - started)

    @np.errstate(over="ignore", invalid="ignore")  # check_loss says it better
    def train_step(self, batch: MicroBatch) -> tuple[float, float]:
        """One micro-batch: forward, backward, update. Without labelled rows nothing changes (S10).

        Returns
        -------
        loss, active : float
            Mean loss and mean number of active neurons of the labelled samples.

        Raises
        ------
        DivergedError
            If the loss shows that training ran away (S29); the step then changes nothing.
        """
        if not len(batch.samples):
            return 0.0, 0.0
        passes = forward(
            self.layers, batch.data.features, lambda l, inputs: self.choose_active(l, inputs, batch), self.scratch
        )
        loss, gradients = backward(self.layers, passes, batch.data.labels, self.scratch, batch.weights)
        check_loss(batch.step, loss)
        update(self.layers, gradients, batch.step, batch.rate, self.config, self.scratch)
        mask, logits = passes[-1].mask, passes[-1].outputs
        return loss, logits.shape[1] if mask is None else mask.sum() / len(mask)

    def choose_active(self, l: int, inputs: np.ndarray, batch: MicroBatch) -> Active | None:
        """The active sets of layer l from the activations that enter it; None: the whole layer. Implements S25."""
        config, lsh, n = self.config, self.lsh.get(l), len(self.layers[l].b)
        if lsh is None:
            return None
        is_output, no_labels = l == len(self.layers) - 1, rows_from_lists([[]] * len(inputs), 0)
        addresses = addresses_of(inputs, self.constants[l], lsh, config.seed, l)
        retrieved = retrieve(self.tables[l], addresses, lsh, config.seed, l, batch.epoch, batch.samples)
        labels = batch.data.labels if is_output else no_labels
        active = active_sets(
            self.scratch, retrieved, labels, lsh, config.scope, n, config.seed, l, batch.epoch, batch.samples,
            batch.step,
        )  # fmt: skip
        if self.shares is None or not is_output:
            return active
        return active._replace(inclusion=inclusion(self.scratch, active, retrieved, labels, self.shares))

    def order_insertion(self, l: int, rebuild: int) -> None:
        """First part of a rebuild: the order in which neurons of layer l are inserted."""
        n = len(self.layers[l].b)
        self.arrays[f"insertion{l}"][:] = insertion_order(n, self.config.seed, l, rebuild)

    def hash_neurons(self, l: int, first: int, last: int) -> None:
        """First part of a rebuild: the addresses of neurons `first` to `last` - 1 of layer l."""
        W, addresses = self.layers[l].W[first:last], self.arrays[f"addresses{l}"][:, first:last]
        hash_rows(W, self.constants[l], self.lsh[l], self.config.seed, l, addresses)

    def sort_table(self, l: int, table: int, rebuild: int) -> None:
        """Second part of a rebuild: one table of layer l from the addresses and the order of insertion."""
        addresses, insertion = self.arrays[f"addresses{l}"][table], self.arrays[f"insertion{l}"]
        if self.lsh[l].policy == "reservoir":
            insertion = priority_order(len(insertion), self.config.seed, l, rebuild, table)
        sort_table(addresses, insertion, self.tables[l].ids[table], self.tables[l].offsets[table])

    def predict(self, first: int, last: int) -> np.ndarray:
        """The `TOP` best labels, int32 (n_rows, TOP), of some rows of the test data, in their keyed order."""
        rows = self.test_data.features.take(self.arrays["test_order"][first:last])
        return topk_rows(self.layers, rows, TOP, self.scratch)[0]
