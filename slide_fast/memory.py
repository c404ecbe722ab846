"""How much memory a run needs, told before it takes any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes
from slide_ref.common.sparse_rows import Dataset

from .input_layer import is_sparse
from .machine import memory_left
from .tasks import dataset_arrays, table_arrays

Layout = Mapping[str, tuple[tuple[int, ...], np.typing.DTypeLike]]

PROCESS = 40 << 20  # a worker's interpreter with NumPy; pages that n processes share count one n-th
COMMAND = 70 << 20  # the process of the command, with what it imports besides


def size_of(layout: Layout) -> int:
    """Bytes of all arrays of a layout."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in layout.values())


def data_arrays(train: Dataset, test: Dataset | None, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The samples as workers see them, by name."""
    data = dataset_arrays("train", train) | ({} if test is None else dataset_arrays("test", test))
    return data if weights is None else data | {"train_weights": weights}


def layouts(
    config: Config, train: Dataset, test: Dataset | None, weights: np.ndarray | None = None
) -> tuple[Layout, Layout, Layout]:
    """Shapes and dtypes of the parameters, of the moments, and of all else that a run keeps in shared memory."""
    n_labels = train.labels.n_columns
    shapes = array_shapes(config, train.features.n_columns, n_labels)
    parameters, moments = (
        {name: (shape, np.float32) for name, shape in shapes.items() if ("_" in name) == is_moment}
        for is_moment in (False, True)
    )
    working = {name: (array.shape, array.dtype) for name, array in data_arrays(train, test, weights).items()}
    working["train_order"] = ((train.n_samples,), np.int32)
    if test is not None:
        working["test_order"] = ((test.n_samples,), np.int32)
    return parameters, moments, working | table_arrays(config, n_labels)


class Estimate(NamedTuple):
    """Bytes, by what they are for.

    Attributes
    ----------
    data : int
        Samples and labels.
    model : int
    training : int
        The optimiser's moments and the tables.
    processes : int
        Interpreters, and the buffers of the workers.
    """

    data: int
    model: int
    training: int
    processes: int

    @property
    def total(self) -> int:
        """At the peak: either while data are copied to where the workers see them, or in training."""
        shared = self.data + self.model + self.training
        return shared + max(self.data + COMMAND, self.processes)


def estimate(
    config: Config, train: Dataset, test: Dataset | None, n_workers: int, weights: np.ndarray | None = None
) -> Estimate:
    """What training of a network on these data takes in all its processes."""
    parameters, moments, working = layouts(config, train, test, weights)
    data = sum(array.nbytes for array in data_arrays(train, test, weights).values())
    processes = COMMAND + n_workers * buffers(config, train) + (n_workers * PROCESS if n_workers > 1 else 0)
    return Estimate(data, size_of(parameters), size_of(moments) + size_of(working) - data, processes)


def buffers(config: Config, train: Dataset) -> int:
    """Bytes that one worker needs for its micro-batch.

    Rows of the first layer that samples touch, counted for the first samples; rows of the output layer that are active,
    with as many as the tables may return; the logits, and the samples where they are made dense.
    """
    b, n_features, n_labels = min(config.micro_batch, train.n_samples), train.features.n_columns, train.labels.n_columns
    first = train.features.take(np.arange(b))
    n_touched = len(np.unique(first.indices))
    n_active = n_labels
    lsh = config.sampled_layers(n_labels).get(len(config.hidden))
    if lsh is not None:
        found = lsh.budget or config.shards * lsh.L * lsh.bucket_size
        found = b * (found + math.ceil(train.labels.nnz / train.n_samples))
        n_active = min(n_labels, max(found, lsh.min_active))
    floats = n_touched * config.hidden[0] + n_active * (config.hidden[-1] + b)
    floats += 0 if is_sparse(first, n_touched) else n_touched * b
    return 4 * floats + 5 * max(n_features, n_labels)


def check_left(need: Estimate, train: Dataset) -> None:
    """Raise MemoryError, with both sizes, if the machine or its control group has less left than the run takes.

    The data that have been read are in memory already.
    """
    left, more = memory_left(), need.total - need.data
    if left is not None and more > left:
        raise MemoryError(
            f"training needs {more / 2**30:.2f} GiB more than the data, and {left / 2**30:.2f} GiB are left; take "
            f"fewer features (of {train.features.n_columns}), labels (of {train.labels.n_columns}), hidden neurons or "
            "workers, free memory, or raise the container's limit"
        )
