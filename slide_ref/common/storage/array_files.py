"""One array per file: plain .npy, little-endian and in C order. Nothing is ever unpickled."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import ModelError
from .replacing import synced_file

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SAVE_AGAIN = "save the model again, or copy the whole folder again"


class Blocks(NamedTuple):
    """An array that is produced in blocks of rows, in order, and assembled only when written or needed.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    blocks : callable
        Returns an iterable of the blocks.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterable[np.ndarray]]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __array__(self, dtype: np.typing.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Assemble the array in memory."""
        return np.asarray(np.concatenate(list(self.blocks())), dtype)


Array = np.ndarray | Blocks
Arrays = Mapping[str, Array]


def write_array(path: Path, array: Array) -> dict[str, Any]:
    """Write an array, little-endian and in C order; return its entry in config.json."""
    dtype, checksum = array.dtype.newbyteorder("<"), 0
    with synced_file(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(array.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in array.blocks() if isinstance(array, Blocks) else [array]:
            content = bytes_of(np.asarray(block, dtype, order="C"))
            file.write(content)
            checksum = zlib.crc32(content, checksum)
    return {"shape": list(array.shape), "dtype": array.dtype.name, "crc32": checksum}


def bytes_of(array: np.ndarray) -> memoryview | bytes:
    """Return the bytes of an array in C order."""
    return array.data if array.size else b""


def read_array(file: BinaryIO, path: Path, shape: tuple[int, ...], dtype: str, mmap: bool) -> np.ndarray:
    """Read, or memory-map, what `write_array` wrote. Raises ModelError if shape or dtype differ."""
    wanted = np.dtype(dtype).newbyteorder("<")
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("unknown version")
        found_shape, fortran_order, found = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # whatever the parser of a damaged header may meet
        raise ModelError(f"{path}: not a plain .npy file; {SAVE_AGAIN}") from error
    if found_shape != shape or found != wanted or fortran_order:
        held = f"{found} of shape {found_shape}" + (" in Fortran order" if fortran_order else "")
        raise ModelError(f"{path}: holds {held}, but config.json says {dtype} of shape {shape}; {SAVE_AGAIN}")
    stored, expected = os.fstat(file.fileno()).st_size - file.tell(), math.prod(shape) * wanted.itemsize
    if stored != expected:
        raise ModelError(f"{path}: holds {stored} bytes of data instead of {expected}; {SAVE_AGAIN}")
    if mmap and stored:
        return np.asarray(np.memmap(file, dtype=wanted, mode="r", offset=file.tell(), shape=shape))
    return np.fromfile(file, dtype=wanted).reshape(shape)
