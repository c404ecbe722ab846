"""Number of columns of rows: that of a model, or as found in a file."""

from __future__ import annotations

import dataclasses

from slide_ref.common.sparse_rows import SparseRows


def with_columns_found(rows: SparseRows) -> SparseRows:
    """Return the rows with as many columns as their largest id requires."""
    return dataclasses.replace(rows, n_columns=int(rows.indices.max()) + 1 if rows.nnz else 0)


def with_columns(rows: SparseRows, n_columns: int) -> SparseRows:
    """Return rows with `n_columns` columns; entries beyond them are left out."""
    return dataclasses.replace(rows.where(rows.indices < n_columns), n_columns=n_columns)
