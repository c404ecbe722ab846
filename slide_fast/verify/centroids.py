"""A rebuild of a centroid table, both sides stage by stage: queries, rounds of k-means, buckets.

Where rounding decides which of two centroids is nearer, or which of two neurons fires harder, both sides go on with
what the reference chose.
"""

from __future__ import annotations

import numpy as np

import slide_ref as ref
import slide_ref.hash_tables
import slide_ref.hashing.centroid
import slide_ref.training
from slide_ref.common.hash_constants import ROUNDS, samples_to_cluster
from slide_ref.common.parameters import Layer
from slide_ref.common.parts import Part
from slide_ref.common.sparse_rows import SparseRows

from .. import prediction
from ..hash_tables import CentroidTable
from ..hashing import centroid
from ..kernels.scratch import Scratch
from .comparison import Report, check_equal, check_floats, check_order, without_signs


def check_nearest(
    report: Report, stage: str, fast: np.ndarray, reference: np.ndarray, vectors: np.ndarray, centroids: np.ndarray
) -> None:
    """Raise Disagreement unless both sides find centroids at the same distances; rounding may decide between equals."""
    X, C = vectors.astype(np.float64), centroids.astype(np.float64)
    norms = (C**2).sum(axis=1)
    sizes = norms + 2 * np.abs(X) @ np.abs(C).T
    check_order(report, stage, fast, reference, norms - 2 * X @ C.T, sizes, 2 * C.shape[1])


def check_strongest(
    report: Report, fast: np.ndarray, reference: np.ndarray, centroids: np.ndarray, W: np.ndarray, b: np.ndarray
) -> None:
    """Raise Disagreement unless both sides' buckets hold neurons of the same values, as `check_nearest` does."""
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
    layers64 = [Layer(layer.W.astype(np.float64), layer.b.astype(np.float64)) for layer in layers]
    sides = (layers, rows), (layers64, rows), without_signs(layers, rows)
    queries, exact, size = (ref.training.inputs_of_layer(of, part.layer, samples) for of, samples in sides)
    ours = prediction.hidden_outputs(layers[: part.layer + 1], rows, scratch)
    check_floats(report, "queries", ours, queries, exact, size)
    centroids = queries[: part.lsh.n_centroids].copy()
    for _ in range(ROUNDS):
        cells = ref.hashing.centroid.nearest(queries, centroids, 1)
        check_nearest(report, "cells", centroid.nearest(queries, centroids, 1), cells, queries, centroids)
        own = cells[:, 0]
        wide, signless = ((side.astype(np.float64)) for side in (queries, np.abs(queries)))
        moved, exact, size = (
            ref.hashing.centroid.means(side, own, centroids.astype(side.dtype)) for side in (queries, wide, signless)
        )
        check_floats(report, "centroids", centroid.means(queries, own, centroids), moved, exact, size)
        centroids = moved
    layer, n = layers[part.layer], slice(part.first, part.last)
    W, b = layer.W[n], layer.b[n]
    buckets = ref.hashing.centroid.strongest(centroids, W, b, room)
    check_strongest(report, centroid.strongest(centroids, W, b, room), buckets, centroids, W, b)
    return centroids, ref.hash_tables.CentroidTable(buckets), CentroidTable(buckets, len(b), np.ones(1, np.int32))


def check_table(report: Report, fast: CentroidTable, reference: ref.hash_tables.CentroidTable) -> None:
    """Raise Disagreement unless every bucket holds the same neurons in the same order."""
    check_equal(report, "buckets", fast.ids, reference.buckets)
