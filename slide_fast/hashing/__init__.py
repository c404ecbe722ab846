"""From vectors to bucket addresses: the hash families, and the folding of long codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slide_ref.common.hash_constants import CONSTANTS, HashConstants, simhash_constants
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.rng import Purpose, mix

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
    """Return the constants of a layer's hash functions (S14); for SimHash as float32, ready for products."""
    if lsh.family == "simhash":
        return simhash_constants(lsh, seed, layer, n_inputs).astype(np.float32)
    return CONSTANTS[lsh.family](lsh, seed, layer, n_inputs)


def fold(codes: np.ndarray, lsh: LshConfig, seed: int, layer: int) -> np.ndarray:
    """Map codes, uint64 (n, L), to addresses, int64 (n, L), as `slide_ref.hashing.fold` does. Implements S4."""
    if lsh.code_bits <= lsh.address_bits:
        return codes.astype(np.int64)
    mixed = mix(seed, Purpose.FOLD, layer, np.arange(codes.shape[1]), codes)
    return (mixed >> np.uint64(64 - lsh.address_bits)).astype(np.int64)


def addresses_of(vectors: np.ndarray, constants: HashConstants, lsh: LshConfig, seed: int, layer: int) -> np.ndarray:
    """Return each vector's bucket address in each table, int64 (n, L): hash, then fold."""
    return fold(CODES[lsh.family](vectors, constants, lsh), lsh, seed, layer)
