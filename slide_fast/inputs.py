"""Samples and labels as users have them, turned into checked rows: matrices, arrays, lists, paths."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

from .data import names_no_sizes, read_dataset
from .formats import with_columns

KINDS = ("classes", "lists", "indicator", "sparse indicator", "rows")


def is_sparse(X: Any) -> bool:
    """Whether X is one of SciPy's sparse matrices or arrays."""
    return hasattr(X, "tocsr") and hasattr(X, "nnz")


def is_path(X: Any) -> bool:
    """Whether X names a file."""
    return isinstance(X, (str, Path))


def as_features(X: Any) -> SparseRows:
    """Samples as checked, canonical rows.

    Parameters
    ----------
    X : SparseRows, SciPy matrix or array of any sparse format, or array of numbers, shape (n_samples, n_features)

    Raises
    ------
    DataError
        If X is something else, or its arrays do not fit together, or a value is not finite.
    """
    if not isinstance(X, SparseRows):
        X = _rows_of_sparse(X, "X") if is_sparse(X) else _rows_of_dense(X)
    if X.data is not None and not np.isfinite(X.data).all():
        _refuse_infinite(X.data, "X")
    X.check("X")
    return X.canonical()


def _rows_of_sparse(X: Any, name: str) -> SparseRows:
    if np.issubdtype(X.dtype, np.complexfloating):
        raise DataError(f"{name}: Complex data not supported")
    X = X.tocsr()
    data = _as_float32(X.data, name)
    return SparseRows(X.indptr.astype(np.int64), X.indices.astype(np.int32), data, X.shape[1])


def _rows_of_dense(X: Any) -> SparseRows:
    try:
        array = np.asarray(X)
        if array.dtype.kind == "c":
            raise DataError("X: Complex data not supported")
        if array.dtype.kind not in "fiub":
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        text = "X is no table of numbers; give a SciPy matrix, an array of shape (n_samples, n_features), or SparseRows"
        if isinstance(error, TypeError):
            raise TypeError(f"{text}: {error}") from error  # as scikit-learn does
        raise DataError(f"{text} ({error})") from error
    if array.ndim != 2:
        raise DataError(
            f"X has {array.ndim} dimensions: expected 2D array, shape (n_samples, n_features). "
            "Reshape your data, X.reshape(1, -1) if it is one sample"
        )
    rows, columns = array.nonzero()
    data = _as_float32(array[rows, columns], "X")
    indptr = np.searchsorted(rows, np.arange(len(array) + 1)).astype(np.int64)
    return SparseRows(indptr, columns.astype(np.int32), data, array.shape[1])


