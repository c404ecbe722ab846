"""Building the index for prediction, by matrix products and several threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slide_ref.common.index import (
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
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from .hashing.centroid import k_means, nearest, strongest
from .kernels.blas_warnings import without_false_alarms
from .kernels.scratch import Scratch
from .parallel.threads import by_threads
from .prediction import LABELS_AT_ONCE, all_hidden_outputs, by_cell, predict_topk, previews

PREVIEWED_AT_ONCE = 64  # rows of a cell whose previews of a whole bucket are held
WEIGHTS_AT_ONCE = 2**20  # that are copied, or that BLAS packs for a product
CELLS_AT_ONCE = 16  # whose neurons a thread holds, an eighth of all and more for each, before they are sorted


def some_rows(W: np.ndarray) -> Iterator[slice]:
    """Yield consecutive slices of the rows of W, each of about `WEIGHTS_AT_ONCE` weights."""
    at_once = max(1, WEIGHTS_AT_ONCE // W.shape[1])
    for first in range(0, len(W), at_once):
        yield slice(first, first + at_once)


@without_false_alarms
def spreads(W: np.ndarray, second_moment: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each neuron's logit, as `slide_ref.indexing.spreads` does. Implements S28."""
    mean, variances = W.mean(axis=0, dtype=np.float64).astype(W.dtype), np.empty(len(W), W.dtype)
    for rows in some_rows(W):
        from_mean = W[rows] - mean
        np.einsum("ij,ij->i", from_mean @ second_moment, from_mean, out=variances[rows])
    return np.sqrt(np.maximum(variances, 0, out=variances), out=variances)


def clusters(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centroids of the output layer's inputs, and the second moment of the differences from them."""
    centroids = k_means(inputs, min(N_CENTROIDS, len(inputs)), ROUNDS)
    deviations = centroids[nearest(inputs, centroids, 1)[:, 0]]
    np.subtract(inputs, deviations, out=deviations)
    return centroids, deviations.T @ deviations / inputs.dtype.type(len(deviations))


def build_index(layers: list[Layer], samples: IndexSamples, n_threads: int = 1) -> Index:
    """Cluster the inputs of the output layer, and find candidate neurons for each centroid. Implements S28.

    Like `slide_ref.indexing.build_index`, with `n_threads` threads.
    """
    output = layers[-1]
    centroids, second_moment = clusters(all_hidden_outputs(layers, samples.clustered, n_threads))
    upper = output.b + output.W.dtype.type(SPREAD) * spreads(output.W, second_moment)
    buckets = np.empty((len(centroids), bucket_size(*output.W.shape)), dtype=np.int32)

    def fill(cells: np.ndarray, own: object) -> None:
        buckets[cells] = strongest(centroids[cells], output.W, upper, buckets.shape[1])

    parts = max(n_threads, -(-len(centroids) // CELLS_AT_ONCE))
    by_threads(fill, np.array_split(np.arange(len(centroids)), parts), n_threads, Scratch)
    preview = preview_of(output, centroids, buckets, second_moment) if has_preview(*output.W.shape) else None
    index = Index(centroids, buckets, np.empty((0, 0), dtype=np.int32), preview)
    places, limits = places_of_best(layers, samples.kept_aside, index, n_threads)
    return index._replace(places=places, limits=limits)


def preview_of(output: Layer, centroids: np.ndarray, buckets: np.ndarray, second_moment: np.ndarray) -> Preview:
    """Project the weights on a few directions, as `slide_ref.indexing.preview_of` does. Implements S28."""
    directions, levels = directions_of(second_moment), np.empty(buckets.shape, output.b.dtype)
    logits = np.empty((CELLS_AT_ONCE, len(output.b)), output.b.dtype)  # a bucket holds half of them: no rows are copied
    for first in range(0, len(centroids), CELLS_AT_ONCE):
        own = centroids[first : first + CELLS_AT_ONCE]
        for start in range(0, len(output.b), LABELS_AT_ONCE):
            part = slice(start, start + LABELS_AT_ONCE)
            np.add(own @ output.W[part].T, output.b[part], out=logits[: len(own), part])
        levels[first : first + len(own)] = np.take_along_axis(logits[: len(own)], buckets[first : first + len(own)], 1)
    reduced = np.empty((len(output.W), directions.shape[1]), directions.dtype)
    for rows in some_rows(output.W):
        np.matmul(output.W[rows], directions, out=reduced[rows])
    return Preview(directions, reduced, levels)


def places_of_best(
    layers: list[Layer], features: SparseRows, index: Index, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray | None]:
    """Find the position of each row's best labels in its bucket, and how long the preview keeps them.

    Like `slide_ref.indexing.places_of_best`, with `n_threads` threads. Implements S28.
    """
    n_labels, size = len(layers[-1].b), index.buckets.shape[1]
    inputs = all_hidden_outputs(layers, features, n_threads)
    cells = nearest(inputs, index.centroids, 1)[:, 0]
    best = np.full((features.n_rows, min(DEEP_MEASURED, n_labels)), -1, dtype=np.int32)
    for first, last, n in ((0, DEEP_ROWS, DEEP_MEASURED), (DEEP_ROWS, features.n_rows, MEASURED)):
        rows = np.arange(features.n_rows)[first:last]
        n = min(n, n_labels)
        best[rows, :n] = predict_topk(layers, features.take(rows), n, n_threads)[0]
    place_of = np.full(n_labels + 1, size, dtype=np.int32)  # the last one is that of -1
    place_of[-1] = -1
    places = np.empty_like(best)
    for cell, bucket in enumerate(index.buckets):
        rows = np.flatnonzero(cells == cell)
        place_of[bucket] = np.arange(size)
        places[rows] = place_of[best[rows]]
        place_of[bucket] = size
    return places, None if index.preview is None else _limits(index, index.preview, inputs, cells, places, n_threads)


def _limits(
    index: Index, preview: Preview, inputs: np.ndarray, cells: np.ndarray, places: np.ndarray, n_threads: int
) -> np.ndarray:
    """Find how long the preview keeps the labels at some positions of the rows' buckets."""
    size = index.buckets.shape[1]
    limits = np.where(places < 0, np.int32(-1), np.int32(size))

    def find(group: tuple[int, np.ndarray], scratch: Scratch) -> None:
        cell, rows = group
        found = scratch.empty("previews", (len(rows), size), inputs.dtype)
        for first in range(0, size, LABELS_AT_ONCE):
            part = slice(first, first + LABELS_AT_ONCE)
            found[:, part] = previews(index, preview, cell, inputs[rows], part, scratch)
        for row, own in zip(rows, found, strict=True):
            for column in np.flatnonzero((places[row] >= 0) & (places[row] < size)):
                ahead = np.flatnonzero(own > own[places[row, column]])
                n_kept = n_previewed(MEASURED if column < MEASURED else DEEP_MEASURED)
                if len(ahead) >= n_kept:
                    limits[row, column] = ahead[n_kept - 1]

    by_threads(find, by_cell(cells, at_once=PREVIEWED_AT_ONCE), n_threads, Scratch)
    return limits
