"""Densified one permutation hashing: coordinates sorted by bin and hash, so that the first one in the set wins."""

from __future__ import annotations

import numpy as np

from slide_ref.common.hash_constants import DophConstants
from slide_ref.common.lsh_config import LshConfig

from .dwta import EMPTY, densify
from .wta import pack


def top_coordinates(vectors: np.ndarray, top: int) -> np.ndarray:
    """Mark each vector's coordinates of the `top` largest values, bool (n, d). Implements S21.

    Zeros are never marked; ties go to the lower coordinate.
    """
    stored = vectors != 0
    n_inputs = vectors.shape[1]
    if top >= n_inputs:
        return stored
    values = np.where(stored, vectors, -np.inf)
    least = np.partition(values, n_inputs - top, axis=1)[:, n_inputs - top, None]
    above = values > least
    level = (values == least) & stored
    room = top - above.sum(axis=1)
    crowded = np.flatnonzero(level.sum(axis=1) > room)
    level[crowded] &= level[crowded].cumsum(axis=1) <= room[crowded, None]
    return above | level


def doph_codes(vectors: np.ndarray, constants: DophConstants, lsh: LshConfig) -> np.ndarray:
    """Return the codes of vectors in every table, as `slide_ref.hashing.doph.doph_codes` does. Implements S21."""
    if not lsh.L:
        return np.zeros((len(vectors), 0), dtype=np.uint64)
    order = np.lexsort((constants.hashes, constants.bins))
    bins, starts = np.unique(constants.bins[order], return_index=True)
    held = top_coordinates(vectors, lsh.top).T[order]
    places = np.where(held, np.arange(len(order), dtype=np.int32)[:, None], np.int32(len(order)))
    # the held coordinate of the smallest hash in each bin; the length of `order` where none is held
    first = np.minimum.reduceat(places, starts, axis=0)
    digit_of_place = np.append((constants.hashes[order] % np.uint64(lsh.base)).astype(np.int16), np.int16(EMPTY))
    digits = np.full((lsh.L * lsh.K, len(vectors)), EMPTY, dtype=np.int16)
    digits[bins] = digit_of_place[first]
    return pack(densify(digits, constants.detours), lsh)
