"""Building the index for prediction from a trained network and samples."""

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
    Preview,
    bucket_size,
    directions_of,
    has_preview,
    n_previewed,
)
from .common.parameters import Layer
from .common.sparse_rows import SparseRows
from .hashing.centroid import k_means, nearest, strongest
from .prediction import hidden_outputs, predict_topk, previews


def spreads(W: np.ndarray, second_moment: np.ndarray) -> np.ndarray:
    """Return the standard deviation, near a centroid, of each logit minus the mean of all logits. Implements S28.

    Parameters
    ----------
    W : ndarray of float, shape (n_neurons, n_inputs)
    second_moment : ndarray of float, shape (n_inputs, n_inputs)
        Of the differences between samples and their nearest centroids.

    Returns
    -------
    ndarray of float, shape (n_neurons,)
    """
    from_mean = W - W.mean(axis=0, dtype=np.float64).astype(W.dtype)
    return np.sqrt(np.maximum(((from_mean @ second_moment) * from_mean).sum(axis=1), 0))


def build_index(layers: list[Layer], samples: IndexSamples) -> Index:
    """Cluster the inputs of the output layer, and find candidate neurons for each centroid. Implements S28.

    A neuron with a smaller logit at the centroid may have a larger one at a sample nearby, especially if its logit
    varies much. So a bucket holds the neurons with the largest logit at the centroid plus `SPREAD` standard deviations.

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
    second_moment = deviations.T @ deviations / output.W.dtype.type(len(deviations))
    upper = output.b + output.W.dtype.type(SPREAD) * spreads(output.W, second_moment)
    buckets = strongest(centroids, output.W, upper, bucket_size(*output.W.shape))
    preview = preview_of(output, centroids, buckets, second_moment) if has_preview(*output.W.shape) else None
    index = Index(centroids, buckets, np.zeros((0, 0), dtype=np.int32), preview)
    places, limits = places_of_best(layers, samples.kept_aside, index)
    return index._replace(places=places, limits=limits)


def preview_of(output: Layer, centroids: np.ndarray, buckets: np.ndarray, second_moment: np.ndarray) -> Preview:
    """Make a preview: weights along the directions in which samples differ most from their centroids. Implements S28.

    `centroids` has shape (n_centroids, n_inputs), `buckets` (n_centroids, bucket_size), and `second_moment`, of the
    samples' differences from their nearest centroids, (n_inputs, n_inputs).
    """
    directions = directions_of(second_moment).astype(output.W.dtype)
    levels = [
        output.W[bucket] @ centroid + output.b[bucket] for bucket, centroid in zip(buckets, centroids, strict=True)
    ]
    return Preview(directions, output.W @ directions, np.array(levels))


def places_of_best(layers: list[Layer], features: SparseRows, index: Index) -> tuple[np.ndarray, np.ndarray | None]:
    """Find where each row's best labels stand in its bucket, and how many neurons may be previewed without losing them.

    Implements S28.

    Returns
    -------
    places, limits : ndarray of int32, shape (n_rows, min(`DEEP_MEASURED`, n_labels))
        As in `Index`; `limits` is None without a preview. The first `DEEP_ROWS` rows are measured in full, the others
        for their first `MEASURED` labels.
    """
    n_labels, size = len(layers[-1].b), index.buckets.shape[1]
    inputs = hidden_outputs(layers, features)
    cells = nearest(inputs, index.centroids, 1)[:, 0]
    best, _ = predict_topk(layers, features, min(DEEP_MEASURED, n_labels))
    places, limits = (np.full(best.shape, -1, dtype=np.int32) for _ in range(2))
    for row, cell in enumerate(cells):
        bucket = index.buckets[cell].tolist()
        n_measured = DEEP_MEASURED if row < DEEP_ROWS else MEASURED
        own = previews(index, cell, inputs[row], size)
        for rank, label in enumerate(best[row, :n_measured].tolist()):
            places[row, rank] = bucket.index(label) if label in bucket else size
            limits[row, rank] = size
            if own is not None and label in bucket:
                ahead = np.flatnonzero(own > own[places[row, rank]])
                n_kept = n_previewed(MEASURED if rank < MEASURED else DEEP_MEASURED)
                if len(ahead) >= n_kept:
                    limits[row, rank] = ahead[n_kept - 1]  # one neuron more, and the label is left out
    return places, None if index.preview is None else limits