def _as_float32(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        _refuse_infinite(values, name)
    with np.errstate(over="ignore"):
        data = values.astype(np.float32)
    if not np.isfinite(data).all():
        raise DataError(f"{name} holds a value too large for float32; rescale the data")
    return data


def _refuse_infinite(values: np.ndarray, name: str) -> None:
    kind = "NaN" if np.isnan(values).any() else "infinity"
    raise DataError(f"Input {name} contains {kind}, which is not finite; remove or replace it")


def check_sizes(features: SparseRows) -> None:
    """Raise DataError where there is nothing to learn from."""
    for n, what in zip(features.shape, ("sample", "feature"), strict=True):
        if n == 0:
            few = "there are no samples" if what == "sample" else "there are no features"
            raise DataError(
                f"{few}: Found array with 0 {what}(s) (shape={features.shape}) while a minimum of 1 is required."
            )


class Labels(NamedTuple):
    """Labels of samples, and what is needed to give answers in the same words.

    Attributes
    ----------
    rows : SparseRows, shape (n_samples, n_labels)
    classes : ndarray, shape (n_labels,)
        What stands for each label in Y.
    kind : str
        The form of Y, one of `KINDS`.
    """

    rows: SparseRows
    classes: np.ndarray
    kind: str

    @property
    def per_sample(self) -> float:
        """Mean number of labels of the samples that have any."""
        return self.rows.nnz / max(int((np.diff(self.rows.indptr) > 0).sum()), 1)


def as_labels(Y: Any, classes: np.ndarray | None = None) -> Labels:
    """Labels as canonical rows without values.

    Parameters
    ----------
    Y : sequence of class labels or of lists of them, indicator (SciPy matrix, array of 0 and 1), or SparseRows
        In lists, whole numbers are label ids: there are as many labels as the largest says.
    classes : ndarray, optional
        The classes there are; whatever else Y holds is dropped. By default those in Y.

    Raises
    ------
    DataError
        If Y is something else, or an id is negative.
    """
    if Y is None:
        raise DataError("requires y to be passed, but the target y is None")
    if isinstance(Y, SparseRows):
        return _indicator(Y, classes, "rows")
    if is_sparse(Y):
        return _indicator(_rows_of_sparse(Y, "Y"), classes, "sparse indicator")
    if hasattr(Y, "__array__") or not _holds_lists(Y):
        array = np.asarray(Y)
        if array.ndim == 2 and array.shape[1] != 1:
            if not np.isin(array, (0, 1)).all():
                raise DataError("Unknown label type: a table of Y holds something else than 0 and 1; give lists of ids")
            row_of, columns = array.nonzero()
            indptr = np.searchsorted(row_of, np.arange(len(array) + 1)).astype(np.int64)
            rows = SparseRows(indptr, columns.astype(np.int32), None, array.shape[1])
            return _indicator(rows, classes, "indicator")
        return _one_a_sample(array, classes)
    return _lists(Y, classes)


def _holds_lists(Y: Any) -> bool:
    return len(Y) > 0 and all(isinstance(item, (list, tuple, set, frozenset, np.ndarray)) for item in Y)


def _indicator(rows: SparseRows, classes: np.ndarray | None, kind: str) -> Labels:
    rows.check("Y")
    rows = rows.canonical()
    known = np.arange(rows.n_columns) if classes is None else classes
    if rows.n_columns > len(known):
        raise DataError(f"Y has {rows.n_columns} labels, but the model has {len(known)}")
    return Labels(SparseRows(rows.indptr, rows.indices, None, len(known)), known, kind)


def _one_a_sample(array: np.ndarray, classes: np.ndarray | None) -> Labels:
    if array.ndim not in (1, 2):
        raise DataError(f"y should be a 1d array, got an array of shape {array.shape} instead; bad input shape")
    if array.ndim == 2:
        _warn_of_column()
    array = array.ravel()
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            _refuse_infinite(array, "y")
        if (array != np.floor(array)).any():
            raise DataError("Unknown label type: continuous. y holds fractions; give class labels")
    if array.dtype == object and any(item is None or item != item for item in array):
        raise DataError("Input y contains NaN or None; remove or replace it")
    if classes is None:
        classes, places = np.unique(array, return_inverse=True)
        return Labels(_rows_of_ids(places, len(classes)), classes, "classes")
    return Labels(_rows_of_ids(places_in(array, classes), len(classes)), classes, "classes")


def _warn_of_column() -> None:
    try:
        from sklearn.exceptions import DataConversionWarning as Category
    except ImportError:
        Category = UserWarning
    text = "A column-vector y was passed when a 1d array was expected; change the shape of y to (n_samples,)"
    warnings.warn(text, Category, stacklevel=4)


def places_in(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Where each value stands among the classes, in whatever order they are; -1 where it does not.

    Raises
    ------
    DataError
        If a value stands there more than once.
    """
    if not len(values) or not len(classes):
        return np.full(len(values), -1)
    asked, which = np.unique(values, return_inverse=True)
    at = np.minimum(np.searchsorted(asked, classes), len(asked) - 1)
    found = np.flatnonzero(asked[at] == classes)
    places = np.full(len(asked), -1)
    places[at[found]] = found
    twice = found[places[at[found]] != found]
    if len(twice):
        first, last = int(twice[0]), int(places[at[twice[0]]])
        text = f"{classes[first].item()!r} is the name of more than one label: {first} and {last}"
        raise DataError(f"{text}; give labels as an indicator, or train with a name of its own for each")
    return places[which]


def _rows_of_ids(ids: np.ndarray, n_labels: int) -> SparseRows:
    """One id a row, none where it is -1."""
    indptr = np.concatenate([[0], np.cumsum(ids >= 0)])
    return SparseRows(indptr, ids[ids >= 0].astype(np.int32), None, n_labels)


def _lists(Y: Any, classes: np.ndarray | None) -> Labels:
    lists = [list(item) for item in Y]
    flat = np.asarray([label for item in lists for label in item])
    if flat.ndim != 1 or flat.dtype.kind not in "iuUSO" or (flat.size and flat.dtype == object):
        if flat.size:
            raise DataError("Y holds lists of something else than label ids or names")
        flat = flat.astype(np.int64)
    if flat.dtype.kind in "iu" or not flat.size:
        if flat.size and flat.min() < 0:
            raise DataError("a label id lies outside 0..; ids count from 0")
        n_labels = (int(flat.max()) + 1 if flat.size else 0) if classes is None else len(classes)
        known = np.arange(n_labels) if classes is None else classes
    else:
        known = np.unique(flat) if classes is None else classes
    places = places_in(flat, known) if len(known) else np.full(len(flat), -1)
    ends = np.cumsum([len(item) for item in lists], dtype=np.int64)
    kept = np.split(places, ends[:-1])
    return Labels(rows_from_lists([part[part >= 0].tolist() for part in kept], len(known)), known, "lists")


def as_dataset(
    X: Any, Y: Any, classes: np.ndarray | None = None, n_features: int | None = None
) -> tuple[SparseRows, Labels]:
    """Samples and labels; where X is a path the file has both, and labels given go over its own.

    Where that file names no sizes, features beyond `n_features` are left out, with a warning.
    """
    if not is_path(X):
        return as_features(X), as_labels(Y, classes)
    data = _read(X, n_features)
    return data.features, as_labels(data.labels if Y is None else Y, classes)


def as_held_out(eval_set: Any, classes: np.ndarray, n_features: int) -> Dataset:
    """Samples to evaluate a network on: (X, y), or a path."""
    X, y = (eval_set, None) if is_path(eval_set) else eval_set
    features, labels = as_dataset(X, y, classes, n_features)
    return Dataset(features, labels.rows)


def as_samples(X: Any, n_features: int) -> SparseRows:
    """Samples to ask a network of so many features about; labels are passed over where X is a path."""
    return _read(X, n_features).features if is_path(X) else as_features(X)


def _read(path: str | Path, n_features: int | None) -> Dataset:
    data = read_dataset(path)
    if n_features is None or data.features.n_columns <= n_features or not names_no_sizes(path):
        return data
    known = with_columns(data.features, n_features)
    n_values = data.features.nnz - known.nnz
    warnings.warn(f"{path}: {n_values} values of features that were not there in training are left out", stacklevel=4)
    return Dataset(known, data.labels)


def as_weights(sample_weight: Any, n_samples: int) -> np.ndarray | None:
    """Weights of samples in float64; None where all are the same (S10).

    Raises
    ------
    DataError
        If there is not one weight a sample, or one is negative or not finite, or all are 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n_samples, weights)
    if weights.ndim != 1:
        raise DataError("Sample weights must be 1D array or scalar")
    if len(weights) != n_samples:
        raise DataError(f"sample_weight.shape == {weights.shape}, expected ({n_samples},)!")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise DataError("sample_weight holds a value that is negative or not finite; give numbers of 0 or more")
    if not weights.any():
        raise DataError("the weight is zero for every sample in sample_weight; there is nothing to learn from")
    return None if (weights == weights[0]).all() else weights
