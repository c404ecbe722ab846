"""Scores and ids packed into whole numbers, which sort by score, with ties to the lower id."""

from __future__ import annotations

import numpy as np


def keys_of(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Pack each score and id into one whole number, larger for a larger score, and for a lower id in a tie."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    ordered = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    return (ordered << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - ids.astype(np.uint64))


def unpack(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores and ids of keys: the inverse of `keys_of`."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ordered >> np.uint32(31), ordered ^ np.uint32(1 << 31), ~ordered)
    ids = np.uint64(0xFFFFFFFF) - (keys & np.uint64(0xFFFFFFFF))
    return bits.view(np.float32), ids.astype(np.int32)
