"""Centroid tables in matrix products."""

from __future__ import annotations

import numpy as np

from slide_ref.common.lsh_config import LshConfig

from ..kernels.blas_warnings import without_false_alarms

ROWS_AT_ONCE = 1024  # vectors whose distances to all centroids are held
CENTROIDS_AT_ONCE = 64
NEURONS_AT_ONCE = 8192
PROBED = 4096  # neurons whose values tell about how large a neuron of a bucket is


@without_false_alarms
def nearest(vectors: np.ndarray, centroids: np.ndarray, count: int) -> np.ndarray:
    """Find the nearest centroids of each vector, as `slide_ref.hashing.centroid.nearest` does. Implements S34."""
    norms = np.einsum("ij,ij->i", centroids, centroids)
    doubled = -2 * centroids.T
    found = np.empty((len(vectors), count), dtype=np.int64)
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        distances = vectors[rows] @ doubled
        distances += norms
        for place in range(count):
            best = distances.argmin(axis=1)
            found[rows, place] = best
            distances[np.arange(len(best)), best] = np.inf
    return found


def means(vectors: np.ndarray, cells: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the mean of each cell's vectors, as `slide_ref.hashing.centroid.means` does. Implements S34."""
    moved, order = centroids.copy(), np.argsort(cells, kind="stable")
    if len(order):
        starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
        counts = np.diff(starts, append=len(order))
        sums = np.add.reduceat(vectors[order], starts, axis=0)
        moved[cells[order[starts]]] = sums / counts[:, None].astype(vectors.dtype)
    return moved


def k_means(vectors: np.ndarray, n_centroids: int, rounds: int) -> np.ndarray:
    """Cluster vectors by Lloyd's algorithm, as `slide_ref.hashing.centroid.k_means` does. Implements S34."""
    centroids = vectors[:n_centroids].copy()
    for _ in range(rounds):
        centroids = means(vectors, nearest(vectors, centroids, 1)[:, 0], centroids)
    return centroids


def strongest(centroids: np.ndarray, W: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """Find the neurons with the largest logits at each centroid, as `slide_ref.hashing.centroid.strongest` does.

    Implements S35.
    """
    buckets = np.empty((len(centroids), min(size, len(b))), dtype=np.int32)
    for first in range(0, len(centroids), CENTROIDS_AT_ONCE):
        rows = slice(first, first + CENTROIDS_AT_ONCE)
        _fill(buckets[rows], centroids[rows], W, b)
    return buckets


@without_false_alarms
def _fill(buckets: np.ndarray, centroids: np.ndarray, W: np.ndarray, b: np.ndarray) -> None:
    """Fill the buckets of a few centroids.

    Only values above a floor are sorted. It is guessed from some of the neurons; where fewer values than a bucket holds
    are above it, the guess was too high, and all values are.
    """
    size = buckets.shape[1]
    floors = _floors(centroids, W, b, size)
    ids, values = _above(floors, centroids, W, b)
    for i, bucket in enumerate(buckets):
        if len(ids[i]) < size:
            everyone = np.full(1, -np.inf, dtype=W.dtype)
            ids[i], values[i] = (found[0] for found in _above(everyone, centroids[i : i + 1], W, b))
        best = ids[i][np.argsort(-values[i], kind="stable")]
        bucket[:] = best[:size]


def _floors(centroids: np.ndarray, W: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """Guess a value that a few more than `size` neurons surpass, for each centroid."""
    apart = max(1, len(b) // PROBED)
    probed = centroids @ W[::apart].T + b[::apart]
    expected = size / apart
    rank = int(expected + 3 * np.sqrt(expected)) + 2
    if rank >= probed.shape[1]:
        return np.full(len(centroids), -np.inf, dtype=W.dtype)
    return np.partition(probed, probed.shape[1] - rank, axis=1)[:, probed.shape[1] - rank]


def _above(
    floors: np.ndarray, centroids: np.ndarray, W: np.ndarray, b: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the neurons, ascending, whose values are above the floor of each centroid, and these values."""
    ids: list[list[np.ndarray]] = [[] for _ in centroids]
    values: list[list[np.ndarray]] = [[] for _ in centroids]
    for first in range(0, len(b), NEURONS_AT_ONCE):
        part = slice(first, first + NEURONS_AT_ONCE)
        logits = centroids @ W[part].T
        logits += b[part]
        above = ~(logits < floors[:, None])  # so that NaN is found too
        for i, flags in enumerate(above):
            found = np.flatnonzero(flags)
            ids[i].append(found + first)
            values[i].append(logits[i, found])
    return [np.concatenate(some) for some in ids], [np.concatenate(some) for some in values]


def centroid_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the buckets that vectors read, as `slide_ref.hashing.centroid.centroid_codes` does. Implements S34."""
    return nearest(vectors, constants.astype(vectors.dtype, copy=False), lsh.L).astype(np.uint64)
