"""Centroid tables, whose buckets follow the queries, not the neurons.

The inputs of a layer are clustered; each centroid has a bucket with the neurons whose logits at the centroid are
largest. A query reads the buckets of its nearest centroids. In a hundred dimensions, random hyperplanes cannot separate
the few large logits of a trained network from the others; these buckets hold them by construction (compare Auvolat et
al. 2015, and for learned tables MONGOOSE, Chen et al., ICLR 2021).
"""

from __future__ import annotations

import numpy as np

from ..common.hash_constants import ROUNDS
from ..common.lsh_config import N_GROUPS, LshConfig


def squared_distances(vector: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return a vector's squared distances to all centroids, less its squared norm: shape (n_centroids,); see S34."""
    return (centroids**2).sum(axis=1) - 2 * (centroids @ vector)


def nearest(vectors: np.ndarray, centroids: np.ndarray, count: int) -> np.ndarray:
    """Find the nearest centroids of each vector. Implements S34.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
    centroids : ndarray of float, shape (n_centroids, d)
    count : int
        Number of centroids to find; at most `n_centroids`.

    Returns
    -------
    ndarray of int64, shape (n, count)
        Nearest first; ties go to the lower index.
    """
    found = np.zeros((len(vectors), count), dtype=np.int64)
    for own, vector in zip(found, vectors, strict=True):
        own[:] = np.argsort(squared_distances(vector, centroids), kind="stable")[:count]
    return found


def means(vectors: np.ndarray, cells: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the mean of each cell's vectors; an empty cell keeps its centroid. Implements S34.

    Sums are in float64: copies of one vector then have exactly that vector as their mean.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
    cells : ndarray of int, shape (n,)
        The centroid to which each vector belongs.
    centroids : ndarray of float, shape (n_centroids, d)
    """
    moved = centroids.copy()
    for cell in np.unique(cells):
        moved[cell] = vectors[cells == cell].mean(axis=0, dtype=np.float64)
    return moved


def k_means(vectors: np.ndarray, n_centroids: int, rounds: int) -> np.ndarray:
    """Cluster vectors by Lloyd's algorithm. Implements S34.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
        In random order: the first `n_centroids` are the initial centroids.
    n_centroids : int
        At most n.
    rounds : int

    Returns
    -------
    ndarray of float, shape (n_centroids, d)
    """
    centroids = vectors[:n_centroids].copy()
    for _ in range(rounds):
        centroids = means(vectors, nearest(vectors, centroids, 1)[:, 0], centroids)
    return centroids


def strongest(
    centroids: np.ndarray, W: np.ndarray, b: np.ndarray, size: int, among: np.ndarray | None = None
) -> np.ndarray:
    """Find the neurons with the largest logits at each centroid. Implements S35.

    Parameters
    ----------
    centroids : ndarray of float, shape (n_centroids, d)
    W : ndarray of float, shape (n_neurons, d)
    b : ndarray of float, shape (n_neurons,)
    size : int
        Neurons per bucket; at most all neurons.
    among : ndarray of int, shape (n_some,), optional
        Candidate neurons, ascending; default: all.

    Returns
    -------
    ndarray of int32, shape (n_centroids, min(size, n_neurons or n_some))
        Largest logit first, bias included; ties go to the lower id.
    """
    among = np.arange(len(b)) if among is None else among
    buckets = np.zeros((len(centroids), min(size, len(among))), dtype=np.int32)
    for bucket, centroid in zip(buckets, centroids, strict=True):
        bucket[:] = among[np.argsort(-(W[among] @ centroid + b[among]), kind="stable")[: len(bucket)]]
    return buckets


def groups_of(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the centroids themselves into groups. Implements S35.

    Returns
    -------
    centers : ndarray of float, shape (`N_GROUPS`, d)
    members : ndarray of int64, shape (n_centroids,)
        The group to which each centroid belongs.
    """
    centers = k_means(centroids, N_GROUPS, ROUNDS)
    return centers, nearest(centroids, centers, 1)[:, 0]


def buckets_of(centroids: np.ndarray, W: np.ndarray, b: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Fill the buckets of a layer's table; in a large layer, only from the neurons listed for the centroid's group.

    Implements S35.

    Parameters
    ----------
    centroids : ndarray of float, shape (2**K, d)
    W : ndarray of float, shape (n_neurons, d)
    b : ndarray of float, shape (n_neurons,)
    lsh : LshConfig

    Returns
    -------
    ndarray of int32, shape (2**K, bucket size)
    """
    size, n_listed = lsh.room(len(b)), lsh.listed(len(b))
    if n_listed == len(b):
        return strongest(centroids, W, b, size)
    buckets = np.zeros((len(centroids), size), dtype=np.int32)
    centers, members = groups_of(centroids)
    for group, listed in enumerate(strongest(centers, W, b, n_listed)):
        own = members == group
        buckets[own] = strongest(centroids[own], W, b, size, np.sort(listed))
    return buckets


def centroid_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the addresses of the buckets that vectors read: their L nearest centroids. Implements S34.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
    constants : ndarray of float, shape (2**K, d)
        The centroids.
    lsh : LshConfig

    Returns
    -------
    ndarray of uint64, shape (n, L)
        Nearest first.
    """
    return nearest(vectors, constants.astype(vectors.dtype), lsh.L).astype(np.uint64)
