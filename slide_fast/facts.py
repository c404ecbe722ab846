"""What a training run must know of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slide_ref.common.sparse_rows import Dataset, SparseRows

from .checkpoints import fingerprint


class Facts(NamedTuple):
    """What a run must know of its data, wherever the samples are.

    Attributes
    ----------
    n_train, n_features, n_labels : int
    label_counts : ndarray of int64, shape (n_labels,)
    test_labels : SparseRows or None
    fingerprint : callable
        Returns that of training data and weights.
    """

    n_train: int
    n_features: int
    n_labels: int
    label_counts: np.ndarray
    test_labels: SparseRows | None
    fingerprint: Callable[[], int]


def facts_of(train: Dataset, test: Dataset | None, weights: np.ndarray | None) -> Facts:
    """The facts of data that this process holds."""
    counts = np.bincount(train.labels.indices, minlength=train.labels.n_columns)
    test_labels = None if test is None else test.labels
    return Facts(
        *train.features.shape, train.labels.n_columns, counts, test_labels, lambda: fingerprint(train, weights)
    )
