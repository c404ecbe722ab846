"""Centroid tables: buckets made for the queries, not for the neurons.

The inputs of a layer are clustered; a bucket belongs to a centroid and holds the neurons with the largest logits there.
A query reads the buckets of its nearest centroids. Random planes cannot separate the few large logits of a trained
network from the others in a hundred dimensions; these buckets hold them by construction (compare Auvolat et al. 2015,
and MONGOOSE, Chen et al., ICLR 2021, for tables that are learned).
"""

from __future__ import annotations

import numpy as np

from ..common.lsh_config import LshConfig


def squared_distances(vector: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return how far a vector is from each centroid, squared, less the vector's own squared norm. Implements S34."""
    return (centroids**2).sum(axis=1) - 2 * (centroids @ vector)


def nearest(vectors: np.ndarray, centroids: np.ndarray, count: int) -> np.ndarray:
    """Find the nearest centroids of each vector. Implements S34.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
    centroids : ndarray of float, shape (n_centroids, d)
    count : int
        How many; at most `n_centroids`.

    Returns
    -------
    ndarray of int64, shape (n, count)
        Nearest first; of equal distances the lower index comes first.
    """
    found = np.zeros((len(vectors), count), dtype=np.int64)
    for own, vector in zip(found, vectors, strict=True):
        own[:] = np.argsort(squared_distances(vector, centroids), kind="stable")[:count]
    return found


def means(vectors: np.ndarray, cells: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the mean of each cell's vectors; the centroid of an empty cell stays as it is. Implements S34.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
    cells : ndarray of int, shape (n,)
        The centroid to which each vector belongs.
    centroids : ndarray of float, shape (n_centroids, d)
    """
    moved = centroids.copy()
    for cell in np.unique(cells):
        moved[cell] = vectors[cells == cell].mean(axis=0)
    return moved


def k_means(vectors: np.ndarray, n_centroids: int, rounds: int) -> np.ndarray:
    """Cluster vectors by Lloyd's algorithm. Implements S34.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
        In random order: the first `n_centroids` are where the centroids begin.
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


def strongest(centroids: np.ndarray, W: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """Find the neurons with the largest logits at each centroid. Implements S35.

    Parameters
    ----------
    centroids : ndarray of float, shape (n_centroids, d)
    W : ndarray of float, shape (n_neurons, d)
    b : ndarray of float, shape (n_neurons,)
    size : int
        Neurons a bucket holds; all of them where there are no more.

    Returns
    -------
    ndarray of int32, shape (n_centroids, min(size, n_neurons))
        Largest value first, bias included; of equal values the lower id comes first.
    """
    buckets = np.zeros((len(centroids), min(size, len(b))), dtype=np.int32)
    for bucket, centroid in zip(buckets, centroids, strict=True):
        bucket[:] = np.argsort(-(W @ centroid + b), kind="stable")[: len(bucket)]
    return buckets


def centroid_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the buckets that vectors read: those of their L nearest centroids. Implements S34.

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
