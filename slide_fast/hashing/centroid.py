"""Centroid tables, computed by matrix products."""

from __future__ import annotations

import numpy as np

from slide_ref.common.hash_constants import ROUNDS
from slide_ref.common.lsh_config import N_GROUPS, LshConfig

from ..kernels.blas_warnings import without_false_alarms
from ..kernels.ordering import keys_of, unpack

ROWS_AT_ONCE = 1024  # vectors whose distances to all centroids are held
CENTROIDS_AT_ONCE = 128
NEURONS_AT_ONCE = 8192
LISTED_WEIGHTS = 2**19  # of some listed neurons that are copied at once
PROBED = 4096  # neurons whose values tell about how large a neuron of a bucket is


@without_false_alarms
def nearest(vectors: np.ndarray, centroids: np.ndarray, count: int) -> np.ndarray:
    """Find the nearest centroids of each vector, as `slide_ref.hashing.centroid.nearest` does. Implements S34."""
    norms = np.einsum("ij,ij->i", centroids, centroids)
    found = np.empty((len(vectors), count), dtype=np.int64)
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        distances = (-2 * vectors[rows]) @ centroids.T
        distances += norms
        for place in range(count):
            best = distances.argmin(axis=1)
            found[rows, place] = best
            distances[np.arange(len(best)), best] = np.inf
    return found


def means(vectors: np.ndarray, cells: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the mean vector of each cell, as `slide_ref.hashing.centroid.means` does. Implements S34."""
    moved, order = centroids.copy(), np.argsort(cells, kind="stable")
    if len(order):
        starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
        counts = np.diff(starts, append=len(order))
        sums = np.add.reduceat(vectors[order], starts, axis=0, dtype=np.float64)
        moved[cells[order[starts]]] = sums / counts[:, None]
    return moved


def k_means(vectors: np.ndarray, n_centroids: int, rounds: int) -> np.ndarray:
    """Cluster vectors by Lloyd's algorithm, as `slide_ref.hashing.centroid.k_means` does. Implements S34."""
    centroids = vectors[:n_centroids].copy()
    for _ in range(rounds):
        centroids = means(vectors, nearest(vectors, centroids, 1)[:, 0], centroids)
    return centroids


def strongest(
    centroids: np.ndarray, W: np.ndarray, b: np.ndarray, size: int, among: np.ndarray | None = None
) -> np.ndarray:
    """Find the neurons with the largest logits at each centroid, as `slide_ref.hashing.centroid.strongest` does.

    Implements S35.
    """
    n = len(b) if among is None else len(among)
    buckets = np.empty((len(centroids), min(size, n)), dtype=np.int32)
    for first in range(0, len(centroids), CENTROIDS_AT_ONCE):
        rows = slice(first, first + CENTROIDS_AT_ONCE)
        _fill(buckets[rows], centroids[rows], W, b, among)
    return buckets


def groups_of(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the centroids themselves, as `slide_ref.hashing.centroid.groups_of` does. Implements S35."""
    centers = k_means(centroids, N_GROUPS, ROUNDS)
    return centers, nearest(centroids, centers, 1)[:, 0]


def listed_by_groups(centroids: np.ndarray, W: np.ndarray, b: np.ndarray, n_listed: int, groups: slice) -> np.ndarray:
    """Return the candidate neurons of some groups, ascending so that weights are read in order. Implements S35.

    Returns
    -------
    ndarray of int32, shape (n_some, n_listed)
    """
    listed = strongest(groups_of(centroids)[0][groups], W, b, n_listed)
    listed.sort(axis=1)
    return listed


def fill_buckets(
    buckets: np.ndarray, centroids: np.ndarray, W: np.ndarray, b: np.ndarray, listed: np.ndarray | None, part: slice
) -> None:
    """Fill some of the buckets, as `slide_ref.hashing.centroid.buckets_of` fills all. Implements S35.

    Parameters
    ----------
    buckets : ndarray of int32, shape (2**K, bucket size)
        Buckets to fill.
    centroids, W, b
        As in `slide_ref.hashing.centroid.buckets_of`.
    listed : ndarray of int32, shape (`N_GROUPS`, n_listed), or None
        From `listed_by_groups`; None without groups.
    part : slice
        Slice of the centroids; with groups, of the centroids sorted by group.
    """
    if listed is None:
        buckets[part] = strongest(centroids[part], W, b, buckets.shape[1])
        return
    _, members = groups_of(centroids)
    some = np.argsort(members, kind="stable")[part]
    for group in np.unique(members[some]):
        own = some[members[some] == group]
        buckets[own] = strongest(centroids[own], W, b, buckets.shape[1], listed[group])


@without_false_alarms
def _fill(buckets: np.ndarray, centroids: np.ndarray, W: np.ndarray, b: np.ndarray, among: np.ndarray | None) -> None:
    """Fill the buckets of a few centroids.

    Only values above a floor, estimated from some of the neurons, are sorted. If fewer values exceed it than a bucket
    holds, the estimate was too high, and all values are sorted.
    """
    size = buckets.shape[1]
    found = _keys_above(_floors(centroids, W, b, size, among), centroids, W, b, among)
    for i, (bucket, keys) in enumerate(zip(buckets, found, strict=True)):
        if len(keys) < size:
            everyone = np.full(1, -np.inf, dtype=W.dtype)
            (keys,) = _keys_above(everyone, centroids[i : i + 1], W, b, among)
        bucket[:] = unpack(np.sort(keys)[: -size - 1 : -1])[1]


def _floors(centroids: np.ndarray, W: np.ndarray, b: np.ndarray, size: int, among: np.ndarray | None) -> np.ndarray:
    """Estimate for each centroid a value that slightly more than `size` neurons exceed."""
    n = len(b) if among is None else len(among)
    apart = max(1, n // PROBED)
    some = slice(None, None, apart) if among is None else among[::apart]
    probed = centroids @ W[some].T + b[some]
    expected = size / apart
    rank = int(expected + 3 * np.sqrt(expected)) + 2
    if rank >= probed.shape[1]:
        return np.full(len(centroids), -np.inf, dtype=W.dtype)
    return np.partition(probed, probed.shape[1] - rank, axis=1)[:, probed.shape[1] - rank]


def _keys_above(
    floors: np.ndarray, centroids: np.ndarray, W: np.ndarray, b: np.ndarray, among: np.ndarray | None
) -> list[np.ndarray]:
    """Return for each centroid the `keys_of` values and ids of the neurons that exceed its floor."""
    found: list[list[np.ndarray]] = [[] for _ in centroids]
    n, at_once = (len(b), NEURONS_AT_ONCE) if among is None else (len(among), max(1, LISTED_WEIGHTS // W.shape[1]))
    for first in range(0, n, at_once):
        part = slice(first, first + at_once) if among is None else among[first : first + at_once]
        logits = centroids @ W[part].T
        logits += b[part]
        above = np.flatnonzero(~(logits < floors[:, None]))  # so that NaN is found too
        rows, ids = np.divmod(above, logits.shape[1])
        ids += first
        keys = keys_of(np.fmax(logits.reshape(-1)[above], -np.inf), ids if among is None else among[ids])
        ends = np.searchsorted(rows, np.arange(1, len(centroids)))
        for own, some in zip(found, np.split(keys, ends), strict=True):
            own.append(some)
    return [np.concatenate(some) for some in found]


def centroid_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the addresses that vectors read, as `slide_ref.hashing.centroid.centroid_codes` does. Implements S34."""
    return nearest(vectors, constants.astype(vectors.dtype, copy=False), lsh.L).astype(np.uint64)
