"""Reusable buffers, so that a step makes no large allocations."""

from __future__ import annotations

import math
import threading

import numpy as np

_OWN = threading.local()


class Scratch:
    """Named buffers that grow to the largest size requested; contents are lost at the next request."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray | None] = {}

    def empty(self, name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
        """Return a contiguous array with arbitrary contents, valid until the same name is requested again."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size or buffer.dtype != dtype:
            buffer = self._buffers[name] = None  # the old one goes before the new one comes
            buffer = self._buffers[name] = np.empty(size + size // 16, dtype)
        return buffer[:size].reshape(shape)

    def zeros(self, name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
        """Return an array as `empty` does, filled with zeros."""
        array = self.empty(name, shape, dtype)
        array.fill(0)
        return array

    def clean(self, name: str, size: int, dtype: np.typing.DTypeLike) -> np.ndarray:
        """Return an array of zeros, which the user must restore to zeros: it is filled only on allocation."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            self._buffers[name] = buffer = np.zeros(size, dtype)
        return buffer[:size]


def computed(weights: np.ndarray, scratch: Scratch, name: str = "computed") -> np.ndarray:
    """Return weights in the dtype for computation: float16 as float32 in a buffer, others unchanged."""
    if weights.dtype != np.float16:
        return weights
    out = scratch.empty(name, weights.shape, np.float32)
    np.copyto(out, weights)
    return out


def scratch_of_thread() -> Scratch:
    """Return buffers that the calling thread keeps between calls; for small, latency-critical work."""
    if not hasattr(_OWN, "scratch"):
        _OWN.scratch = Scratch()
    return _OWN.scratch


def positions(scratch: Scratch, union: np.ndarray, ids: np.ndarray, n: int) -> np.ndarray:
    """Find the position of each of `ids` in the ascending `union`, which must contain them all.

    Returns
    -------
    ndarray of int32, of the shape of `ids`
    """
    inverse = scratch.empty("inverse", (n,), np.int32)
    inverse[union] = np.arange(len(union), dtype=np.int32)
    return inverse[ids]
