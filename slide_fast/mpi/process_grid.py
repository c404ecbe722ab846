"""Grouping of processes: each is a worker of a rank, and one worker from every rank form a team.

The workers of a rank share memory. Each team trains on its own micro-batches, its ranks in lockstep; teams wait for
each other only at synchronisation points.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from typing import NamedTuple

from slide_ref.common.checks import whole
from slide_ref.common.errors import ConfigError

from ..parallel.shared_arrays import Handle, Layout, SharedArrays
from .communicator import Communicator, together


class Place(NamedTuple):
    """The position of this process among all processes of a run.

    Attributes
    ----------
    everyone : Communicator
        All processes: those of rank 0, then those of rank 1, and so on.
    ranks : Communicator
        This process's team, in the order of ranks.
    workers : Communicator
        The workers of this process's rank, in the order of teams.
    """

    everyone: Communicator
    ranks: Communicator
    workers: Communicator


def check_number(n_processes: int, n_workers: int) -> None:
    """Raise ConfigError if `n_processes` cannot be grouped into ranks of `n_workers` each."""
    n_workers = whole("n_workers", n_workers, 1)
    if n_processes % n_workers:
        raise ConfigError(
            f"{n_processes} processes cannot be ranks of {n_workers} workers each; start a multiple of {n_workers} "
            "processes, or choose a number of workers that divides their number"
        )


def place_of(everyone: Communicator, n_workers: int = 1) -> Place:
    """Group processes into ranks of `n_workers` each; all must call. Raises ConfigError like `check_number`."""
    check_number(everyone.size, n_workers)
    if n_workers == 1:
        return Place(everyone, everyone, Communicator())
    everyone.n_workers = n_workers
    rank, worker = divmod(everyone.rank, n_workers)
    return Place(everyone, everyone.split(worker), everyone.split(rank))


def shared_by_workers(layout: Layout, place: Place) -> SharedArrays:
    """Allocate a block of zeros that the workers of a rank share; all processes must call.

    On all processes, raises MemoryError if one does not have enough memory left, and ConfigError if the workers of a
    rank are not on one machine.
    """
    block = None
    with together(place.everyone):
        if place.workers.rank == 0:
            block = SharedArrays.create(layout)
    own = None if block is None else (socket.gethostname(), os.getpid(), block.handle)
    host, pid, handle = place.workers.broadcast(own)
    with together(place.everyone):
        return _attached(host, pid, handle, place.workers.size) if block is None else block


def _attached(host: str, pid: int, handle: Handle, n_workers: int) -> SharedArrays:
    """Attach to the block made by process `pid` on `host`. On Linux any process of the same user can open its file."""
    if not handle.descriptors:
        return SharedArrays.attach(handle)
    try:
        if host != socket.gethostname():
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        descriptor = os.open(f"/proc/{pid}/fd/{handle.source}", os.O_RDWR)
    except OSError as error:
        raise ConfigError(
            f"the {n_workers} workers of a rank must be on one machine with Linux, and this one, on "
            f"{socket.gethostname()}, does not reach the first, on {host} ({error.strerror}); start a multiple of "
            f"{n_workers} processes on each machine, or use --workers 1"
        ) from error
    try:
        return SharedArrays.attach(dataclasses.replace(handle, source=descriptor))
    finally:
        os.close(descriptor)
