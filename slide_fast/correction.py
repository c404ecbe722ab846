"""The probability that a neuron was active, which corrects the logits of a sampled output layer (S30)."""

from __future__ import annotations

import numpy as np

from slide_ref.common.sparse_rows import SparseRows

from .kernels.scratch import Scratch, positions
from .sampling import Active, Retrieved


def inclusion(
    scratch: Scratch, active: Active, retrieved: Retrieved, labels: SparseRows, priors: np.ndarray
) -> np.ndarray:
    """Return each neuron's inclusion probability, for samples of which it is not a label. Implements S30.

    Like `slide_ref.correction.inclusion`, float64 of shape (n_union,) without a mask, else (n_samples, n_union); 1 for
    retrieved neurons.
    """
    ids, n = active.ids, len(priors)
    if active.mask is not None:
        held = np.zeros(active.mask.shape, dtype=bool)
        for part in (retrieved, Retrieved(labels.indptr, labels.indices)):
            held[np.repeat(np.arange(len(held)), np.diff(part.indptr)), positions(scratch, ids, part.ids, n)] = True
        n_held = held.sum(axis=1)
        drawn = (active.mask.sum(axis=1) - n_held) / np.maximum(n - n_held, 1)
        return np.where(held | ~active.mask, 1.0, 1 - (1 - drawn)[:, None])
    marked = scratch.clean("marked", n, np.bool_)
    marked[retrieved.ids] = True
    found = marked[ids]
    marked[labels.indices] = True
    n_held = int(np.count_nonzero(marked[ids]))
    marked[ids] = False
    drawn = (len(ids) - n_held) / max(n - n_held, 1)
    absent = (1 - drawn) * (1 - priors[ids]) ** (labels.n_rows - 1)
    return np.where(found | (absent == 1), 1.0, 1 - absent)  # absent for certain, but there: a label of its only sample
