"""Prediction: the k best labels, over all of them or over those that an index finds.

Hidden layers are evaluated in full, whatever was sampled in training.
"""

from __future__ import annotations

import numpy as np

from .common.index import (
    DEEP_MEASURED,
    DEEP_ROWS,
    MEASURED,
    N_CENTROIDS,
    ROUNDS,
    SPREAD,
    Index,
    IndexSamples,
    bucket_size,
)
from .common.parameters import Layer
from .common.sparse_rows import SparseRows
from .hashing.centroid import k_means, nearest, strongest
from .network import Activation, forward


def hidden_outputs(layers: list[Layer], features: SparseRows) -> np.ndarray:
    """Return what enters the output layer, shape (n_samples, n_inputs)."""
    hidden = layers[:-1]
    trace = forward(hidden, features, lambda l, inputs: [np.arange(len(hidden[l].b))] * len(inputs))
    inputs = np.zeros((features.n_rows, layers[-1].W.shape[1]), dtype=layers[-1].W.dtype)
    for row, sample in zip(inputs, trace[-1], strict=True):
        row[:] = np.maximum(sample.values, 0)  # `forward` leaves the last layer it is given as it is
    return inputs


def spreads(W: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each neuron's logit, compared with the mean of all logits. Implements S28.

    Parameters
    ----------
    W : ndarray of float, shape (n_neurons, n_inputs)
    deviations : ndarray of float, shape (n_samples, n_inputs)
        Of samples from the centroids next to them.

    Returns
    -------
    ndarray of float, shape (n_neurons,)
    """
    second_moment = deviations.T @ deviations / W.dtype.type(len(deviations))
    from_mean = W - W.mean(axis=0, dtype=np.float64).astype(W.dtype)
    return np.sqrt(np.maximum(((from_mean @ second_moment) * from_mean).sum(axis=1), 0))


def build_index(layers: list[Layer], samples: IndexSamples) -> Index:
    """Cluster what enters the output layer, and find the neurons that matter near each centroid. Implements S28.

    A neuron with a smaller logit at the centroid may have a larger one at a sample nearby; the more its logit varies,
    the more so. So a bucket holds the neurons whose logit at the centroid and `SPREAD` standard deviations are most.

    Parameters
    ----------
    layers : list of Layer
    samples : IndexSamples

    Returns
    -------
    Index
    """
    output, inputs = layers[-1], hidden_outputs(layers, samples.clustered)
    centroids = k_means(inputs, min(N_CENTROIDS, len(inputs)), ROUNDS)
    deviations = inputs - centroids[nearest(inputs, centroids, 1)[:, 0]]
    upper = output.b + output.W.dtype.type(SPREAD) * spreads(output.W, deviations)
    buckets = strongest(centroids, output.W, upper, bucket_size(len(output.b)))
    return Index(centroids, buckets, places_of_best(layers, samples.kept_aside, centroids, buckets))


def places_of_best(
    layers: list[Layer], features: SparseRows, centroids: np.ndarray, buckets: np.ndarray
) -> np.ndarray:
    """Find where in its bucket the best labels of each row stand. Implements S28.

    Returns
    -------
    ndarray of int32, shape (n_rows, min(`DEEP_MEASURED`, n_labels))
        As in `Index`. Of the first `DEEP_ROWS` rows all are found, of the others the first `MEASURED`.
    """
    n_labels, size = len(layers[-1].b), buckets.shape[1]
    cells = nearest(hidden_outputs(layers, features), centroids, 1)[:, 0]
    best, _ = predict_topk(layers, features, min(DEEP_MEASURED, n_labels))
    places = np.full(best.shape, -1, dtype=np.int32)
    for row, cell in enumerate(cells):
        bucket = buckets[cell].tolist()
        n_measured = DEEP_MEASURED if row < DEEP_ROWS else MEASURED
        for rank, label in enumerate(best[row, :n_measured].tolist()):
            places[row, rank] = bucket.index(label) if label in bucket else size
    return places


def candidates(index: Index, inputs: np.ndarray, size: int) -> np.ndarray:
    """Return the first neurons in the bucket of the nearest centroid. Implements S28.

    Parameters
    ----------
    index : Index
    inputs : ndarray of float, shape (n_inputs,)
        What enters the output layer.
    size : int
        How many neurons of the bucket.

    Returns
    -------
    ndarray of int32
        Distinct ids, ascending.
    """
    cell = nearest(inputs[None], index.centroids.astype(inputs.dtype), 1)[0, 0]
    return np.sort(index.buckets[cell, :size])


def _best(logits: list[Activation], k: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores of the k largest logits of each sample, with places for those that are missing."""
    ids = np.full((len(logits), k), -1, dtype=np.int32)
    scores = np.full((len(logits), k), -np.inf, dtype=dtype)
    for i, row in enumerate(logits):
        best = np.argsort(-row.values, kind="stable")[:k]
        ids[i, : len(best)] = row.ids[best]
        scores[i, : len(best)] = row.values[best]
    return ids, scores


def predict_topk(layers: list[Layer], features: SparseRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels of largest logit for each row. Implements S15.

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
    trace = forward(layers, features, lambda l, inputs: [np.arange(len(layers[l].b))] * len(inputs))
    return _best(trace[-1], k, layers[-1].W.dtype)


def predict_topk_index(
    layers: list[Layer], features: SparseRows, k: int, index: Index, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels of largest logit among each row's candidates. Implements S28.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.
    index : Index
        From `build_index`.
    size : int
        Neurons of a bucket that are looked at; see `slide_ref.common.index.size_for`.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; of equal scores the lower id comes first; -1 where there are fewer than k candidates.
    scores : ndarray of float, shape (n_samples, k)
        Logits; -inf where the id is -1.
    """

    def choose(l: int, inputs: list[Activation]) -> list[np.ndarray]:
        if l < len(layers) - 1:
            return [np.arange(len(layers[l].b))] * len(inputs)
        return [candidates(index, sample.values, size) for sample in inputs]

    return _best(forward(layers, features, choose)[-1], k, layers[-1].W.dtype)
