"""Prediction: the k best labels, among all labels or among the candidates of an index.

Hidden layers are evaluated in full, even those sampled in training.
"""

from __future__ import annotations

import numpy as np

from .common.index import Index, n_previewed
from .common.parameters import Layer
from .common.sparse_rows import SparseRows
from .hashing.centroid import nearest
from .network import Activation, forward


def hidden_outputs(layers: list[Layer], features: SparseRows) -> np.ndarray:
    """Return the inputs of the last of `layers`, shape (n_samples, n_inputs), all layers before it computed in full."""
    hidden = layers[:-1]
    trace = forward(hidden, features, lambda l, inputs: [np.arange(len(hidden[l].b))] * len(inputs))
    inputs = np.zeros((features.n_rows, layers[-1].W.shape[1]), dtype=layers[-1].W.dtype)
    for row, sample in zip(inputs, trace[-1], strict=True):
        row[:] = np.maximum(sample.values, 0)  # `forward` leaves the last layer it is given as it is
    return inputs


def candidates(index: Index, inputs: np.ndarray, size: int, k: int) -> np.ndarray:
    """Return the first neurons in the nearest centroid's bucket, or those of largest preview. Implements S28.

    Parameters
    ----------
    index : Index
    inputs : ndarray of float, shape (n_inputs,)
        Inputs of the output layer.
    size : int
        Number of neurons of the bucket to use.
    k : int
        Number of labels to predict.

    Returns
    -------
    ndarray of int32
        Distinct ids, ascending.
    """
    cell = nearest(inputs[None], index.centroids.astype(inputs.dtype), 1)[0, 0]
    bucket, preview = index.buckets[cell, :size], previews(index, cell, inputs, size)
    if preview is not None and n_previewed(k) < size:
        bucket = bucket[preview >= np.sort(preview)[-n_previewed(k)]]
    return np.sort(bucket)


def previews(index: Index, cell: int, inputs: np.ndarray, size: int) -> np.ndarray | None:
    """Estimate the logits, shape (size,), of the first `size` neurons in bucket `cell`. Implements S28.

    `inputs`, shape (n_inputs,), are those of the output layer for one row. None if the index has no preview.
    """
    if index.preview is None:
        return None
    along = index.preview.directions.T @ (inputs - index.centroids[cell])
    return index.preview.levels[cell, :size] + index.preview.reduced[index.buckets[cell, :size]] @ along


def _best(logits: list[Activation], k: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores of each sample's k largest logits, padded with -1 and -inf if there are fewer."""
    ids = np.full((len(logits), k), -1, dtype=np.int32)
    scores = np.full((len(logits), k), -np.inf, dtype=dtype)
    for i, row in enumerate(logits):
        best = np.argsort(-row.values, kind="stable")[:k]
        ids[i, : len(best)] = row.ids[best]
        scores[i, : len(best)] = row.values[best]
    return ids, scores


def predict_topk(layers: list[Layer], features: SparseRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels with the largest logits for each row. Implements S15.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; ties go to the lower id; -1 where there are fewer than k labels.
    scores : ndarray of float, shape (n_samples, k)
        Logits; -inf where the id is -1.
    """
    trace = forward(layers, features, lambda l, inputs: [np.arange(len(layers[l].b))] * len(inputs))
    return _best(trace[-1], k, layers[-1].W.dtype)


def predict_topk_index(
    layers: list[Layer], features: SparseRows, k: int, index: Index, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels with the largest logits among each row's candidates. Implements S28.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.
    index : Index
        From `slide_ref.indexing.build_index`.
    size : int
        Number of neurons scored per bucket; see `slide_ref.common.index.size_for`.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; ties go to the lower id; -1 where there are fewer than k candidates.
    scores : ndarray of float, shape (n_samples, k)
        Logits; -inf where the id is -1.
    """

    def choose(l: int, inputs: list[Activation]) -> list[np.ndarray]:
        if l < len(layers) - 1:
            return [np.arange(len(layers[l].b))] * len(inputs)
        return [candidates(index, sample.values, size, k) for sample in inputs]

    return _best(forward(layers, features, choose)[-1], k, layers[-1].W.dtype)
