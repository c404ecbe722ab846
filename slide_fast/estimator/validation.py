"""Conversion of the user's samples and labels (matrices, arrays, lists, paths) to checked rows."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.xmc_lines import COUNT_LIMIT

from ..data import names_no_sizes, read_dataset, without_unknown_features
from ..parallel.machine import require_memory
from ..parallel.units import numbered
from .feature_coding import as_features, is_sparse, rows_of_sparse
from .label_coding import (
    Values,
    classes_and_places,
    is_missing,
    is_row,
    places_in,
    refuse_missing,
    row_in,
    rows_of_places,
    shown,
    values_of_array,
    values_of_items,
)

KINDS = ("classes", "lists", "indicator", "sparse indicator", "rows")
BYTES_PER_LABEL = 32  # at least: class, count, a weight and a bias, and their moments


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package or scikit-learn."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("slide_fast", "sklearn"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def is_path(X: Any) -> bool:
    """Tell whether X is a path."""
    return isinstance(X, (str, Path))


class Labels(NamedTuple):
    """Labels of samples, and what is needed to return predictions in the same form.

    Attributes
    ----------
    rows : SparseRows, shape (n_samples, n_labels)
    classes : ndarray, shape (n_labels,)
        The value of each label in Y.
    kind : str
        The form of Y, one of `KINDS`.
    """

    rows: SparseRows
    classes: np.ndarray
    kind: str

    @property
    def per_sample(self) -> float:
        """Mean number of labels of samples that have any."""
        return self.rows.nnz / max(int((np.diff(self.rows.indptr) > 0).sum()), 1)


def as_labels(Y: Any, classes: np.ndarray | None = None, drop_unknown: bool = False, name: str = "y") -> Labels:
    """Convert labels to canonical rows without values.

    Equivalent indicator matrices (dense or sparse) and lists of ids train the same network, if the number of labels is
    the same: an indicator has one label per column, lists of ids have the largest id plus one.

    A list of rows that all have the same length, hold only 0 and 1, and repeat one of them in a row, is taken as lists
    of ids, with a warning: most likely it is an indicator, since lists of ids need no repetition.

    Parameters
    ----------
    Y : sequence of class labels or of lists of them, indicator (SciPy matrix, array of 0 and 1), or SparseRows
        Class labels are all of one type: whole numbers, floats without fractions, bool, str, bytes, datetime64,
        timedelta64. Lists may also be tuples, sets, arrays or Series, in a list, an array of objects or a Series; they
        hold whole numbers, which are label ids, or str, bytes, datetime64 or timedelta64.
    classes : ndarray, optional
        The known classes. Default: those in Y.
    drop_unknown : bool
        Leave out labels that are not classes instead of raising an error.
    name : str
        Name of Y in messages.

    Raises
    ------
    DataError
        If Y is something else, a label is missing, an id is negative or too large, or a label is not a class.
    MemoryError
        If the machine does not have enough memory left for so many labels.
    """
    if Y is None:
        raise DataError("requires y to be passed, but the target y is None")
    if isinstance(Y, SparseRows):
        return _indicator(Y, classes, "rows", name)
    if is_sparse(Y):
        rows = rows_of_sparse(Y, name)
        if Y.format == "coo" and np.isin(Y.data, (0, 1)).all():  # a label that is there twice has become a 2
            rows = rows_of_sparse(Y.tocsr().astype(bool), name)
        return _indicator(rows, classes, "sparse indicator", name)
    items: list | np.ndarray
    is_plain = isinstance(Y, Sequence) and not hasattr(Y, "__array__") and not isinstance(Y, (str, bytes))
    if is_plain:
        items = list(Y)
    else:
        array = Y if np.ma.is_masked(Y) else np.asarray(Y)
        if array.ndim == 2 and array.shape[1] != 1:
            return _indicator(_rows_of_table(array, name), classes, "indicator", name)
        array = _column(array, name)
        items = array.tolist() if array.dtype == object or np.ma.is_masked(array) else array
    if isinstance(items, np.ndarray):
        values = values_of_array(items, name)
    elif any(map(is_row, set(map(type, items)))):
        return _lists(items, classes, drop_unknown, name)
    else:
        values = values_of_items(items, name, objects=not is_plain)
    if classes is None:
        classes, places = classes_and_places(values)
    else:
        places = places_in(values, classes, name, drop_unknown=drop_unknown)
    return Labels(rows_of_places(places, np.arange(len(places) + 1), len(classes)), classes, "classes")


def as_classes(classes: Any) -> np.ndarray:
    """Return the distinct values of a sequence of class labels, ascending. Raises DataError like `as_labels`."""
    labels = as_labels(classes, name="classes")
    if labels.kind != "classes":
        raise DataError("classes holds lists or is a table; give a sequence of labels, range(n_labels) for label ids")
    if not len(labels.classes):
        raise DataError("classes is empty; name all labels that will ever occur, or leave it out to take those in y")
    return labels.classes


def _check_number(n_labels: int, place: str) -> None:
    """Raise DataError or MemoryError if a network cannot have `n_labels` labels."""
    if n_labels >= COUNT_LIMIT:
        raise DataError(f"{place} {n_labels} labels, but the maximum is 2**31 - 1; number them from 0, or give str")
    what = f"{place} {n_labels} labels, which take at least"
    require_memory(n_labels * BYTES_PER_LABEL, what, "number the labels from 0, or give str")


def _indicator(rows: SparseRows, classes: np.ndarray | None, kind: str, name: str) -> Labels:
    rows.check(name)
    rows = rows.indicator(name)
    if classes is None:
        _check_number(rows.n_columns, f"{name} has")
    known = np.arange(rows.n_columns) if classes is None else classes
    if rows.n_columns > len(known):
        raise DataError(f"{name} has {rows.n_columns} labels, but the model has {len(known)}")
    return Labels(SparseRows(rows.indptr, rows.indices, None, len(known)), known, kind)


def _rows_of_table(array: np.ndarray, name: str) -> SparseRows:
    if array.dtype == object or np.ma.is_masked(array):
        flat = [item for row in array.tolist() for item in row]
        missing = next((i for i, item in enumerate(flat) if is_missing(item)), None)
        if missing is not None:
            refuse_missing(name, missing // array.shape[1])
    is_number = array.dtype.kind in "biufO"
    wrong = ~np.isin(array, (0, 1)) if is_number else np.ones(array.shape, dtype=bool)
    if wrong.any():
        row = np.argmax(wrong.any(axis=1))
        raise DataError(
            f"{name}, row {row}: {shown(array[row, np.argmax(wrong[row])])}. Unknown label type: a table of {name} "
            "contains values other than 0 and 1; give lists of ids or names"
        )
    row_of, columns = array.nonzero()
    indptr = np.searchsorted(row_of, np.arange(len(array) + 1)).astype(np.int64)
    return SparseRows(indptr, columns.astype(np.int32), None, array.shape[1])


def _column(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 0:
        kind = type(array.item()).__name__
        raise DataError(f"{name} is of type {kind}, not a sequence of labels; give a list or an array")
    if array.ndim not in (1, 2):
        raise DataError(f"{name} should be a 1d array, got an array of shape {array.shape} instead; bad input shape")
    if array.ndim == 2:
        try:
            from sklearn.exceptions import DataConversionWarning as Category
        except ImportError:
            Category = UserWarning
        text = f"A column-vector {name} was passed when a 1d array was expected; change its shape to (n_samples,)"
        warn(text, Category)
    return array.ravel()


def _lists(Y: list, classes: np.ndarray | None, drop_unknown: bool, name: str) -> Labels:
    lists = [item if type(item) is list else _list_of(item, f"{name}, row {i}") for i, item in enumerate(Y)]
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    row_of = row_in(indptr)
    values = values_of_items(list(chain.from_iterable(lists)), name, row_of, kinds="iUSMm")
    are_ids = values.kind in "iu"
    if are_ids:
        _check_ids(values.items, lengths, classes is None, name, row_of)
    if classes is not None:
        places = places_in(values, classes, name, row_of, drop_unknown)
    elif are_ids:
        places, classes = values.items, np.arange(int(max(values.items, default=-1)) + 1)
    else:
        classes, places = classes_and_places(values)
    return Labels(rows_of_places(places, indptr, len(classes)), classes, "lists")


def _list_of(item: Any, place: str) -> list:
    """List the labels of a sample, as Python values if possible."""
    if is_missing(item):
        raise DataError(f"{place}: the labels are missing; give [] for a sample that has none")
    if not is_row(type(item)) or (isinstance(item, np.ndarray) and item.ndim != 1):
        raise DataError(
            f"{place}: {shown(item)} is not a list of labels, unlike other rows; give [label] for a single one"
        )
    return item.tolist() if isinstance(item, np.ndarray) and item.dtype.kind not in "Mm" else list(item)


def _check_ids(ids: Any, lengths: np.ndarray, make_labels: bool, name: str, row_of: Callable[[int], int]) -> None:
    """Raise DataError for invalid label ids before allocating memory; warn if they look like an indicator."""
    if not len(ids):
        return
    ids = ids if isinstance(ids, np.ndarray) else np.array(ids, dtype=object)
    lowest, largest = int(ids.argmin()), int(ids.argmax())
    if ids[lowest] < 0:
        raise DataError(f"{name}, row {row_of(lowest)}: label id {ids[lowest]} is negative; ids count from 0")
    if make_labels:
        place = f"{name}, row {row_of(largest)}: label id {ids[largest]}"
        _check_number(int(ids[largest]) + 1, f"{place} would make a network of")
    length = int(lengths[0])
    if ids[largest] <= 1 and length > 1 and (lengths == length).all():
        table = ids.reshape(-1, length)
        if length > 2 or (table[:, 0] == table[:, 1]).any():
            warn(
                f"{name}: each row holds {length} numbers, all 0 or 1. They are taken as label ids; if each row is an "
                f"indicator, give np.array({name}), else repeat no id within a row"
            )


class Known(NamedTuple):
    """What a trained network expects: its classes, the form of y, which is one of `KINDS`, and its features."""

    classes: np.ndarray
    kind: str
    n_features: int | None

    def of_file(self, labels: SparseRows, path: Any, name: str, drop_unknown: bool = False) -> SparseRows:
        """Return a file's labels as columns.

        In svmlight text, which names no sizes, they are class labels, if y had class labels that are numbers. Other
        formats have columns.
        """
        if not names_no_sizes(path):
            return labels
        are_values = self.kind in ("classes", "lists") and self.classes.dtype.kind in "iuf"
        values = self.classes if are_values else np.arange(len(self.classes))
        if labels.n_columns <= len(values) and np.array_equal(values, np.arange(len(values))):
            return labels
        numbers = Values(labels.indices.astype(np.int64), None)
        places = places_in(numbers, values, name, row_in(labels.indptr), drop_unknown)
        return rows_of_places(places, labels.indptr, len(values))


def as_dataset(X: Any, Y: Any, known: Known | None = None, name: str = "y") -> tuple[SparseRows, Labels]:
    """Convert samples and labels; if X is a path, the file has both, and Y, if given, replaces its labels.

    If that file names no sizes, unknown features are left out, with a warning. Messages call Y `name`.
    """
    classes = None if known is None else known.classes
    if is_path(X):
        data = _read(X, None if known is None else known.n_features)
        features = data.features
        if Y is None:
            Y = data.labels if known is None else known.of_file(data.labels, X, name)
    else:
        features = as_features(X)
    labels = as_labels(Y, classes, name=name)
    if features.n_rows != labels.rows.n_rows:
        raise DataError(
            f"X has {numbered(features.n_rows, 'sample')}, but {name} has {labels.rows.n_rows}; give as many of both"
        )
    return features, labels


def as_truths(X: Any, y: Any, known: Known) -> SparseRows:
    """Convert true labels to compare predictions with; unknown ones are left out. If y is None, read the file X."""
    if y is None and is_path(X):
        y = known.of_file(read_dataset(X).labels, X, "y", drop_unknown=True)
    rows = as_labels(y, known.classes, drop_unknown=True).rows
    if rows.n_rows and not rows.nnz:
        warn("y has no label that was there in training, so no prediction can be right")
    return rows


def as_samples(X: Any, n_features: int) -> SparseRows:
    """Convert samples to predict with a network of `n_features`; a file's labels are ignored."""
    return _read(X, n_features).features if is_path(X) else as_features(X)


