"""Rows with as many columns as a model has, or as were found."""

from __future__ import annotations

import dataclasses

import numpy as np

from slide_ref.common.sparse_rows import SparseRows


def with_columns_found(rows: SparseRows) -> SparseRows:
    """Count one column more than the largest id of the rows."""
    return dataclasses.replace(rows, n_columns=int(rows.indices.max()) + 1 if rows.nnz else 0)


def with_columns(rows: SparseRows, n_columns: int) -> SparseRows:
    """Return rows of so many columns; what lies beyond them is left out."""
    kept = rows.indices < n_columns
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return SparseRows(indptr, rows.indices[kept], None if rows.data is None else rows.data[kept], n_columns)
