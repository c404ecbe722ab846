"""Names, shapes and dtypes of the arrays of a run, as workers see them in shared memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes, initialise, layers_of
from slide_ref.common.parts import Part, parts_of
from slide_ref.common.sparse_rows import Dataset, SparseRows

from ..hash_tables import CentroidTable, HashTables, Tables
from ..hash_tables import array_shapes as shapes_of_tables
from ..parallel.shared_arrays import Layout


def table_arrays(config: Config, n_labels: int, shards: range | None = None) -> Layout:
    """Return names, shapes and dtypes of the arrays of all parts' tables: ``table_ids1`` for layer 1, and so on."""
    return {
        f"{name}{part.name}": entry
        for part in parts_of(config, n_labels, shards).values()
        for name, entry in shapes_of_tables(part.lsh, part.last - part.first, config.hidden[part.layer - 1]).items()
    }


def tables_of(parts: Mapping[int, Part], arrays: Mapping[str, np.ndarray]) -> dict[int, Tables]:
    """View arrays named as in `table_arrays` as the tables of all parts, by their words in keys."""
    tables: dict[int, Tables] = {}
    for word, part in parts.items():
        ids = arrays[f"table_ids{part.name}"]
        if part.lsh.family == "centroid":
            tables[word] = CentroidTable(ids, part.last - part.first, arrays[f"filled{part.name}"])
        else:
            tables[word] = HashTables(ids, arrays[f"table_offsets{part.name}"], part.lsh.bucket_size, part.lsh.policy)
    return tables


def dataset_arrays(prefix: str, data: Dataset) -> dict[str, np.ndarray]:
    """Return the arrays of a data set under the names they have in shared memory."""
    return {
        f"{prefix}_{part}_{name}": array
        for part, rows in zip(Dataset._fields, data, strict=True)
        for name in ("indptr", "indices", "data")
        if (array := getattr(rows, name)) is not None
    }


def dataset_of(prefix: str, arrays: Mapping[str, np.ndarray], n_features: int, n_labels: int) -> Dataset:
    """Return the data set held in arrays: the inverse of `dataset_arrays`."""
    parts = []
    for part, n_columns in zip(Dataset._fields, (n_features, n_labels), strict=True):
        indptr, indices = (arrays[f"{prefix}_{part}_{name}"] for name in ("indptr", "indices"))
        parts.append(SparseRows(indptr, indices, arrays.get(f"{prefix}_{part}_data"), n_columns))
    return Dataset(*parts)


def size_of(layout: Layout) -> int:
    """Return the total bytes of all arrays of a layout."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in layout.values())


def data_arrays(train: Dataset, test: Dataset | None, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the samples as workers see them, by name."""
    data = dataset_arrays("train", train) | ({} if test is None else dataset_arrays("test", test))
    return data if weights is None else data | {"train_weights": weights}


def network_arrays(config: Config, n_features: int, n_labels: int) -> Layout:
    """Return names, shapes and dtypes of the parameters and moments of a network."""
    return {name: (shape, np.float32) for name, shape in array_shapes(config, n_features, n_labels).items()}


def first_parameters(config: Config, n_features: int, n_labels: int) -> dict[str, np.ndarray]:
    """Return the parameters of a new network, by name, without moments."""
    layout = network_arrays(config, n_features, n_labels)
    arrays = {name: np.empty(*entry) for name, entry in layout.items() if "_" not in name}
    initialise(layers_of(arrays), config)
    return arrays


def order_arrays(n_train: int, n_test: int | None) -> Layout:
    """Return the shapes of the arrays with the orders of the samples; `n_test` is None if there are none to test on."""
    orders: Layout = {"train_order": ((n_train,), np.int32)}
    return orders if n_test is None else orders | {"test_order": ((n_test,), np.int32)}


def layouts(config: Config, sizes: tuple[int, int], n_train: int, n_test: int | None) -> tuple[Layout, Layout, Layout]:
    """Return shapes and dtypes of parameters, of moments, and of all other arrays of a run except the data.

    `sizes` are the numbers of features and labels.
    """
    network = network_arrays(config, *sizes)
    parameters = {name: entry for name, entry in network.items() if "_" not in name}
    moments = {name: entry for name, entry in network.items() if "_" in name}
    return parameters, moments, order_arrays(n_train, n_test) | table_arrays(config, sizes[1])


def state_arrays(config: Config, n_features: int, n_labels: int) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return names, shapes and dtypes of the arrays of a checkpoint: parameters, moments and tables."""
    arrays = network_arrays(config, n_features, n_labels) | table_arrays(config, n_labels)
    return {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in arrays.items()}