def _read(path: str | Path, n_features: int | None) -> Dataset:
    data = read_dataset(path)
    if n_features is not None:
        data, n_left_out = without_unknown_features(data, n_features, path)
        if n_left_out:
            what = f"left out {numbered(n_left_out, 'value')} of features that were not there in training"
            warn(f"{path}: {what}")
    return data


def numbers_in(values: Any, name: str) -> np.ndarray:
    """Convert weights to an array of float64. Raises DataError if one is no number."""
    try:
        given = np.asarray(values)
        if given.dtype.kind in "cmM":
            raise TypeError(f"dtype {given.dtype}")
        if given.dtype == object and given.ndim == 1:
            given = np.array([np.nan if is_missing(item) else item for item in given], dtype=object)
        return given.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} holds something other than numbers ({error})") from error


def require_weights(weights: np.ndarray, name: str, place_of: Callable[[int], str]) -> None:
    """Raise DataError, at the place of the first, if weights are negative or not finite."""
    fits = np.isfinite(weights) & (weights >= 0)
    if not fits.all():
        i = int(np.argmin(fits))
        raise DataError(f"{name}, {place_of(i)}: {shown(weights[i])} is negative or not finite; give numbers >= 0")


def as_weights(sample_weight: Any, n_samples: int) -> np.ndarray | None:
    """Convert sample weights to float64; None if all are equal (S10).

    Raises
    ------
    DataError
        If there is not one weight per sample, or one is negative or not finite, or all are 0.
    """
    if sample_weight is None:
        return None
    if np.ma.is_masked(sample_weight):
        raise DataError("sample_weight has masked values, which are missing; fill them")
    weights = numbers_in(sample_weight, "sample_weight")
    if weights.ndim == 0:
        weights = np.full(n_samples, weights)
    if weights.ndim != 1:
        raise DataError("Sample weights must be 1D array or scalar")
    if len(weights) != n_samples:
        raise DataError(f"sample_weight.shape == {weights.shape}, expected ({n_samples},)!")
    require_weights(weights, "sample_weight", lambda i: f"row {i}")
    if weights.max(initial=0) > np.finfo(np.float64).max / max(n_samples, 1):
        raise DataError("the sum of sample_weight is too large; scale the weights down")
    if not weights.any():
        raise DataError("the weight is zero for every sample in sample_weight; give some of them more than 0")
    return None if (weights == weights[0]).all() else weights
