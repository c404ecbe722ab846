"""Densified one permutation hashing: minwise hashes of the set of a vector's largest coordinates.

All digits come from one hash of each coordinate (Li, Owen and Zhang, NeurIPS 2012; Shrivastava and Li, ICML 2014;
densification as in Shrivastava, ICML 2017). The more two sets overlap, the more digits their vectors share.
"""

from __future__ import annotations

import numpy as np

from ..common.hash_constants import DophConstants
from ..common.lsh_config import LshConfig
from .dwta import EMPTY, densify
from .wta import pack


def top_coordinates(vector: np.ndarray, top: int) -> np.ndarray:
    """Return the non-zero coordinates of the `top` largest values; ties go to the lower one. Implements S21.

    Returns
    -------
    ndarray of int64
        Largest value first; fewer than `top` if fewer are non-zero.
    """
    stored = np.flatnonzero(vector)
    return stored[np.argsort(-vector[stored], kind="stable")[:top]]


def doph_codes(vectors: np.ndarray, constants: DophConstants, lsh: LshConfig) -> np.ndarray:
    """Return the code of each vector in each table. Implements S21.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
        Finite values.
    constants : DophConstants
        From `slide_ref.common.hash_constants.doph_constants`.
    lsh : LshConfig

    Returns
    -------
    ndarray of uint64, shape (n, L)
    """
    codes = np.zeros((len(vectors), lsh.L), dtype=np.uint64)
    for i, vector in enumerate(vectors):
        smallest: dict[int, int] = {}
        for coordinate in top_coordinates(vector, lsh.top):
            j, own = int(constants.bins[coordinate]), int(constants.hashes[coordinate])
            smallest[j] = min(own, smallest.get(j, own))
        digits = [smallest[j] % lsh.base if j in smallest else EMPTY for j in range(lsh.L * lsh.K)]
        codes[i] = pack(densify(np.array(digits, dtype=np.int64), constants.detours), lsh)
    return codes
