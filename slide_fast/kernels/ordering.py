"""Whole numbers that sort as wanted: scores with their ids, ids with their places."""

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


def differs(keys: np.ndarray) -> np.ndarray:
    """Flag the keys that differ from the previous one; the first does."""
    flags = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=flags[1:])
    return flags


def concatenate_slices(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the indices of the slices [start, start + length) one after another, int64."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def distinct(n: int, *ids: np.ndarray) -> np.ndarray:
    """Return the distinct ids in some arrays of ids in [0, n), ascending, int64."""
    keys = np.concatenate(ids)
    if len(keys) > n:  # to mark them costs less than to sort them
        marked = np.zeros(n, dtype=bool)
        marked[keys] = True
        return np.flatnonzero(marked)
    keys.sort()
    return keys[differs(keys)].astype(np.int64)


def grouped(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group equal ids, which are in [0, 2^31).

    Returns
    -------
    distinct : ndarray of int64, shape (n_distinct,)
        The ids, ascending.
    starts : ndarray of int64, shape (n_distinct + 1,)
        Places of id i are ``places[starts[i]:starts[i + 1]]``.
    places : ndarray of int64, shape (n,)
        Places in `ids`, ascending for each id.
    """
    keys = ids.astype(np.int64)
    keys <<= 32
    keys |= np.arange(len(keys))
    keys.sort()
    places = keys & 0xFFFFFFFF
    keys >>= 32
    starts = np.flatnonzero(differs(keys))
    return keys[starts], np.append(starts, len(keys)), places
