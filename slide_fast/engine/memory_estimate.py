"""Estimate of the memory that a run needs, before the network is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.index import N_CENTROIDS, PREVIEWED_PART, IndexSamples, bucket_size, has_preview
from slide_ref.common.parts import parts_of
from slide_ref.common.sparse_rows import Dataset, SparseRows

from .. import optimizers
from ..indexing import CELLS_AT_ONCE, PREVIEWED_AT_ONCE
from ..kernels.sparse_products import FEATURES_AT_ONCE, FREQUENT, is_sparse
from ..parallel.machine import proportional_set_size, require_memory
from ..prediction import LABELS_AT_ONCE, ROWS_AT_ONCE
from .layout import data_arrays, layouts, size_of
from .worker import TOP

COMMAND = 70_000_000  # the calling process, where the system does not tell what it holds
WORKER = 24_000_000  # of a worker's interpreter with NumPy: what it shares with the calling process is counted there
ENTRY = 40  # bytes a stored value of a micro-batch: the value, its feature and its sample, as read and by feature
FACTORED = 40  # bytes a number of a basis while it is made of random ones (S40)
ORDERED = 32  # bytes an element while a keyed permutation is made
SORTED = 16  # bytes a neuron while a table is made
SORTED_AT_ONCE = 4 * CELLS_AT_ONCE  # floats a neuron of a bucket of the index while some are sorted
SCORED = 300  # bytes a test sample while its answers are compared with its labels


class Estimate(NamedTuple):
    """Bytes, by purpose.

    Attributes
    ----------
    data : int
        Samples and labels.
    model : int
    training : int
        The optimiser's moments, the tables, and a copy of the best network if early stopping is used.
    processes : int
        Other memory of the calling process, the workers' interpreters, and buffers.
    """

    data: int
    model: int
    training: int
    processes: int

    @property
    def total(self) -> int:
        """Total at the peak of training."""
        return sum(self)

    @property
    def to_come(self) -> int:
        """Return the bytes still to be allocated, apart from the data."""
        return self.total - self.data

    def with_held(self, best: Mapping[str, np.ndarray]) -> Estimate:
        """Add what the calling process holds now, except the data and the best network, which are included already."""
        n_bytes, counted = proportional_set_size(), self.data + sum(array.nbytes for array in best.values())
        return self._replace(processes=self.processes + (max(0, n_bytes - counted) if n_bytes else COMMAND))


def estimate(
    config: Config,
    train: Dataset,
    test: Dataset | None,
    n_workers: int,
    weights: np.ndarray | None = None,
    keeps_best: bool = False,
) -> Estimate:
    """Estimate the memory of all processes when training on these data, besides what this process holds."""
    sizes = train.features.n_columns, train.labels.n_columns
    n_test = None if test is None else test.n_samples
    parameters, moments, working = layouts(config, sizes, train.n_samples, n_test)
    data = sum(array.nbytes for array in data_arrays(train, test, weights).values())
    model = size_of(parameters)
    training = size_of(moments) + size_of(working) + (model if keeps_best else 0)
    each = buffers(config, train, test) + (WORKER if n_workers > 1 else 0)
    return Estimate(data, model, training, n_workers * each + passing(config, train.n_samples, sizes, n_test or 0))


def buffers(config: Config, train: Dataset, test: Dataset | None) -> int:
    """Estimate the bytes that one worker needs for its micro-batch, and for predictions.

    This includes rows of the first layer, counted on the first samples; active rows of the output layer, which are
    labels and as many neurons as the tables may return; and logits.
    """
    b, n_labels = min(config.micro_batch, train.n_samples), train.labels.n_columns
    first = train.features.take(np.arange(b))
    n_active = n_labels
    lsh = config.sampled_layers(n_labels).get(len(config.hidden))
    if lsh is not None:
        each = lsh.room(n_labels) if lsh.family == "centroid" else lsh.bucket_size
        budget = 0 if lsh.strategy == "threshold" else lsh.budget  # that strategy has none (S24)
        returned = (budget or config.shards * lsh.L * each) if lsh.L else 0
        found = len(np.unique(train.labels.take(np.arange(b)).indices)) + b * returned
        n_active = min(n_labels, max(found, lsh.min_active))
    floats = first_layer(config, first) + n_active * (config.hidden[-1] + b)
    if test is not None:
        floats += logits_at_once(n_labels, test.n_samples)
    return 4 * floats + ENTRY * first.nnz + 5 * n_labels


def logits_at_once(n_labels: int, n_samples: int) -> int:
    """Count the floats of the logits, and a flag each, that a thread holds when it predicts."""
    n = min(LABELS_AT_ONCE, n_labels) * min(ROWS_AT_ONCE, n_samples)
    return n + n // 4


def indexing(config: Config, samples: IndexSamples, n_labels: int, n_threads: int) -> int:
    """Estimate the bytes to make the index of a trained network, and to hold it, besides those of the samples."""
    n_inputs, (n_clustered, n_kept_aside) = config.hidden[-1], (part.n_rows for part in samples)
    n_centroids, size = min(N_CENTROIDS, n_clustered), bucket_size(n_labels, n_inputs)
    first = samples.clustered.take(np.arange(min(ROWS_AT_ONCE, n_clustered)))
    held, rows = n_centroids * size, SORTED_AT_ONCE
    if has_preview(n_labels, n_inputs):
        held += n_centroids * size + n_labels * (n_inputs // PREVIEWED_PART)
        rows = max(rows, min(PREVIEWED_AT_ONCE, n_kept_aside // n_centroids))
    each = first_layer(config, first) + logits_at_once(n_labels, n_kept_aside) + rows * size
    inputs = n_inputs * max(2 * n_clustered, n_kept_aside)  # of the output layer; k-means holds them twice
    return 4 * (held + n_threads * each + inputs)


def first_layer(config: Config, samples: SparseRows) -> int:
    """Count the elements that the first layer needs for a micro-batch: rows of touched features, and buffers."""
    counts, n_neurons = np.unique(samples.indices, return_counts=True)[1], config.hidden[0]
    n_touched, n_shared, n_frequent = (int((counts > least).sum()) for least in (0, 1, FREQUENT))
    if not is_sparse(samples, n_touched):
        return n_touched * (n_neurons + samples.n_rows) + samples.n_columns
    n_computed = n_shared if config.optimizer == "adam" and not config.beta1 else n_touched
    n_rows = n_computed + min(n_shared - n_frequent, FEATURES_AT_ONCE) + int(np.diff(samples.indptr).max(initial=0))
    return n_rows * n_neurons + n_frequent * samples.n_rows + 3 * optimizers.ELEMENTS_AT_ONCE


def passing(config: Config, n_train: int, sizes: tuple[int, int], n_test: int) -> int:
    """Estimate the bytes needed temporarily: for first weights, to order samples, build tables or score predictions.

    `sizes` are the numbers of features and of labels.
    """
    n_features, n_labels = sizes
    largest = max((part.last - part.first for part in parts_of(config, n_labels).values()), default=0)
    basis = n_features * min(n_features, -(-config.hidden[0] // 2)) if config.initial_weights == "mirrored" else 0
    return max(FACTORED * basis, ORDERED * n_train, ORDERED * largest, (SCORED + 4 * TOP) * n_test)


def check_left(n_bytes: int, n_features: int, n_labels: int) -> None:
    """Raise MemoryError, with both sizes, if the machine or its control group has less left than a run needs."""
    fewer = f"use fewer features (of {n_features}), labels (of {n_labels}), hidden neurons or workers"
    advice = f"{fewer}, free memory, or raise the container's limit"
    require_memory(n_bytes, "besides the data, training needs", advice)
