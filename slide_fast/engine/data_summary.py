"""A summary of a run's data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.rng import Purpose, mix
from slide_ref.common.sparse_rows import Dataset, SparseRows

from ..kernels.sparse_products import values_of

SAMPLES_AT_ONCE = 1 << 14


class DataSummary(NamedTuple):
    """What a run needs to know about its data, wherever the samples are held.

    Attributes
    ----------
    n_train, n_features, n_labels : int
    label_counts : ndarray of int64, shape (n_labels,)
    n_labelled : int
        Number of samples that have labels.
    test_labels : SparseRows or None
    data : str
        Fingerprint of training data and weights, or "" if none is needed.
    test : str
        The same for the test data; "" also if there are none.
    """

    n_train: int
    n_features: int
    n_labels: int
    label_counts: np.ndarray
    n_labelled: int
    test_labels: SparseRows | None
    data: str
    test: str = ""

    def about_labels(self) -> dict[str, Any]:
        """Return the form of a model's predictions: one label per sample, or lists, with their mean length."""
        n = int(self.label_counts.sum())
        kind = "classes" if n == self.n_labelled == self.n_train else "lists"
        return {"labels_kind": kind, "labels_per_sample": n / max(self.n_labelled, 1)}


def check_enough(n_train: int, n_labels: int, n_test: int | None) -> None:
    """Raise DataError if there is nothing to learn from, given the labels of all samples, or to evaluate on."""
    for name, n in (("training data", n_train), ("test data", n_test)):
        if n == 0:
            raise DataError(f"{name}: there are no samples")
    if not n_labels:
        raise DataError("training data: no sample has a label")


def summarise(train: Dataset, test: Dataset | None, weights: np.ndarray | None, with_fingerprint: bool) -> DataSummary:
    """Summarise data that this process holds; `with_fingerprint` for a run that is resumed or checkpointed."""
    counts = np.bincount(train.labels.indices, minlength=train.labels.n_columns)
    test_labels = None if test is None else test.labels
    data = f"{fingerprint(train, weights):016x}" if with_fingerprint else ""
    tested = "" if test is None or not with_fingerprint else f"{fingerprint(test, None):016x}"
    sizes = *train.features.shape, train.labels.n_columns
    return DataSummary(*sizes, counts, n_labelled(train), test_labels, data, tested)


def n_labelled(data: Dataset) -> int:
    """Return how many samples have labels."""
    return int(np.count_nonzero(np.diff(data.labels.indptr)))


def fingerprint(data: Dataset, weights: np.ndarray | None, first_sample: int = 0) -> int:
    """Compute a 64-bit number that identifies samples and their weights.

    It is a sum of keyed hashes over samples, modulo 2^64, so fingerprints of shares of the data, each beginning with
    sample number `first_sample`, add up to that of the whole.
    """
    total = 0
    for start in range(0, data.n_samples, SAMPLES_AT_ONCE):
        rows = np.arange(start, min(start + SAMPLES_AT_ONCE, data.n_samples))
        words = mix(0, Purpose.FINGERPRINT, first_sample + rows)
        for part in data.take(rows):
            values = values_of(part, np.float32)
            entries = part.indices.astype(np.uint64) | values.view(np.uint32).astype(np.uint64) << np.uint64(32)
            sums = np.cumsum(mix(0, Purpose.FINGERPRINT, entries), dtype=np.uint64)
            sums = np.concatenate([np.zeros(1, dtype=np.uint64), sums])[part.indptr]
            words = mix(0, Purpose.FINGERPRINT, words, np.diff(sums))
        if weights is not None:
            words = mix(0, Purpose.FINGERPRINT, words, weights[rows].astype(np.float64).view(np.uint64))
        total += int(words.sum(dtype=np.uint64))
    return total % 2**64
