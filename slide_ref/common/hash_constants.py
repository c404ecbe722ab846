"""Constants of the hash functions: one function a family. They come from the mixer alone, so that no release of
NumPy changes the tables of a saved model."""

from __future__ import annotations

import numpy as np

from .rng import Purpose, draw, mix


def simhash_constants(seed: int, layer: int, n_inputs: int, K: int, L: int) -> np.ndarray:
    """Signed sparse projections, K a table. Implements S5.

    Parameters
    ----------
    seed, layer : int
        Words of the key.
    n_inputs : int
        Length of the vectors that will be hashed.
    K, L : int
        Bits a code, tables.

    Returns
    -------
    ndarray of int8, shape (L * K, n_inputs)
        Entries -1, 0 and +1, one third of them non-zero on average; row ``table * K + digit``.
    """
    projections = np.arange(L * K)[:, None]
    sides = draw(mix(seed, Purpose.SIMHASH, layer, projections, np.arange(n_inputs)), 6)
    return (sides == 0).astype(np.int8) - (sides == 1).astype(np.int8)
