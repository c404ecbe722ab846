"""The loss of held-out samples, over all labels."""

from __future__ import annotations

import numpy as np

from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import Dataset

from ..kernels.blas_warnings import without_false_alarms
from ..kernels.scratch import Scratch
from ..prediction import LABELS_AT_ONCE, ROWS_AT_ONCE, hidden_outputs, log_sum


def loss_over_all_labels(layers: list[Layer], data: Dataset, scratch: Scratch) -> tuple[float, int]:
    """Return the summed loss of the labelled samples, with all labels active (S10), and their number.

    Parameters
    ----------
    layers : list of Layer
    data : Dataset
        Evaluated in blocks of rows and labels.
    scratch : Scratch
    """
    labelled, total = np.flatnonzero(np.diff(data.labels.indptr)), 0.0
    for first in range(0, len(labelled), ROWS_AT_ONCE):
        total += _of_rows(layers, data.take(labelled[first : first + ROWS_AT_ONCE]), scratch)
    return total, len(labelled)


@without_false_alarms
def _of_rows(layers: list[Layer], data: Dataset, scratch: Scratch) -> float:
    """Return the summed loss of some rows, all of which have labels."""
    output, labels, counts = layers[-1], data.labels, np.diff(data.labels.indptr)
    inputs = hidden_outputs(layers, data.features, scratch)
    row_of = labels.row_of()
    own, others = np.empty(labels.nnz), np.full(data.n_samples, -np.inf)
    for first in range(0, len(output.b), LABELS_AT_ONCE):
        part = slice(first, first + LABELS_AT_ONCE)
        logits = (inputs @ output.W[part].T + output.b[part]).astype(np.float64)
        here = np.flatnonzero((labels.indices >= first) & (labels.indices < first + logits.shape[1]))
        places = row_of[here], labels.indices[here] - first
        own[here] = logits[places]
        logits[places] = -np.inf  # true labels do not compete with each other
        others = np.logaddexp(others, log_sum(logits))
    return float((np.logaddexp(0, others[row_of] - own) / counts[row_of]).sum())
