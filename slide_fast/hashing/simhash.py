"""SimHash by a single matrix product."""

from __future__ import annotations

import numpy as np

from slide_ref.common.lsh_config import LshConfig

from ..kernels.blas_warnings import without_false_alarms


@without_false_alarms
def simhash_codes(vectors: np.ndarray, constants: np.ndarray, lsh: LshConfig) -> np.ndarray:
    """Return the codes of vectors in every table, as `slide_ref.hashing.simhash.simhash_codes` does. Implements S5.

    Constants that have the dtype of `vectors` are not copied.
    """
    K, L = lsh.K, lsh.L
    bits = (vectors @ constants.astype(vectors.dtype, copy=False).T > 0).reshape(len(vectors), L, K)
    if K <= 24:  # every code is a whole number that float32 holds: a second product packs the bits
        weights = np.float32(2) ** np.arange(K - 1, -1, -1, dtype=np.float32)
        return (bits.astype(np.float32) @ weights).astype(np.uint64)
    codes = np.zeros((len(vectors), L), dtype=np.uint64)
    for digit in range(K):
        codes = (codes << np.uint64(1)) | bits[:, :, digit]
    return codes
