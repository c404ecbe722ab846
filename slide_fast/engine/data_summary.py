"""What a training run must know of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.sparse_rows import Dataset, SparseRows

from .checkpoints import fingerprint


class Facts(NamedTuple):
    """What a run must know of its data, wherever the samples are.

    Attributes
    ----------
    n_train, n_features, n_labels : int
    label_counts : ndarray of int64, shape (n_labels,)
    n_labelled : int
        Samples that have labels.
    test_labels : SparseRows or None
    fingerprint : callable
        Returns that of training data and weights.
    """

    n_train: int
    n_features: int
    n_labels: int
    label_counts: np.ndarray
    n_labelled: int
    test_labels: SparseRows | None
    fingerprint: Callable[[], int]

    def about_labels(self) -> dict[str, Any]:
        """The form in which a model of these data answers: one label a sample, or lists of as many as they have."""
        n = int(self.label_counts.sum())
        kind = "classes" if n == self.n_labelled == self.n_train else "lists"
        return {"labels_kind": kind, "labels_per_sample": n / max(self.n_labelled, 1)}


def facts_of(train: Dataset, test: Dataset | None, weights: np.ndarray | None) -> Facts:
    """The facts of data that this process holds."""
    counts = np.bincount(train.labels.indices, minlength=train.labels.n_columns)
    test_labels = None if test is None else test.labels
    sizes = (*train.features.shape, train.labels.n_columns)
    return Facts(*sizes, counts, n_labelled(train), test_labels, lambda: fingerprint(train, weights))


def n_labelled(data: Dataset) -> int:
    """How many samples have labels."""
    return int(np.count_nonzero(np.diff(data.labels.indptr)))
