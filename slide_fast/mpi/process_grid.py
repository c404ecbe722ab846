"""Who works with whom: processes are the workers of ranks, and one worker of every rank together are a team.

The workers of a rank see the same memory. A team trains on micro-batches of its own, its ranks in step with each other;
teams wait for each other only where all meet.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from slide_ref.common.errors import ConfigError
from slide_ref.common.lsh_config import whole

from ..parallel.shared_arrays import Handle, SharedArrays
from .communicator import Communicator, together


class Place(NamedTuple):
    """Where this process stands among all processes of a run.

    Attributes
    ----------
    everyone : Communicator
        All processes: those of rank 0, then those of rank 1, and so on.
    ranks : Communicator
        This process's team; a place in it is the number of the rank.
    workers : Communicator
        Those of this process's rank; a place in it is the number of the worker and of its team.
    """

    everyone: Communicator
    ranks: Communicator
    workers: Communicator


def check_number(n_processes: int, n_workers: int) -> None:
    """Raise ConfigError where so many processes cannot be ranks of so many workers each."""
    n_workers = whole("n_workers", n_workers, 1)
    if n_processes % n_workers:
        raise ConfigError(
            f"{n_processes} processes cannot be ranks of {n_workers} workers each; start a multiple of {n_workers} "
            "processes, or take a number of workers that divides theirs"
        )


def place_of(everyone: Communicator, n_workers: int = 1) -> Place:
    """Make ranks of so many workers each; all processes must ask. Raises ConfigError as `check_number`."""
    check_number(everyone.size, n_workers)
    if n_workers == 1:
        return Place(everyone, everyone, Communicator())
    everyone.n_workers = n_workers
    rank, worker = divmod(everyone.rank, n_workers)
    return Place(everyone, everyone.split(worker), everyone.split(rank))


def shared_by_workers(layout: dict[str, tuple[tuple[int, ...], np.typing.DTypeLike]], place: Place) -> SharedArrays:
    """A block, all zeros, that the workers of a rank share; all processes must ask.

    Raises
    ------
    MemoryError
        On all processes, if one has not enough left.
    ConfigError
        If the workers of a rank are not on one machine.
    """
    block = None
    with together(place.everyone):
        if place.workers.rank == 0:
            block = SharedArrays.create(layout)
    handle = place.workers.broadcast(None if block is None else block.handle)
    if place.workers.size > 1 and handle.descriptors:
        return _hand_over(block, handle, place)
    return SharedArrays.attach(handle) if block is None else block


def _hand_over(block: SharedArrays | None, handle: Handle, place: Place) -> SharedArrays:
    """Give the descriptor of a block, on the one worker that has it, to the others."""
    with ExitStack() as stack:
        address, desk = "", stack.enter_context(socket.socket(socket.AF_UNIX))
        with together(place.everyone):
            if block is not None:
                address = os.path.join(stack.enter_context(TemporaryDirectory(prefix="slide-")), "desk")
                desk.bind(address)
                desk.listen(place.workers.size)
        address = place.workers.broadcast(address)
        with together(place.everyone):
            if block is None:
                _call(desk, address, place.workers.size)
        if block is not None:
            for _ in range(place.workers.size - 1):
                with desk.accept()[0] as visitor:
                    socket.send_fds(visitor, [b"-"], list(handle.descriptors))
            return block
        _, (descriptor,), _, _ = socket.recv_fds(desk, 1, 1)
    try:
        return SharedArrays.attach(dataclasses.replace(handle, source=descriptor))
    finally:
        os.close(descriptor)


def _call(desk: socket.socket, address: str, n_workers: int) -> None:
    try:
        desk.connect(address)
    except OSError as error:
        raise ConfigError(
            f"the {n_workers} workers of a rank must be on one machine, and this one, on {socket.gethostname()}, does "
            f"not reach the first ({error.strerror}); start a multiple of {n_workers} processes on each machine"
        ) from error
