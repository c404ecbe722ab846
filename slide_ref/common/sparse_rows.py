"""Sparse rows (CSR): the form in which samples and labels travel from a file to the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import DataError


@dataclass(frozen=True)
class SparseRows:
    """Rows of sparse values, compressed.

    The canonical form (`canonical`): ids ascending and distinct within a row, no stored zeros.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
        Row i is ``indices[indptr[i]:indptr[i + 1]]``.
    indices : ndarray of int32, shape (nnz,)
        Column ids in [0, n_columns).
    data : ndarray of float32, shape (nnz,), or None
        Values; None means that every stored value is 1 (labels are kept so).
    n_columns : int
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray | None
    n_columns: int

    @property
    def n_rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.n_columns

    @property
    def nbytes(self) -> int:
        return self.indptr.nbytes + self.indices.nbytes + (0 if self.data is None else self.data.nbytes)

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and values of row `i`."""
        ids = self.indices[self.indptr[i] : self.indptr[i + 1]]
        if self.data is None:
            return ids, np.ones(len(ids), dtype=np.float32)
        return ids, self.data[self.indptr[i] : self.indptr[i + 1]]

    def take(self, rows: np.ndarray) -> SparseRows:
        """The given rows, in the given order, as new arrays."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=indptr[1:])
        source = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        data = None if self.data is None else self.data[source]
        return SparseRows(indptr, self.indices[source], data, self.n_columns)

    def canonical(self) -> SparseRows:
        """Ids ascending, values of the same id summed in float64 and rounded once, zeros dropped (S17)."""
        row_of = np.repeat(np.arange(self.n_rows), np.diff(self.indptr))
        keys = row_of * np.int64(max(self.n_columns, 1)) + self.indices
        if self.nnz and np.any(np.diff(keys) <= 0):
            keys, inverse = np.unique(keys, return_inverse=True)
        else:
            inverse = None
        values = self.data
        if values is not None and inverse is not None:
            values = np.bincount(inverse, weights=values, minlength=len(keys)).astype(np.float32)
        if values is not None and not values.all():
            keys, values = keys[values != 0], values[values != 0]
        row_of, indices = np.divmod(keys, np.int64(max(self.n_columns, 1)))
        indptr = np.zeros(self.n_rows + 1, dtype=np.int64)
        np.cumsum(np.bincount(row_of, minlength=self.n_rows), out=indptr[1:])
        return SparseRows(indptr, indices.astype(np.int32), values, self.n_columns)

    def check(self, what: str) -> None:
        """Raise DataError unless the arrays are consistent, ids are in range and values are finite."""
        indptr = self.indptr
        if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != self.nnz or np.any(np.diff(indptr) < 0):
            raise DataError(f"{what}: indptr does not describe rows of {self.nnz} stored values; rebuild the CSR arrays")
        if self.nnz and (self.indices.min() < 0 or self.indices.max() >= self.n_columns):
            row = int(np.searchsorted(indptr, np.argmax((self.indices < 0) | (self.indices >= self.n_columns)), "right"))
            raise DataError(f"{what}: row {row - 1} holds an id outside 0..{self.n_columns - 1}")
        if self.data is not None:
            if len(self.data) != self.nnz:
                raise DataError(f"{what}: {self.nnz} ids but {len(self.data)} values")
            if not np.isfinite(self.data).all():
                row = int(np.searchsorted(indptr, np.argmin(np.isfinite(self.data)), "right"))
                raise DataError(f"{what}: row {row - 1} holds a value that is not finite; remove or replace it")


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
        return self.features.n_rows

    def take(self, rows: np.ndarray) -> Dataset:
        """The given samples, in the given order."""
        return Dataset(self.features.take(rows), self.labels.take(rows))


def rows_from_lists(lists: list[list[int]], n_columns: int) -> SparseRows:
    """Rows of ids without values, from one list of ids a row, made canonical."""
    lengths = np.fromiter((len(ids) for ids in lists), dtype=np.int64, count=len(lists))
    indices = np.fromiter((i for ids in lists for i in ids), dtype=np.int64, count=int(lengths.sum()))
    if len(indices) and (indices.min() < 0 or indices.max() >= n_columns):
        raise DataError(f"a label id lies outside 0..{n_columns - 1}")
    return SparseRows(np.concatenate([[0], np.cumsum(lengths)]), indices.astype(np.int32), None, n_columns).canonical()
