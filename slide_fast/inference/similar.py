"""Labels that a network takes for alike: their output neurons point the same way."""

from __future__ import annotations

import numpy as np

LABELS_AT_ONCE = 8192


def similar_labels(weights: np.ndarray, label: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the labels whose weights have the largest cosine with those of a label, which is not among them.

    Parameters
    ----------
    weights : ndarray of float32, shape (n_labels, n_inputs)
        Of the output layer.
    label : int
    k : int

    Returns
    -------
    labels : ndarray of int64, shape (min(k, n_labels - 1),)
        Most alike first; ties to the lower id.
    cosines : ndarray of float64, of the same shape
        0 where weights are all zero.
    """
    own = weights[label].astype(np.float64)
    cosines = np.empty(len(weights))
    for first in range(0, len(weights), LABELS_AT_ONCE):
        block = weights[first : first + LABELS_AT_ONCE]
        norms = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64)) * np.linalg.norm(own)
        cosines[first : first + len(block)] = np.einsum("ij,j->i", block, own) / np.where(norms > 0, norms, 1)
    cosines[label] = -np.inf
    best = np.argsort(-cosines, kind="stable")[: min(k, len(weights) - 1)]
    return best, cosines[best]
