"""Winner-take-all: each step compares one coordinate of many bins for all vectors."""

from __future__ import annotations

import numpy as np

from slide_ref.common.lsh_config import LshConfig

VALUES_AT_ONCE = 1 << 15  # their temporaries stay in cache


def pack(digits: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Pack the digits of many vectors, int (L * K, n), into codes, uint64 (n, L). Implements S4.

    Like `slide_ref.hashing.wta.pack`, which takes one vector.
    """
    codes = np.zeros((lsh.L, digits.shape[1]), dtype=np.uint64)
    for digit in range(lsh.K):
        codes <<= np.uint64(lsh.digit_bits)
        codes |= digits[digit :: lsh.K].astype(np.uint64)
    return codes.T


def winners(vectors: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the position of the largest value in each bin (ties: the first), and that value, both (n_bins, n).

    Positions are uint8, since bins have at most 256 coordinates.
    """
    columns = np.ascontiguousarray(vectors.T)
    places = np.zeros((len(bins), len(vectors)), dtype=np.uint8)
    largest = np.empty(places.shape, dtype=vectors.dtype)
    n_bins = max(VALUES_AT_ONCE // max(len(vectors), 1), 1)
    for start in range(0, len(bins), n_bins):
        part = slice(start, start + n_bins)
        best, won = largest[part], places[part]
        columns.take(bins[part, 0], axis=0, out=best, mode="clip")
        values = np.empty_like(best)
        for place in range(1, bins.shape[1]):
            columns.take(bins[part, place], axis=0, out=values, mode="clip")
            larger = (values > best).view(np.uint8)
            larger *= np.uint8(place)
            np.maximum(won, larger, out=won)  # a later winner has the higher place
            np.maximum(best, values, out=best)
    return places, largest


def wta_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the codes of vectors in every table, as `slide_ref.hashing.wta.wta_codes` does. Implements S19."""
    return pack(winners(vectors, constants)[0], lsh)
