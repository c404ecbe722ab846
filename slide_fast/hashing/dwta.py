"""Densified winner-take-all: winners of WTA with zeros below all other values, then densification in rounds."""

from __future__ import annotations

import numpy as np

from slide_ref.common.hash_constants import DwtaConstants
from slide_ref.common.lsh_config import LshConfig

from .wta import pack, winners

EMPTY = -1  # all bits are 1
FEW = 32


def densify(digits: np.ndarray, detours: np.ndarray) -> np.ndarray:
    """Give each empty bin the digit of the first bin on its detour that is not empty. Implements S20.

    Like `slide_ref.hashing.dwta.densify`, for many vectors: digits are int16 of shape (n_bins, n), one column per
    vector.
    """
    dense = digits.copy()
    dense[:, (digits == EMPTY).all(axis=0)] = 0  # nothing to be found
    tries = 0
    while tries < detours.shape[1] and np.count_nonzero(dense == EMPTY) * FEW > dense.size:
        held = ~(dense >> 15)  # all bits are 1 where a digit is held, and 0 where none is
        dense &= held | digits.take(detours[:, tries], axis=0, mode="clip")
        tries += 1
    bins, columns = np.nonzero(dense == EMPTY)  # few: one by one from here
    for others in detours[:, tries:].T:
        if not len(bins):
            break
        met = digits[others[bins], columns]
        full = met != EMPTY
        dense[bins[full], columns[full]] = met[full]
        bins, columns = bins[~full], columns[~full]
    dense[bins, columns] = 0
    return dense


def dwta_codes(vectors: np.ndarray, constants: DwtaConstants, lsh: LshConfig) -> np.ndarray:
    """Return the codes of vectors in every table, as `slide_ref.hashing.dwta.dwta_codes` does. Implements S20."""
    stored = vectors != 0
    if stored.all():
        return pack(winners(vectors, constants.bins)[0], lsh)
    places, largest = winners(np.where(stored, vectors, -np.inf), constants.bins)
    digits = np.where(largest == -np.inf, np.int16(EMPTY), places)
    return pack(densify(digits, constants.detours), lsh)
