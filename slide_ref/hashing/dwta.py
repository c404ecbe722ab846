"""Densified winner-take-all (DWTA): WTA over the non-zero coordinates only (Chen and Shrivastava, UAI 2018).

For a sparse vector most WTA bins hold only zeros and carry no information. Here such a bin is empty, and borrows the
digit of another bin (densification; Shrivastava, ICML 2017).
"""

from __future__ import annotations

import numpy as np

from ..common.hash_constants import DwtaConstants
from ..common.lsh_config import LshConfig
from .wta import pack

EMPTY = -1


def densify(digits: np.ndarray, detours: np.ndarray) -> np.ndarray:
    """Give each empty bin of a vector the digit of the first bin on its detour that is not empty. Implements S20.

    Parameters
    ----------
    digits : ndarray of int, shape (n_bins,)
        `EMPTY` in empty bins.
    detours : ndarray of int, shape (n_bins, n_tries)
        The bins that each bin tries, first to last.

    Returns
    -------
    ndarray of int, shape (n_bins,)
        0 if all bins tried were empty.
    """
    dense = digits.copy()
    for j in np.flatnonzero(digits == EMPTY):
        met = (digits[other] for other in detours[j] if digits[other] != EMPTY)
        dense[j] = next(met, 0)
    return dense


def dwta_codes(vectors: np.ndarray, constants: DwtaConstants, lsh: LshConfig) -> np.ndarray:
    """Return the code of each vector in each table. Implements S20.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
        Finite values.
    constants : DwtaConstants
        From `slide_ref.common.hash_constants.dwta_constants`.
    lsh : LshConfig

    Returns
    -------
    ndarray of uint64, shape (n, L)
    """
    codes = np.zeros((len(vectors), lsh.L), dtype=np.uint64)
    for i, vector in enumerate(vectors):
        digits = np.full(len(constants.bins), EMPTY)
        for j, coordinates in enumerate(constants.bins):
            values = vector[coordinates]
            places = np.flatnonzero(values)
            if len(places):
                digits[j] = places[np.argmax(values[places])]
        codes[i] = pack(densify(digits, constants.detours), lsh)
    return codes
