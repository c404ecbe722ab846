"""From vectors to bucket addresses: the hash families, and the folding of long codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..common.hash_constants import CONSTANTS, HashConstants
from ..common.lsh_config import LshConfig
from ..common.rng import Purpose, mix
from .centroid import centroid_codes
from .doph import doph_codes
from .dwta import dwta_codes
from .simhash import simhash_codes
from .wta import wta_codes

Codes = Callable[[np.ndarray, Any, LshConfig], np.ndarray]  # of vectors; a family knows its own constants
CODES: dict[str, Codes] = {
    "simhash": simhash_codes,
    "wta": wta_codes,
    "dwta": dwta_codes,
    "doph": doph_codes,
    "centroid": centroid_codes,
}


def hash_constants(lsh: LshConfig, seed: int, layer: int, n_inputs: int) -> HashConstants:
    """Return the constants of a layer's hash functions for vectors of length `n_inputs`.

    `layer` is its word in keys, or that of a shard (S31). Only centroids change during training (S14). Shapes and
    dtypes are those of the family's function in `slide_ref.common.hash_constants`.
    """
    return CONSTANTS[lsh.family](lsh, seed, layer, n_inputs)


def fold(codes: np.ndarray, lsh: LshConfig, seed: int, layer: int) -> np.ndarray:
    """Map codes to addresses: a short code is its own address, a longer one is hashed. Implements S4.

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
    addresses = np.zeros(codes.shape, dtype=np.int64)
    for table in range(codes.shape[1]):
        mixed = mix(seed, Purpose.FOLD, layer, table, codes[:, table])
        addresses[:, table] = mixed >> np.uint64(64 - lsh.address_bits)
    return addresses


def addresses_of(vectors: np.ndarray, constants: HashConstants, lsh: LshConfig, seed: int, layer: int) -> np.ndarray:
    """Return the bucket address in each table of each of some vectors, shape (n, d): hash, then fold (S4).

    Returns
    -------
    ndarray of int64, shape (n, L)
    """
    return fold(CODES[lsh.family](vectors, constants, lsh), lsh, seed, layer)
