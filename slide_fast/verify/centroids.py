"""Comparison of a rebuild of a centroid table, stage by stage: queries, rounds of k-means, buckets.

If rounding decides which of two centroids is nearer, or which of two neurons has the larger logit, both sides continue
with the reference's choice.
"""

from __future__ import annotations

import numpy as np

import slide_ref as ref
import slide_ref.hash_tables
import slide_ref.hashing.centroid
import slide_ref.prediction
from slide_ref.common.hash_constants import ROUNDS, samples_to_cluster
from slide_ref.common.lsh_config import N_GROUPS, LshConfig
from slide_ref.common.parameters import Layer
from slide_ref.common.parts import Part
from slide_ref.common.sparse_rows import SparseRows

from .. import prediction
from ..hash_tables import CentroidTable
from ..hashing import centroid
from ..kernels.scratch import Scratch
from .comparison import Report, check_floats, check_order, weights_in_float64
from .sizes import without_signs


def check_nearest(
    report: Report, stage: str, fast: np.ndarray, reference: np.ndarray, vectors: np.ndarray, centroids: np.ndarray
) -> None:
    """Raise Disagreement unless both sides find centroids at the same distances; rounding may break ties."""
    X, C = vectors.astype(np.float64), centroids.astype(np.float64)
    norms = (C**2).sum(axis=1)
    sizes = norms + 2 * np.abs(X) @ np.abs(C).T
    check_order(report, stage, fast, reference, norms - 2 * X @ C.T, sizes, 2 * C.shape[1])


def check_strongest(
    report: Report, fast: np.ndarray, reference: np.ndarray, centroids: np.ndarray, W: np.ndarray, b: np.ndarray
) -> None:
    """Raise Disagreement unless both sides' buckets hold neurons of the same values; see `check_nearest`."""
    C, W, b = (array.astype(np.float64) for array in (centroids, W, b))
    sizes = np.abs(C) @ np.abs(W).T + np.abs(b)
    check_order(report, "buckets", fast, reference, C @ W.T + b, sizes, W.shape[1] + 1)


def rebuild_centroids(
    report: Report, layers: list[Layer], part: Part, features: SparseRows, seed: int, number: int, scratch: Scratch
) -> tuple[np.ndarray, ref.hash_tables.CentroidTable, CentroidTable]:
    """Make a part's centroid table on both sides and compare every stage.

    Returns
    -------
    centroids : ndarray of float32, shape (2**K, n_inputs)
        Of the reference.
    theirs, ours : CentroidTable
        Both hold the reference's buckets.
    """
    room = part.lsh.room(part.last - part.first)
    if not part.lsh.L:
        buckets = np.empty((0, room), dtype=np.int32)
        table = CentroidTable(buckets, part.last - part.first, np.ones(1, np.int32))
        return np.empty((0, layers[part.layer].W.shape[1])), ref.hash_tables.CentroidTable(buckets), table
    rows = features.take(samples_to_cluster(part.lsh, seed, part.layer, number, features.n_rows))
    sides = (layers, rows), (weights_in_float64(layers), rows), without_signs(layers, rows)
    queries, exact, size = (ref.prediction.hidden_outputs(of[: part.layer + 1], samples) for of, samples in sides)
    ours = prediction.hidden_outputs(layers[: part.layer + 1], rows, scratch)
    n_terms = int(np.diff(rows.indptr).max(initial=0)) + sum(layer.W.shape[1] for layer in layers[1 : part.layer])
    check_floats(report, "queries", ours, queries, exact, size, n_terms)
    centroids = cluster(report, queries, part.lsh.n_centroids)
    layer, n = layers[part.layer], slice(part.first, part.last)
    W, b = layer.W[n], layer.b[n]
    buckets = fill(report, centroids, W, b, part.lsh)
    return centroids, ref.hash_tables.CentroidTable(buckets), CentroidTable(buckets, len(b), np.ones(1, np.int32))


def cluster(report: Report, vectors: np.ndarray, n_centroids: int) -> np.ndarray:
    """Run k-means on both sides, compare every round, and return the reference's centroids."""
    centroids = vectors[:n_centroids].copy()
    for _ in range(ROUNDS):
        cells = ref.hashing.centroid.nearest(vectors, centroids, 1)
        check_nearest(report, "cells", centroid.nearest(vectors, centroids, 1), cells, vectors, centroids)
        own = cells[:, 0]
        wide, signless = ((side.astype(np.float64)) for side in (vectors, np.abs(vectors)))
        moved, exact, size = (
            ref.hashing.centroid.means(side, own, centroids.astype(side.dtype)) for side in (vectors, wide, signless)
        )
        check_floats(report, "centroids", centroid.means(vectors, own, centroids), moved, exact, size)
        centroids = moved
    return centroids


def fill(report: Report, centroids: np.ndarray, W: np.ndarray, b: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Fill buckets on both sides, group by group if there are groups, and return the reference's."""
    size, n_listed = lsh.room(len(b)), lsh.listed(len(b))

    def compared(centroids: np.ndarray, size: int, among: np.ndarray | None = None) -> np.ndarray:
        theirs = ref.hashing.centroid.strongest(centroids, W, b, size, among)
        check_strongest(report, centroid.strongest(centroids, W, b, size, among), theirs, centroids, W, b)
        return theirs

    if n_listed == len(b):
        return compared(centroids, size)
    centers = cluster(report, centroids, N_GROUPS)
    members = ref.hashing.centroid.nearest(centroids, centers, 1)
    check_nearest(report, "groups", centroid.nearest(centroids, centers, 1), members, centroids, centers)
    buckets = np.empty((len(centroids), size), dtype=np.int32)
    for group, listed in enumerate(compared(centers, n_listed)):
        own = members[:, 0] == group
        buckets[own] = compared(centroids[own], size, np.sort(listed))
    return buckets
