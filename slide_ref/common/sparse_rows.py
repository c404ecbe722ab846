"""Sparse rows (CSR), which hold samples and labels from file to network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import DataError

TOO_LARGE = 2.0**128 - 2.0**103
"""Values from here on are rounded to infinity in float32."""


@dataclass(frozen=True)
class SparseRows:
    """Compressed sparse rows (CSR).

    In canonical form (see `canonical`) ids are ascending and distinct within a row, and no zeros are stored.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
        Row i is ``indices[indptr[i]:indptr[i + 1]]``.
    indices : ndarray of int32, shape (nnz,)
        Column ids in [0, n_columns).
    data : ndarray of float32, shape (nnz,), or None
        Values; None means that every stored value is 1, as for labels.
    n_columns : int

    Examples
    --------
    Two rows of three columns, (1, 0, 0.5) and (0, 2, 0):

    >>> import numpy as np
    >>> from slide_ref.common.sparse_rows import SparseRows
    >>> values = np.array([1, 0.5, 2], dtype=np.float32)
    >>> rows = SparseRows(np.array([0, 2, 3]), np.array([0, 2, 1], dtype=np.int32), values, n_columns=3)
    >>> rows.shape, rows.nnz
    ((2, 3), 3)
    >>> ids, values = rows.row(0)
    >>> ids.tolist(), values.tolist()
    ([0, 2], [1.0, 0.5])
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray | None
    n_columns: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of stored values, in all rows."""
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and of columns."""
        return self.n_rows, self.n_columns

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.indptr.nbytes + self.indices.nbytes + (0 if self.data is None else self.data.nbytes)

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and values of row `i`."""
        ids = self.indices[self.indptr[i] : self.indptr[i + 1]]
        if self.data is None:
            return ids, np.ones(len(ids), dtype=np.float32)
        return ids, self.data[self.indptr[i] : self.indptr[i + 1]]

    def row_of(self) -> np.ndarray:
        """Return the row of each stored value: int64, shape (nnz,)."""
        return np.repeat(np.arange(self.n_rows), np.diff(self.indptr).astype(np.int64))  # repeat takes no uint64

    def where(self, kept: np.ndarray) -> SparseRows:
        """Return the rows with only those stored values that a mask, bool of shape (nnz,), marks."""
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr]
        return SparseRows(indptr, self.indices[kept], None if self.data is None else self.data[kept], self.n_columns)

    def take(self, rows: np.ndarray) -> SparseRows:
        """Return some rows as new arrays.

        Parameters
        ----------
        rows : ndarray of int, shape (n,), or of bool, shape (n_rows,)
            Row numbers in the order wanted, also repeated; or a mask.

        Raises
        ------
        DataError
            If a number is outside [0, n_rows), or `rows` is neither of the two.
        """
        rows = np.asarray(rows)
        if rows.dtype == np.bool_ and rows.shape == (self.n_rows,):
            rows = np.flatnonzero(rows)
        are_numbers = rows.ndim == 1 and (not rows.size or rows.dtype.kind in "iu")
        if not are_numbers or (rows.size and (rows.min() < 0 or rows.max() >= self.n_rows)):
            raise DataError(f"rows to take: give whole numbers from 0 to {self.n_rows - 1}, or a mask of all rows")
        rows = rows.astype(np.int64, copy=False)
        starts, ends = (self.indptr[rows + next].astype(np.int64, "K", "same_kind", copy=False) for next in (0, 1))
        indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(ends - starts, out=indptr[1:])
        source = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], ends - starts)
        data = None if self.data is None else self.data[source]
        return SparseRows(indptr, self.indices[source], data, self.n_columns)

    def canonical(self) -> SparseRows:
        """Return rows with sorted ids, duplicates summed in float64 and rounded once, zeros dropped (S17).

        Arrays that need no change are not copied. Before this call values may be float64 and ids of any integer type.

        Raises
        ------
        DataError
            If an id is out of range, or a sum is too large for float32.
        """
        self._check_ids("rows")
        indptr, indices, values = self.indptr.astype(np.int64, copy=False), self.indices, self.data
        if not self._is_ascending():
            keys, inverse = np.unique(self.row_of() * np.int64(self.n_columns) + indices, return_inverse=True)
            row_of, indices = np.divmod(keys, np.int64(self.n_columns))
            indptr = np.searchsorted(row_of, np.arange(self.n_rows + 1))
            values = None if values is None else np.bincount(inverse, weights=values)
        if values is not None and values.dtype != np.float32:
            if values.dtype.itemsize > 4 and np.any(np.abs(values) >= TOO_LARGE):  # none is, and the limit overflows
                raise DataError("a value, or the sum of an id's values in one row, is too large for float32; rescale")
            values = values.astype(np.float32)
        rows = SparseRows(indptr, indices.astype(np.int32, copy=False), values, self.n_columns)
        return rows if values is None or values.all() else rows.where(values != 0)

    def indicator(self, what: str) -> SparseRows:
        """Return canonical rows without values: the ids that are stored with a 1.

        Raises
        ------
        DataError
            If a stored value is neither 0 nor 1.
        """
        if self.data is not None and not (values_fit := np.isin(self.data, (0, 1))).all():
            at = int(np.argmin(values_fit))
            row = int(np.searchsorted(self.indptr, at, "right")) - 1
            raise DataError(f"{what}, row {row}: {self.data[at]:.6g}. Unknown label type: a table of labels "
                            "contains values other than 0 and 1; store a 1 for each label of a sample")  # fmt: skip
        self._check_ids(what)
        rows = self.canonical()
        return SparseRows(rows.indptr, rows.indices, None, self.n_columns)

    def is_canonical(self) -> bool:
        """Tell whether ids ascend in each row, values, if any, are float32, and int64 holds `indptr`.

        A zero may be stored.
        """
        has_types = np.can_cast(self.indptr.dtype, np.int64) and (self.data is None or self.data.dtype == np.float32)
        return has_types and self._is_ascending()

    def _is_ascending(self) -> bool:
        ascending = self.indices[1:] > self.indices[:-1]
        starts = self.indptr[1:-1]
        ascending[starts[(starts > 0) & (starts < self.nnz)] - 1] = True
        return bool(ascending.all())

    def check(self, what: str) -> None:
        """Raise DataError unless the arrays are consistent, ids are in range and values are finite."""
        indptr = self.indptr
        if not all(isinstance(array, np.ndarray) for array in (indptr, self.indices, self.data) if array is not None):
            raise DataError(f"{what}: indptr, indices and data must be arrays of NumPy")
        for array, kinds in ((indptr, "iu"), (self.indices, "iu"), (self.data, "fiub")):
            if array is not None and (array.ndim != 1 or (array.size and array.dtype.kind not in kinds)):
                raise DataError(f"{what}: indptr and indices must be one-dimensional arrays of whole numbers, "
                                "data one of numbers")  # fmt: skip
        if not isinstance(self.n_columns, (int, np.integer)):
            raise DataError(f"{what}: n_columns is {self.n_columns!r}; give a whole number")
        if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != self.nnz or np.any(indptr[1:] < indptr[:-1]):
            raise DataError(f"{what}: indptr does not describe rows of {self.nnz} stored values; rebuild the arrays")
        self._check_ids(what)
        if self.data is not None:
            if len(self.data) != self.nnz:
                raise DataError(f"{what}: {self.nnz} ids but {len(self.data)} values")
            if not np.isfinite(self.data).all():
                row = int(np.searchsorted(indptr, np.argmin(np.isfinite(self.data)), "right"))
                raise DataError(f"{what}: row {row - 1} contains a value that is not finite; remove or replace it")

    def _check_ids(self, what: str) -> None:
        if self.nnz and (self.indices.min() < 0 or self.indices.max() >= self.n_columns):
            outside = (self.indices < 0) | (self.indices >= self.n_columns)
            row = int(np.searchsorted(self.indptr, np.argmax(outside), "right"))
            raise DataError(f"{what}: row {row - 1} contains an id outside 0..{self.n_columns - 1}")


class Dataset(NamedTuple):
    """Samples and their labels, row by row.

    Attributes
    ----------
    features : SparseRows, shape (n_samples, n_features)
    labels : SparseRows without data, shape (n_samples, n_labels)
    """

    features: SparseRows
    labels: SparseRows

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self.features.n_rows

    def take(self, rows: np.ndarray) -> Dataset:
        """Return the given samples, in the given order; arguments and errors are those of `SparseRows.take`."""
        return Dataset(self.features.take(rows), self.labels.take(rows))


def check_is_dataset(name: str, data: object) -> None:
    """Raise DataError unless something is a data set of sparse rows."""
    if not isinstance(data, Dataset):
        raise DataError(f"{name}: of type {type(data).__name__}; give a Dataset of features and labels")
    if not all(isinstance(part, SparseRows) for part in data):
        raise DataError(f"{name}: features and labels must be SparseRows")


def rows_from_lists(lists: list[list[int]], n_columns: int) -> SparseRows:
    """Make canonical rows of ids without values, one from each list. Raises DataError if an id is out of range."""
    lengths = np.fromiter((len(ids) for ids in lists), dtype=np.int64, count=len(lists))
    indices = np.fromiter((i for ids in lists for i in ids), dtype=np.int64, count=int(lengths.sum()))
    if len(indices) and (indices.min() < 0 or indices.max() >= n_columns):
        raise DataError(f"a label id lies outside 0..{n_columns - 1}")
    return SparseRows(np.concatenate([[0], np.cumsum(lengths)]), indices.astype(np.int32), None, n_columns).canonical()
