"""Keyed randomness: each draw depends only on (seed, purpose, indices), not on when or where it is made.

There is no generator state. The same key gives the same draw, so the reference, the fast path and any worker process
see the same numbers. The mixer is the output function of splitmix64 (Steele, Lea and Flood, OOPSLA 2014), chained over
the words of the key.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import NamedTuple

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN, _M1, _M2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Purpose(IntEnum):
    """The second word of every key: the purpose of the draw. Numbers are never reused."""

    FOLD = 1
    SIMHASH = 2
    INSERTION = 3
    TABLE_ORDER = 4
    BUCKET_START = 5
    PAD_SAMPLE = 6
    PAD_BATCH = 7
    SAMPLE_ORDER = 8
    EVALUATION = 9
    GENERATE = 10
    WTA = 11
    DWTA = 12
    DOPH = 13
    DENSIFY = 14
    RESERVOIR = 15
    FINGERPRINT = 16
    QUERIES = 17
    INDEX = 18
    VALIDATION = 19
    TEXT = 20


class Key(NamedTuple):
    """The words of a key that all draws of a step in one layer share.

    Attributes
    ----------
    seed : int
    layer : int
        The word of the layer, or of a shard of it (S31).
    epoch : int
        From 0.
    step : int
        Counted over the whole run, from 1.
    """

    seed: int
    layer: int
    epoch: int = 0
    step: int = 0


def _mix_word(state: int) -> int:
    z = (state + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    return z ^ (z >> 31)


def _mix_words(state: np.ndarray) -> np.ndarray:
    z = state + np.uint64(_GOLDEN)
    z ^= z >> np.uint64(30)
    z *= np.uint64(_M1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_M2)
    z ^= z >> np.uint64(31)
    return z


def mix(seed: int, purpose: Purpose, *indices: int | np.ndarray) -> np.ndarray:
    """Mix the words of a key into 64 random bits. Implements S2.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**64.
    purpose : Purpose
    *indices : int or integer array
        Further words; arrays are broadcast against each other.

    Returns
    -------
    ndarray of uint64
        With the broadcast shape of `indices` (0-dimensional if all are scalars). Keys that differ in the last
        word only are distinct, since each step of the mixer is a bijection.
    """
    state: int | np.ndarray = 0
    for word in (seed, purpose, *indices):
        if isinstance(word, np.ndarray) and word.ndim:
            words = word.astype(np.uint64)
            words = words ^ (np.uint64(state) if isinstance(state, int) else state)
            state = _mix_words(words)
        elif isinstance(state, int):
            state = _mix_word(state ^ (int(word) & _MASK))
        else:
            state = _mix_words(state ^ np.uint64(int(word) & _MASK))
    return np.asarray(state, dtype=np.uint64)


def draw(keys: np.ndarray, n: int | np.ndarray) -> np.ndarray:
    """Scale keys to integers in [0, n): the upper 32 bits times n, shifted down by 32. Implements S3.

    Parameters
    ----------
    keys : ndarray of uint64
    n : int, or ndarray of int of the shape of `keys`
        1 <= n < 2**32.

    Returns
    -------
    ndarray of int64, of the shape of `keys`.
    """
    return (((np.asarray(keys) >> np.uint64(32)) * np.asarray(n, np.uint64)) >> np.uint64(32)).astype(np.int64)


def permutation(seed: int, purpose: Purpose, *indices: int, n: int) -> np.ndarray:
    """Permute 0..n-1 by key: the order that sorts mix(seed, purpose, *indices, i). Implements S3.

    The keys are distinct (see `mix`), so every sorting algorithm gives the same order.

    Returns
    -------
    ndarray of int64, shape (n,).
    """
    return np.argsort(mix(seed, purpose, *indices, np.arange(n)))


def text_word(text: str) -> int:
    """Hash a string to one word of a key: the first 8 bytes of its BLAKE2b digest, little-endian. Implements S2."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")
