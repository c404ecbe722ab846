"""Scores of chosen labels: logits, and the softmax over all labels, without holding all logits in memory."""

from __future__ import annotations

import numpy as np

from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from ..kernels.blas_warnings import without_false_alarms
from ..kernels.scratch import Scratch, computed
from ..prediction import LABELS_AT_ONCE, ROWS_AT_ONCE, all_hidden_outputs, gather_rows, log_sum


@without_false_alarms
def logits_of(layers: list[Layer], features: SparseRows, labels: np.ndarray) -> np.ndarray:
    """Return the logits of some labels, with all layers before the last evaluated in full (S15).

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    labels : ndarray of int, shape (n_chosen,)

    Returns
    -------
    ndarray of float32, shape (n_samples, n_chosen)
    """
    output, scratch = layers[-1], Scratch()
    inputs = all_hidden_outputs(layers, features)
    logits = np.empty((features.n_rows, len(labels)), dtype=output.b.dtype)
    for first in range(0, len(labels), LABELS_AT_ONCE):
        part = slice(first, first + LABELS_AT_ONCE)
        W, b = gather_rows(output.W, labels[part], scratch), output.b[labels[part]]
        for start in range(0, features.n_rows, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            np.add(inputs[rows] @ W.T, b, out=logits[rows, part])
    return logits


@without_false_alarms
def log_totals(layers: list[Layer], features: SparseRows) -> np.ndarray:
    """Return the logarithm of the sum of exp(logit) over all labels, for each row.

    Returns
    -------
    ndarray of float64, shape (n_samples,)
    """
    output, totals, scratch = layers[-1], np.full(features.n_rows, -np.inf), Scratch()
    inputs = all_hidden_outputs(layers, features)
    for start in range(0, features.n_rows, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for first in range(0, len(output.b), LABELS_AT_ONCE):
            part = slice(first, first + LABELS_AT_ONCE)
            logits = (inputs[rows] @ computed(output.W[part], scratch).T + output.b[part]).astype(np.float64)
            totals[rows] = np.logaddexp(totals[rows], log_sum(logits))
    return totals


def probabilities_of(layers: list[Layer], features: SparseRows, labels: np.ndarray) -> np.ndarray:
    """Return the softmax over all labels, for some of them: float64, shape (n_samples, n_chosen)."""
    logits = logits_of(layers, features, labels).astype(np.float64)
    logits -= log_totals(layers, features)[:, None]
    return np.exp(logits, out=logits)
