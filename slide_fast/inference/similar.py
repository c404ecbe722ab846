"""Similar labels, by the angles between their weight vectors in the output layer."""

from __future__ import annotations

import numpy as np

from ..kernels.blas_warnings import without_false_alarms
from ..kernels.scratch import Scratch, computed
from ..prediction import LABELS_AT_ONCE


@without_false_alarms
def most_similar(W: np.ndarray, label: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows of `W` (n_labels, n_inputs) with the largest cosine to that of a label, excluding itself.

    Returns their ids, largest cosine first and ties to the lower id, and the cosines, float32; 0 for a row of zeros.
    There are fewer if there are fewer other rows.
    """
    own, scratch, cosines = W[label].astype(np.float32), Scratch(), np.empty(len(W), np.float32)
    length = np.linalg.norm(own)
    for first in range(0, len(W), LABELS_AT_ONCE):
        rows = computed(W[first : first + LABELS_AT_ONCE], scratch)
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows)) * length
        products = rows @ own
        np.divide(products, lengths, out=products, where=lengths > 0)
        cosines[first : first + len(rows)] = np.clip(products, -1, 1)
    cosines[label] = -np.inf
    k = min(k, len(W) - 1)
    floor = np.partition(cosines, len(W) - k)[len(W) - k] if k else np.inf
    found = np.flatnonzero(cosines >= floor)
    found = found[np.argsort(-cosines[found], kind="stable")][:k]
    return found, cosines[found]
