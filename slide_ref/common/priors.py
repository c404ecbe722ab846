"""Label frequencies, needed for the correction of logits (S30)."""

from __future__ import annotations

import numpy as np

from .sparse_rows import SparseRows


def label_priors(labels: SparseRows) -> np.ndarray:
    """Return the fraction of labelled rows that carry each label, float64, (n_labels,). Implements S30."""
    n_labelled = int(np.count_nonzero(np.diff(labels.indptr)))
    return np.bincount(labels.indices, minlength=labels.n_columns) / max(n_labelled, 1)
