"""SimHash: one bit per projection, the side of a hyperplane on which a vector lies (paper, section 3.1)."""

from __future__ import annotations

import numpy as np

from ..common.lsh_config import LshConfig


def simhash_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the code of each vector in each table. Implements S5.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
    constants : ndarray of int8, shape (L * K, d)
        From `slide_ref.common.hash_constants.simhash_constants`.
    lsh : LshConfig

    Returns
    -------
    ndarray of uint64, shape (n, L)
        Bit 1 where the projection is above 0; the first bit is the most significant.

    Examples
    --------
    A table of three projections, and two vectors that point in opposite directions:

    >>> import numpy as np
    >>> from slide_ref.common.lsh_config import LshConfig
    >>> from slide_ref.hashing.simhash import simhash_codes
    >>> signs = np.array([[1, 0], [0, 1], [1, -1]], dtype=np.int8)
    >>> codes = simhash_codes(np.array([[2.0, 1.0], [-2.0, -1.0]]), signs, LshConfig(K=3, L=1))
    >>> [f"{code:03b}" for code in codes[:, 0].tolist()]
    ['111', '000']
    """
    signs = constants.astype(vectors.dtype)
    codes = np.zeros((len(vectors), lsh.L), dtype=np.uint64)
    for i, vector in enumerate(vectors):
        for table in range(lsh.L):
            code = 0
            for projection in signs[table * lsh.K : (table + 1) * lsh.K] @ vector:
                code = 2 * code + int(projection > 0)
            codes[i, table] = code
    return codes
