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
from slide_ref.common.parts import Part, label_edges, parts_of
from slide_ref.common.sparse_rows import Dataset, SparseRows

from ..active_sets import choose_in_part, settings_in, unite
from ..correction import label_shares
from ..hash_tables import HashTables, array_shapes, hash_rows, insertion_order, priority_order, sort_table
from ..hashing import addresses_of, hash_constants
from ..kernels.scratch import Scratch
from ..micro_batches import MicroBatch, micro_batch
from ..network import LayerPass, RowGradient, backward, forward
from ..optimizers import update
from ..prediction import topk_rows
from ..sampling import Active
from ..schedule import in_batch_steps, total_steps

TOP = 5


class Setup(NamedTuple):
    """What a worker must know besides the shared arrays.

    `steps_before` are those of earlier runs (S13). The arrays hold the rows of some shards of the output layer, of all
    unless `shards` names them (S31).
    """

    config: Config
    n_features: int
    n_labels: int
    steps_before: int = 0
    shards: range | None = None


class RangeReport(NamedTuple):
    """What a range of steps did: `loss` and `active` are sums over the labelled samples; `seconds` it took."""

    n_samples: int
    n_labelled: int
    loss: float
    active: float
    seconds: float


def table_arrays(config: Config, n_labels: int, shards: range | None = None) -> dict[str, tuple[tuple[int, ...], type]]:
    """Names, shapes and dtypes of what the tables of all parts need: ``table_ids1`` for layer 1, and so on."""
    return {
        f"{name}{part.name}": entry
        for part in parts_of(config, n_labels, shards).values()
        for name, entry in array_shapes(part.lsh, part.last - part.first).items()
    }


def tables_of(parts: Mapping[int, Part], arrays: Mapping[str, np.ndarray]) -> dict[int, HashTables]:
    """Tables of all parts, by the word that stands for each in keys; `arrays` are named as in `table_arrays`."""
    return {
        word: HashTables(
            arrays[f"table_ids{part.name}"], arrays[f"table_offsets{part.name}"], part.lsh.bucket_size, part.lsh.policy
        )
        for word, part in parts.items()
    }


def parts_asked(config: Config, parts: Mapping[int, Part], step: int, n_samples: int) -> list[int]:
    """Which parts' tables are asked in the step that follows `step`, in a run over so many samples (S32)."""
    is_asked = step >= in_batch_steps(config, total_steps(config, n_samples))
    return [word for word, part in parts.items() if is_asked or part.layer < len(config.hidden)]


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
        self.shares = self.label_shares() if self.config.correction else None
        self.test_data = None
        if "test_order" in arrays:
            self.test_data = dataset_of("test", arrays, setup.n_features, setup.n_labels)
        self.parts = parts_of(self.config, setup.n_labels, setup.shards)
        self.first_label = 0 if setup.shards is None else label_edges(self.config, setup.n_labels)[setup.shards.start]
        self.tables = tables_of(self.parts, arrays)
        self.constants = {
            word: hash_constants(part.lsh, self.config.seed, word, self.layers[part.layer].W.shape[1])
            for word, part in self.parts.items()
        }

    def label_shares(self) -> np.ndarray:
        """The share of the labelled samples that carry each label, of those whose rows the arrays hold (S30)."""
        return label_shares(self.train_data.labels)

    def shares_in(self, part: Part) -> np.ndarray | None:
        """Those of a part's labels; None where logits are not corrected (S30)."""
        if self.shares is None or part.layer < len(self.config.hidden):
            return None
        return self.shares[part.first - self.first_label : part.last - self.first_label]

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
        for step in self.steps(first_step, n_steps):
            batch = self.micro_batch(epoch, step)
            step_loss, step_active = self.train_step(batch._replace(step=step + self.steps_before))
            n_samples += len(batch.samples) + batch.n_unlabelled
            n_labelled += len(batch.samples)
            loss += step_loss * len(batch.samples)
            active += step_active * len(batch.samples)
        return RangeReport(n_samples, n_labelled, loss, active, time.perf_counter() - started)

    def steps(self, first_step: int, n_steps: int) -> range:
        """Which of `n_steps` steps from `first_step` on are this worker's."""
        return range(first_step, first_step + n_steps)

    def micro_batch(self, epoch: int, step: int) -> MicroBatch:
        """The samples of a step of this run."""
        return micro_batch(self.config, self.train_data, self.arrays["train_order"], epoch, step, self.weights)

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
        loss, gradients = self.backward(passes, batch)
        check_loss(batch.step, loss)
        update(self.layers, gradients, batch.step, batch.rate, self.config, self.scratch)
        mask, logits = passes[-1].mask, passes[-1].outputs
        return loss, logits.shape[1] if mask is None else mask.sum() / len(mask)

    def backward(self, passes: list[LayerPass], batch: MicroBatch) -> tuple[float, list[RowGradient]]:
        """Loss and gradient of a micro-batch."""
        return backward(self.layers, passes, batch.data.labels, self.scratch, batch.weights)

    def choose_active(self, l: int, inputs: np.ndarray, batch: MicroBatch) -> Active | None:
        """The active sets of layer l from the activations that enter it; None: the whole layer. Implements S25."""
        chosen, config = [], self.config
        for word, part in self.parts.items():
            if part.layer == l:
                addresses = None
                if settings_in(part, config, batch).L:
                    addresses = addresses_of(inputs, self.constants[word], part.lsh, config.seed, word)
                shares = self.shares_in(part)
                chosen.append(choose_in_part(part, self.tables[word], addresses, config, batch, self.scratch, shares))
        return unite(chosen, self.first_label if l == len(config.hidden) else 0) if chosen else None

    def rows_of(self, part: Part) -> np.ndarray:
        """The weights of a part's neurons."""
        first = self.first_label if part.layer == len(self.config.hidden) else 0
        return self.layers[part.layer].W[part.first - first : part.last - first]

    def order_insertion(self, word: int, rebuild: int) -> None:
        """First part of a rebuild: the order in which neurons of a layer or shard are inserted."""
        part = self.parts[word]
        n = part.last - part.first
        self.arrays[f"insertion{part.name}"][:] = insertion_order(n, self.config.seed, word, rebuild)

    def hash_neurons(self, word: int, first: int, last: int) -> None:
        """First part of a rebuild: the addresses of neurons `first` to `last` - 1 of a layer or shard."""
        part = self.parts[word]
        W, addresses = self.rows_of(part)[first:last], self.arrays[f"addresses{part.name}"][:, first:last]
        hash_rows(W, self.constants[word], part.lsh, self.config.seed, word, addresses)

    def sort_table(self, word: int, table: int, rebuild: int) -> None:
        """Second part of a rebuild: one table of a layer or shard, from the addresses and the order of insertion."""
        part = self.parts[word]
        addresses, insertion = self.arrays[f"addresses{part.name}"][table], self.arrays[f"insertion{part.name}"]
        if part.lsh.policy == "reservoir":
            insertion = priority_order(len(insertion), self.config.seed, word, rebuild, table)
        sort_table(addresses, insertion, self.tables[word].ids[table], self.tables[word].offsets[table])

    def predict(self, first: int, last: int) -> np.ndarray:
        """The `TOP` best labels, int32 (n_rows, TOP), of some rows of the test data, in their keyed order."""
        rows = self.test_data.features.take(self.arrays["test_order"][first:last])
        return topk_rows(self.layers, rows, TOP, self.scratch)[0]
