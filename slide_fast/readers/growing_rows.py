"""Sparse rows that can grow."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from slide_ref.common.sparse_rows import SparseRows


class GrowingArray:
    """An array that can be extended. Growing remaps pages instead of copying if the system supports it (Linux)."""

    def __init__(self, dtype: type):
        self._array: np.ndarray = np.empty(0, dtype)
        self._size = 0

    def extend(self, part: np.ndarray) -> None:
        end = self._size + len(part)
        if end > len(self._array):
            self._array.resize(end + end // 8, refcheck=False)
        self._array[self._size : end] = part
        self._size = end

    def finish(self) -> np.ndarray:
        self._array.resize(self._size, refcheck=False)
        return self._array


class GrowingRows:
    """Sparse rows that more rows can be appended to."""

    def __init__(self, n_columns: int, has_values: bool):
        self.n_rows, self._nnz, self._n_columns = 0, 0, n_columns
        self._indptr, self._indices = GrowingArray(np.int64), GrowingArray(np.int32)
        self._data = GrowingArray(np.float32) if has_values else None
        self._indptr.extend(np.zeros(1, dtype=np.int64))

    def extend(self, rows: SparseRows) -> None:
        self._indptr.extend(rows.indptr[1:] + self._nnz)
        self._indices.extend(rows.indices)
        if self._data is not None and rows.data is not None:
            self._data.extend(rows.data)
        self.n_rows, self._nnz = self.n_rows + rows.n_rows, self._nnz + rows.nnz

    def finish(self) -> SparseRows:
        data = None if self._data is None else self._data.finish()
        return SparseRows(self._indptr.finish(), self._indices.finish(), data, self._n_columns)


def joined(parts: Iterable[SparseRows], n_columns: int, has_values: bool = True) -> SparseRows:
    """Concatenate rows vertically."""
    rows = GrowingRows(n_columns, has_values)
    for part in parts:
        rows.extend(part)
    return rows.finish()
