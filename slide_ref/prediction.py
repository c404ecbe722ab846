"""Prediction: exact top-k. Every neuron of every layer is evaluated, whatever was sampled in training."""

from __future__ import annotations

import numpy as np

from .common.parameters import Layer
from .common.sparse_rows import SparseRows
from .network import forward


def predict_topk(layers: list[Layer], features: SparseRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k labels of largest logit for each row. Implements S15.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; of equal scores the lower id comes first; -1 where there are fewer than k labels.
    scores : ndarray of float, shape (n_samples, k)
        Logits; -inf where the id is -1.
    """
    ids = np.full((features.n_rows, k), -1, dtype=np.int32)
    scores = np.full((features.n_rows, k), -np.inf, dtype=layers[-1].W.dtype)

    trace = forward(layers, features, lambda l, inputs: [np.arange(len(layers[l].b))] * len(inputs))
    for i, logits in enumerate(trace[-1]):
        best = np.argsort(-logits.values, kind="stable")[:k]
        ids[i, : len(best)] = best
        scores[i, : len(best)] = logits.values[best]
    return ids, scores
