"""Constants of the hash functions: one function per family. They come from the mixer alone, so that no release of NumPy
changes the tables of a saved model. Centroids are computed from samples, which are drawn here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .lsh_config import LshConfig
from .rng import Purpose, draw, mix, permutation

TRIES = 100
SAMPLES_A_CENTROID = 8
ROUNDS = 4  # of k-means


class DwtaConstants(NamedTuple):
    """Constants of DWTA.

    Attributes
    ----------
    bins : ndarray of int32, shape (L * K, bin size)
        The coordinates of each bin, as in WTA.
    detours : ndarray of int32, shape (L * K, TRIES)
        The bins that an empty bin tries, first to last.
    """

    bins: np.ndarray
    detours: np.ndarray


class DophConstants(NamedTuple):
    """Constants of DOPH.

    Attributes
    ----------
    bins : ndarray of int32, shape (n_inputs,)
        The bin of each coordinate.
    hashes : ndarray of uint64, shape (n_inputs,)
        All different: the coordinate with the smallest hash in a bin gives the digit.
    detours : ndarray of int32, shape (L * K, TRIES)
        The bins that an empty bin tries, first to last.
    """

    bins: np.ndarray
    hashes: np.ndarray
    detours: np.ndarray


HashConstants = np.ndarray | DwtaConstants | DophConstants


def simhash_constants(lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> np.ndarray:
    """Draw signed sparse projections, K per table. Implements S5.

    Parameters
    ----------
    lsh : LshConfig
    seed, layer : int
        Words of the key of the draws.
    n_inputs : int
        Length of the vectors that will be hashed.

    Returns
    -------
    ndarray of int8, shape (L * K, n_inputs)
        Entries -1, 0 and +1, one third of them non-zero on average; row ``table * K + digit``.
    """
    projections = np.arange(lsh.L * lsh.K)[:, None]
    sides = draw(mix(seed, Purpose.SIMHASH, layer, projections, np.arange(n_inputs)), 6)
    return (sides == 0).astype(np.int8) - (sides == 1).astype(np.int8)


def wta_constants(lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> np.ndarray:
    """Draw bins of coordinates, K per table. Implements S19.

    Parameters
    ----------
    lsh, seed, layer, n_inputs
        See `simhash_constants`.

    Returns
    -------
    ndarray of int32, shape (L * K, min(base, n_inputs))
        Distinct coordinates in the order of a permutation; row ``table * K + digit``.
    """
    return _permuted_bins(Purpose.WTA, lsh, seed, layer, n_inputs)


def dwta_constants(lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> DwtaConstants:
    """Draw bins as in WTA, and the bins from which an empty bin takes its digit. Implements S20.

    Parameters
    ----------
    lsh, seed, layer, n_inputs
        See `simhash_constants`.
    """
    return DwtaConstants(_permuted_bins(Purpose.DWTA, lsh, seed, layer, n_inputs), _detours(lsh, seed, layer))


def doph_constants(lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> DophConstants:
    """Draw a bin and a hash for each coordinate, and the bins from which an empty bin takes its digit. Implements S21.

    Parameters
    ----------
    lsh, seed, layer, n_inputs
        See `simhash_constants`.
    """
    first, second = mix(seed, Purpose.DOPH, layer, np.arange(2)[:, None], np.arange(n_inputs))
    bins = first % np.uint64(max(lsh.L * lsh.K, 1))
    return DophConstants(bins.astype(np.int32), second, _detours(lsh, seed, layer))


def centroid_constants(lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> np.ndarray:
    """Return zeros, float32, shape (n_centroids, n_inputs), for the centroids that a rebuild computes (S34)."""
    return np.zeros((lsh.n_centroids, n_inputs), dtype=np.float32)


def samples_to_cluster(lsh: LshConfig, seed: int, layer: int, rebuild: int, n_samples: int) -> np.ndarray:
    """Draw the training samples whose inputs to a layer are clustered in a rebuild. Implements S34.

    Returns
    -------
    ndarray of int64, shape (SAMPLES_A_CENTROID * 2**K,)
        In random order; a sample may occur more than once.
    """
    places = np.arange(SAMPLES_A_CENTROID * lsh.n_centroids)
    return draw(mix(seed, Purpose.QUERIES, layer, rebuild, places), n_samples)


CONSTANTS: dict[str, Callable[[LshConfig, int, int, int], HashConstants]] = {
    "simhash": simhash_constants,
    "wta": wta_constants,
    "dwta": dwta_constants,
    "doph": doph_constants,
    "centroid": centroid_constants,
}


def _permuted_bins(purpose: Purpose, lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> np.ndarray:
    """Cut permutations of the coordinates into bins, using as many permutations as needed."""
    n_bins, size = lsh.L * lsh.K, min(lsh.base, n_inputs)
    each = n_inputs // size  # bins in a permutation; what is left over is not used
    bins = np.empty((-(-n_bins // each), each, size), dtype=np.int32)
    for number in range(len(bins)):
        order = permutation(seed, purpose, layer, number, n=n_inputs)
        bins[number] = order[: each * size].reshape(each, size)
    return bins.reshape(-1, size)[:n_bins]


def _detours(lsh: LshConfig, seed: int, layer: int) -> np.ndarray:
    n_bins = lsh.L * lsh.K
    keys = mix(seed, Purpose.DENSIFY, layer, np.arange(n_bins)[:, None], np.arange(1, TRIES + 1))
    return (keys % np.uint64(max(n_bins, 1))).astype(np.int32)
