"""Winner-take-all (WTA): a digit tells which coordinate of a bin has the largest value (Yagnik et al., ICCV 2011).

Only the order of the values matters, not their size: vectors that rank their coordinates alike share digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..common.lsh_config import LshConfig


def pack(digits: Sequence[int] | np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Pack the digits of one vector into codes. Implements S4.

    Parameters
    ----------
    digits : sequence of L * K ints
        In [0, 2**lsh.digit_bits); K per table, the first of a code is the most significant.
    lsh : LshConfig

    Returns
    -------
    ndarray of uint64, shape (L,)
    """
    codes = np.zeros(lsh.L, dtype=np.uint64)
    for table in range(lsh.L):
        code = 0
        for digit in digits[table * lsh.K : (table + 1) * lsh.K]:
            code = (code << lsh.digit_bits) + int(digit)
        codes[table] = code
    return codes


def wta_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the code of each vector in each table. Implements S19.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
        Finite values.
    constants : ndarray of int, shape (L * K, bin size)
        From `slide_ref.common.hash_constants.wta_constants`.
    lsh : LshConfig

    Returns
    -------
    ndarray of uint64, shape (n, L)
    """
    codes = np.zeros((len(vectors), lsh.L), dtype=np.uint64)
    for i, vector in enumerate(vectors):
        # argmax finds the first place of the largest value
        codes[i] = pack([int(np.argmax(vector[coordinates])) for coordinates in constants], lsh)
    return codes
