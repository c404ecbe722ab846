"""Conversion of the user's samples (matrices, arrays, tables) to checked rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.xmc_lines import COUNT_LIMIT

from .label_coding import is_missing, row_in, shown


def is_sparse(X: Any) -> bool:
    """Tell whether X is a SciPy sparse matrix or array."""
    return hasattr(X, "tocsr") and hasattr(X, "nnz")


def as_features(X: Any) -> SparseRows:
    """Convert samples to checked, canonical rows.

    Parameters
    ----------
    X : SparseRows, SciPy matrix or array of any sparse format, or array of numbers, shape (n_samples, n_features)

    Raises
    ------
    DataError
        If X is something else, or its arrays do not fit together, or a value is not finite.
    """
    if not isinstance(X, SparseRows):
        X = rows_of_sparse(X, "X") if is_sparse(X) else _rows_of_dense(X)
    X.check("X")
    return X.canonical()


def rows_of_sparse(X: Any, name: str) -> SparseRows:
    """Convert a SciPy matrix or array, of features or of labels. Raises DataError."""
    _check_table(X, name)
    if X.shape[1] >= COUNT_LIMIT:
        raise DataError(f"{name} has {X.shape[1]} columns, but there may be fewer than 2**31")
    X = X.tocsr()
    if X.nnz and X.indices.dtype != np.int32:  # else `check` finds ids out of range
        for column in (X.indices.max(), X.indices.min()):
            if not 0 <= column < COUNT_LIMIT:
                raise DataError(f"{name}: it stores a value in column {column} of {X.shape[1]}; make the matrix again")
    data = _as_float32(X.data, name, row_in(X.indptr))
    return SparseRows(X.indptr.astype(np.int64), X.indices.astype(np.int32), data, X.shape[1])


def _rows_of_dense(X: Any) -> SparseRows:
    if np.ma.is_masked(X):
        raise DataError("X has masked values, which are missing; fill them, X.filled(0), or remove the samples")
    try:
        array = np.asarray(X)
        if array.dtype.kind in "mM":
            raise TypeError(f"it is of dtype {array.dtype}, not numbers")
        if array.dtype.kind not in "fiubc":
            array = _as_float64(array)
    except DataError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        forms = "a SciPy matrix, an array of shape (n_samples, n_features), or SparseRows"
        text = f"X is no table of numbers; give {forms}; for texts there is SlideTextClassifier"
        if isinstance(error, TypeError):
            raise TypeError(f"{text}: {error}") from error  # as scikit-learn does
        raise DataError(f"{text} ({error})") from error
    _check_table(array, "X")
    rows, columns = array.nonzero()
    data = _as_float32(array[rows, columns], "X", rows.__getitem__)
    indptr = np.searchsorted(rows, np.arange(len(array) + 1)).astype(np.int64)
    return SparseRows(indptr, columns.astype(np.int32), data, array.shape[1])


def _as_float64(array: np.ndarray) -> np.ndarray:
    """Convert objects, str or bytes to numbers. Raises DataError for pandas' NA, as for NaN."""
    try:
        return array.astype(np.float64)
    except TypeError:
        for row, values in enumerate(array.tolist()):
            if isinstance(values, list) and any(map(is_missing, values)):
                raise DataError(f"X, row {row}: {_not_finite('X', 'NaN')}") from None
        raise


def _check_table(X: Any, name: str) -> None:
    """Raise DataError if numbers are complex, or do not have two dimensions."""
    if X.dtype.kind == "c":
        raise DataError(f"{name}: Complex data not supported")
    if X.ndim != 2:
        shape = f"expected 2D array, shape (n_samples, n_{'features' if name == 'X' else 'labels'})"
        advice = f"Reshape your data, {name}.reshape(1, -1) if it is one sample"
        raise DataError(f"{name} has {X.ndim} dimensions: {shape}. {advice}")


def _as_float32(values: np.ndarray, name: str, row_of: Callable[[int], int]) -> np.ndarray:
    with np.errstate(over="ignore"):
        data = values.astype(np.float32)
    is_finite = np.isfinite(data)
    if not is_finite.all():
        i = int(np.argmin(is_finite))
        if values.dtype.kind == "f" and not np.isfinite(values[i]):
            text = _not_finite(name, "NaN" if np.isnan(values[i]) else "infinity")
        else:
            text = f"{shown(values[i])} is too large for float32; rescale the data"
        raise DataError(f"{name}, row {row_of(i)}: {text}")
    return data


def _not_finite(name: str, kind: str) -> str:
    return f"Input {name} contains {kind}, which is not finite; remove or replace it"


def check_sizes(features: SparseRows) -> None:
    """Raise DataError if there are no samples or no features."""
    for n, what in zip(features.shape, ("sample", "feature"), strict=True):
        if n == 0:
            found = f"Found array with 0 {what}(s) (shape={features.shape}) while a minimum of 1 is required."
            raise DataError(f"there are no {what}s: {found}")
