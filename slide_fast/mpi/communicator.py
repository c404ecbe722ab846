"""Communication between the ranks of a run: a single process, or the processes that ``mpiexec`` started.

Code that uses a `Communicator` need not know which. Only `mpi_ranks` imports mpi4py.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from slide_ref.common.errors import ConfigError, DivergedError, SlideError

from ..parallel.streams import Screen

PIECE = 1 << 24  # bytes of an array on their way at once
INTERRUPTED = 130  # exit code after Ctrl-C, as shells count
SECONDS_TO_SPEAK = 0.5  # last words: mpiexec drops what it has not read when the end comes


class Communicator:
    """Communicator of a single process, which sends nothing.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and the number of processes.
    n_workers : int
        Number of consecutive processes that error messages call one rank.
    messages, n_bytes : Counter
        Calls so far, and bytes that this rank passed to them, by kind of call; broadcasts of tasks, which are a few
        numbers, are not counted.
    """

    rank = 0
    size = 1
    n_workers = 1

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.n_bytes: Counter[str] = Counter()

    def _count(self, kind: str, n_bytes: int) -> None:
        self.messages[kind] += 1
        self.n_bytes[kind] += n_bytes

    def allreduce(self, array: np.ndarray, how: str = "sum") -> np.ndarray:
        """Replace this rank's array by the element-wise ``"sum"`` or ``"max"`` over all ranks, and return it.

        Shape and dtype must be the same on all ranks; the result is the same to the byte.
        """
        self._count("allreduce", array.nbytes)
        return array

    def allgather(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the rows of every rank, in the order of the ranks; ranks may have different numbers of rows."""
        self._count("allgather", rows.nbytes)
        return [rows]

    def gather(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the rows of every rank on rank 0; the others get only their own rows."""
        self._count("gather", rows.nbytes)
        return [rows]

    def take_over(self, rows: np.ndarray) -> None:
        """Replace this rank's rows by those of rank 0, which have the same shape on all ranks."""
        self._count("take over", rows.nbytes)

    def broadcast(self, message: Any = None) -> Any:
        """Return the message of rank 0 on every rank; it must be picklable."""
        return message

    def split(self, colour: int) -> Communicator:
        """Return a communicator of the ranks of the same colour, in the same order; all must call."""
        return Communicator()

    def barrier(self) -> None:
        """Wait until every rank has called this."""

    def agree(self, error: Exception | None) -> None:
        """Raise an error on all ranks if any of them has one."""
        if error is not None:
            raise error

    def title(self, number: int | None = None) -> str:
        """Return the name of process `number`, by default this one."""
        rank, worker = divmod(self.rank if number is None else number, self.n_workers)
        return f"rank {rank}" if self.n_workers == 1 else f"rank {rank}, worker {worker}"

    def names(self) -> list[str]:
        """Return where each rank runs: process id and machine."""
        return [f"process {os.getpid()} on {socket.gethostname()}"]

    def give_up(self, error: BaseException) -> NoReturn:
        """End all ranks because this one cannot continue, and the others wait for it."""
        raise error


class MpiRanks(Communicator):
    """The processes of one MPI run.

    Parameters
    ----------
    world : mpi4py.MPI.Comm
    operations : dict of str to mpi4py.MPI.Op
        ``"sum"`` and ``"max"``.
    """

    def __init__(self, world: Any, operations: dict[str, Any]):
        super().__init__()
        self._world, self._operations = world, operations
        self.rank, self.size = world.rank, world.size

    def allreduce(self, array: np.ndarray, how: str = "sum") -> np.ndarray:
        self._count("allreduce", array.nbytes)
        received = np.empty_like(array)
        self._world.Allreduce(array, received, self._operations[how])
        array[...] = received
        return array

    def allgather(self, rows: np.ndarray) -> list[np.ndarray]:
        self._count("allgather", rows.nbytes)
        return self._parts(rows, lambda own, whole: self._world.Allgatherv(own, whole))

    def gather(self, rows: np.ndarray) -> list[np.ndarray]:
        self._count("gather", rows.nbytes)
        parts = self._parts(rows, lambda own, whole: self._world.Gatherv(own, whole if self.rank == 0 else None))
        return parts if self.rank == 0 else [rows]

    def _parts(self, rows: np.ndarray, exchange: Any) -> list[np.ndarray]:
        rows = np.ascontiguousarray(rows)
        self._count("sizes", 8)
        counts = np.empty(self.size, dtype=np.int64)
        self._world.Allgather(np.array([len(rows)], dtype=np.int64), counts)
        whole = np.empty((int(counts.sum()), *rows.shape[1:]), rows.dtype)
        row_bytes = whole[:1].nbytes if len(whole) else 0
        n_bytes = (counts * row_bytes).tolist()
        exchange(rows.reshape(-1).view(np.uint8), [whole.reshape(-1).view(np.uint8), n_bytes])
        return np.split(whole, np.cumsum(counts)[:-1])

    def take_over(self, rows: np.ndarray) -> None:
        super().take_over(rows)
        whole = rows.reshape(-1).view(np.uint8)
        for start in range(0, len(whole), PIECE):
            self._world.Bcast(whole[start : start + PIECE])

    def broadcast(self, message: Any = None) -> Any:
        return self._world.bcast(message)

    def split(self, colour: int) -> Communicator:
        part = self._world.Split(colour, self.rank)
        return Communicator() if part.size == 1 else MpiRanks(part, self._operations)

    def barrier(self) -> None:
        self._world.Barrier()

    def agree(self, error: Exception | None) -> None:
        errors = self._world.allgather(error)
        for rank, found in enumerate(errors):
            if found is not None and (rank == 0 or isinstance(found, DivergedError)):
                raise found
            if found is not None:
                kind = ConfigError if isinstance(found, ConfigError) else SlideError
                raise kind(f"{self.title(rank)}: {found}") from found

    def names(self) -> list[str]:
        return self._world.allgather(super().names()[0])

    def give_up(self, error: BaseException) -> NoReturn:
        what = f"{type(error).__name__}: {error}"
        told = f"slide: error: {self.title()}, {super().names()[0]}, ends the run: {what}"
        is_interrupt = isinstance(error, KeyboardInterrupt)
        if not is_interrupt or self.rank == 0:
            print("slide: interrupted" if is_interrupt else told, file=Screen(), flush=True)
        time.sleep(SECONDS_TO_SPEAK)
        self._world.Abort(INTERRUPTED if is_interrupt else 1)
        raise error


@contextmanager
def together(ranks: Communicator) -> Iterator[None]:
    """Run a block on every rank; if it fails on one of them, all raise that rank's error."""
    error: Exception | None = None
    try:
        yield
    except (SlideError, OSError, MemoryError) as found:
        error = found
    ranks.agree(error)


def mpi_ranks() -> Communicator:
    """Return the ranks that ``mpiexec`` started together with this process, possibly this one alone.

    Raises
    ------
    SlideError
        If mpi4py, or the MPI library that it needs, is not installed.
    """
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python runs none while MPI waits for the others
        handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, an MPI library is not
        raise SlideError(
            'several ranks need mpi4py and an MPI library; install both with: pip install "slide-numpy[mpi]"'
        ) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return MpiRanks(MPI.COMM_WORLD, {"sum": MPI.SUM, "max": MPI.MAX})
