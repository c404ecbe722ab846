"""What ``mpiexec`` starts for a process of ``slide train --mpi``: it waits for the one that works, and buries it.

When one dies, MPI ends the others, and which of them was the first is nowhere told. Few imports: there is one for each.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading

from ..parallel.streams import Screen

PIPE = "SLIDE_SUPERVISOR"  # environment: a descriptor whose end tells that the supervisor is gone
NUMBERS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")  # environment: the number of a process
FAILURE = 1


def is_wanted() -> bool:
    """Whether this process is not supervised yet, on a system where it can be."""
    return os.name == "posix" and PIPE not in os.environ


def supervise(arguments: list[str], n_workers: int = 1) -> int:
    """Run the ``slide`` command in a process of its own; its exit code, or 1 and a line that names it if it died.

    Of these, `n_workers` are one rank. Signals that ask for an end are passed on. The other process ends when this one
    does.
    """
    theirs, ours = os.pipe()
    os.set_inheritable(theirs, True)
    process = subprocess.Popen(
        [sys.executable, *subprocess._args_from_interpreter_flags(), "-m", "slide_fast", *arguments],
        env=os.environ | {PIPE: str(theirs)},
        close_fds=False,  # launchers tell a process by descriptors where it finds the others
        process_group=0,  # so that Ctrl-C comes once, from here
    )
    os.close(theirs)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, frame: process.send_signal(number)) for number in numbers]
    try:
        code = process.wait()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    os.close(ours)
    if code >= 0:
        return code
    from ..parallel.pool import obituary
    from .communicator import title_of

    number = next((int(os.environ[name]) for name in NUMBERS if name in os.environ), 0)
    title = title_of(number, n_workers)
    text = f"{title}, process {process.pid} on {socket.gethostname()}, died and ends the run. {obituary(code)}"
    print(f"slide: error: {text}", file=Screen(), flush=True)
    return FAILURE


def end_with_supervisor() -> None:
    """End this process, also in the middle of a computation, when its supervisor is gone, if it has one."""
    pipe = os.environ.get(PIPE)
    if pipe is not None:
        threading.Thread(target=_wait_for_end, args=(int(pipe),), name="supervisor", daemon=True).start()


def _wait_for_end(pipe: int) -> None:
    select.select([pipe], [], [])
    os._exit(FAILURE)
