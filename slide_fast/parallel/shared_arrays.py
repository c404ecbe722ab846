"""Blocks of memory shared by several processes and divided into named arrays; manages the memory's lifetime.

On POSIX a block is an unnamed file whose descriptor the workers inherit, so a killed process leaves nothing behind. On
Linux it is a memfd, so the size of /dev/shm does not matter.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import secrets
import weakref
from dataclasses import dataclass

import numpy as np

from .machine import require_memory
from .streams import off_standard_descriptors
from .units import size

PAGE = 4096
CACHE_LINE = 64
PIECE = 1 << 28
LIMIT = "raise the limit on the size of files (ulimit -f), which holds for shared memory too"
ADVICE = "use fewer features, labels or hidden neurons, free memory, or raise the container's limit"
KIND = "memfd" if hasattr(os, "memfd_create") else "shm" if os.name == "posix" else "tagged"

Layout = dict[str, tuple[tuple[int, ...], np.typing.DTypeLike]]


@dataclass(frozen=True)
class Handle:
    """What another process needs to attach to a block: picklable.

    Attributes
    ----------
    source : int or str
        The descriptor, which the process must have inherited under the same number; on Windows the block's name.
    n_bytes : int
        Size of the block.
    layout : dict of str to (shape, dtype as a string)
    """

    source: int | str
    n_bytes: int
    layout: Layout

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a child process must inherit to attach."""
        return (self.source,) if isinstance(self.source, int) else ()


def _places(layout: Layout) -> tuple[dict[str, slice], int]:
    """Compute each array's offset, aligned to a page (small arrays: to a cache line), and the block's size."""
    places, end = {}, 0
    for name, (shape, dtype) in layout.items():
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        alignment = PAGE if n_bytes >= PAGE else CACHE_LINE
        start = -(-end // alignment) * alignment
        end = start + n_bytes
        places[name] = slice(start, end)
    return places, max(1, -(-end // PAGE)) * PAGE


def _unnamed_file(kind: str, name: str) -> int:
    if kind == "memfd":
        return os.memfd_create("slide")
    import _posixshmem  # what multiprocessing.shared_memory is made of; that class cannot give up the name

    name = f"/{name}"
    descriptor = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    _posixshmem.shm_unlink(name)
    return descriptor


def _check_left(n_bytes: int) -> None:
    require_memory(n_bytes, "the shared arrays need", ADVICE)


def _fill(descriptor: int, n_bytes: int) -> None:
    """Allocate the memory now: a shortage is an error here, but would be a SIGBUS later.

    A memfd has no limit of its own, and the kernel kills processes rather than refuse memory. So allocation proceeds in
    pieces, as long as there is enough for all the rest.
    """
    if not hasattr(os, "posix_fallocate"):
        os.ftruncate(descriptor, n_bytes)
        return
    for start in range(0, n_bytes, PIECE):
        _check_left(n_bytes - start)
        os.posix_fallocate(descriptor, start, min(PIECE, n_bytes - start))


def _allocate(kind: str, n_bytes: int) -> tuple[int | str, mmap.mmap]:
    name = f"slide-{os.getpid()}-{secrets.token_hex(8)}"  # unique, and tells the owner
    if kind == "tagged":
        return name, mmap.mmap(-1, n_bytes, tagname=name)  # type: ignore[call-arg]  # Windows
    descriptor = _unnamed_file(kind, name)
    try:
        _fill(descriptor, n_bytes)
        # with all its pages, where the system can (Linux): what is taken is then also what is measured
        return descriptor, mmap.mmap(descriptor, n_bytes, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
    except BaseException:
        os.close(descriptor)
        raise


class SharedArrays:
    """Named arrays in one block of shared memory. Made by `create` or `attach`; a context manager.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Views of the block. A view kept beyond `close` stays valid: the memory is freed with the last view.
    handle : Handle
        What another process needs to attach.
    """

    def __init__(self, handle: Handle, block: mmap.mmap):
        self.handle = handle
        whole = np.frombuffer(block, dtype=np.uint8)  # keeps the mapping alive, and so does every view
        places, _ = _places(handle.layout)
        self.arrays = {
            name: whole[places[name]].view(dtype).reshape(shape) for name, (shape, dtype) in handle.layout.items()
        }
        self._free: weakref.finalize | None = None

    @classmethod
    def create(cls, layout: Layout, kind: str | None = None) -> SharedArrays:
        """Allocate a block of zeros.

        Parameters
        ----------
        layout : dict of str to (shape, dtype)
            Arrays of a page or more are aligned to a page, smaller ones to a cache line.
        kind : str, optional
            ``"memfd"`` (Linux), ``"shm"`` (POSIX) or ``"tagged"`` (Windows); default: the first one available.

        Raises
        ------
        MemoryError
            With both sizes, if the block is larger than what the machine or the control group has left.
        """
        plain: Layout = {name: (tuple(shape), np.dtype(dtype).str) for name, (shape, dtype) in layout.items()}
        _, n_bytes = _places(plain)
        _check_left(n_bytes)
        try:
            with off_standard_descriptors():
                source, block = _allocate(kind or KIND, n_bytes)
        except OSError as error:
            if os.name == "nt" or error.errno in (errno.ENOMEM, errno.ENOSPC, errno.EFBIG):
                need = f"the shared arrays need {size(n_bytes)}, more than the system provides"
                advice = LIMIT if error.errno == errno.EFBIG else ADVICE
                raise MemoryError(f"{need}; {advice}") from error
            raise
        shared = cls(Handle(source, n_bytes, plain), block)
        if isinstance(source, int):
            shared._free = weakref.finalize(shared, os.close, source)
        return shared

    @classmethod
    def attach(cls, handle: Handle) -> SharedArrays:
        """Attach to the block of another process, or again to one of this process."""
        if isinstance(handle.source, int):
            return cls(handle, mmap.mmap(handle.source, handle.n_bytes))
        return cls(handle, mmap.mmap(-1, handle.n_bytes, tagname=handle.source))  # type: ignore[call-arg]  # Windows

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def close(self) -> None:
        """Release the block; a second call does nothing. The memory is freed when all processes have released it."""
        self.arrays = {}
        if self._free is not None:
            self._free()

    def __enter__(self) -> SharedArrays:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
