"""From vectors to addresses of buckets: the hash families, and the fold of long codes."""

from __future__ import annotations

import numpy as np

from slide_ref.common.config import LshConfig
from slide_ref.common.hash_constants import simhash_constants
from slide_ref.common.rng import Purpose, mix

from .simhash import simhash_codes

CODES = {"simhash": simhash_codes}
CONSTANTS = {"simhash": simhash_constants}


def hash_constants(lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> np.ndarray:
    """The constants of a layer's hash functions, as float32, ready for products (S14)."""
    return CONSTANTS[lsh.family](seed, layer, n_inputs, lsh.K, lsh.L).astype(np.float32)


def fold(codes: np.ndarray, lsh: LshConfig, seed: int, layer: int) -> np.ndarray:
    """Addresses of codes: the code itself if it has few bits, else mixed down. Implements S4.

    Parameters
    ----------
    codes : ndarray of uint64, shape (n, L)
    lsh : LshConfig
    seed, layer : int
        Words of the key.

    Returns
    -------
    ndarray of int64, shape (n, L)
        Values in [0, 2**lsh.address_bits).
    """
    if lsh.code_bits <= lsh.address_bits:
        return codes.astype(np.int64)
    mixed = mix(seed, Purpose.FOLD, layer, np.arange(codes.shape[1]), codes)
    return (mixed >> np.uint64(64 - lsh.address_bits)).astype(np.int64)


def addresses_of(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig, seed: int, layer: int) -> np.ndarray:
    """The bucket of each vector in each table: hash, then fold.

    Returns
    -------
    ndarray of int64, shape (n, L)
    """
    return fold(CODES[lsh.family](vectors, constants, lsh.K, lsh.L), lsh, seed, layer)
