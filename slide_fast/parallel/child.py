"""The program that a child process of the pool runs.

The pool starts it as a new interpreter, so the caller's main module is never imported here. Imports are few: each
worker pays for them in start-up time and memory.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from multiprocessing import connection
from typing import Any

from .shared_arrays import SharedArrays

# The child's sys.path becomes the parent's before anything is imported.
BOOTSTRAP = "import sys; sys.path[:] = sys.argv[2:]; from slide_fast.parallel.child import main; main(int(sys.argv[1]))"

BLAS_ON_ONE_THREAD = {
    name: "1"
    for name in (
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    )
}


def _end_with_parent(parent: int) -> None:
    """Wait, in a separate thread, until the parent is gone or closes standard input; then end the process.

    This also works during a computation. A fork of the parent may hold the pipe open, so the parent's id is checked as
    well.
    """
    if os.name == "posix":
        while os.getppid() == parent and not select.select([0], [], [], 0.5)[0]:
            pass
    else:
        os.read(0, 1)
    os._exit(0)


def _failure(error: Exception) -> bytes:
    """Pickle an error with its traceback; one that cannot be pickled becomes a RuntimeError with its text."""
    trace = traceback.format_exc()
    try:
        pickle.loads(message := pickle.dumps((error, trace)))
        return message
    except Exception:
        return pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), trace))


def _build_state(message: bytes) -> Any:
    state_factory, setup, handles = pickle.loads(message)
    arrays = {name: array for handle in handles for name, array in SharedArrays.attach(handle).arrays.items()}
    module, _, function = state_factory.partition(":")
    return getattr(importlib.import_module(module), function)(setup, arrays)


def _serve(parent: connection.Connection) -> None:
    """Receive the set-up, then answer each task with (result,) or (error, traceback)."""
    failure = None
    setup = parent.recv_bytes()
    try:
        state = _build_state(setup)
    except Exception as error:
        failure = _failure(error)
    while True:
        task = parent.recv_bytes()
        try:
            answer = failure or pickle.dumps((state.run(pickle.loads(task)),))
        except Exception as error:
            answer = _failure(error)
        parent.send_bytes(answer)


def main(descriptor: int) -> None:
    """Serve the parent through a pipe until the parent closes it. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.open(os.devnull, os.O_RDWR) <= 2:  # what the parent did not have must not become something else
        pass
    faulthandler.enable(2)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    kind = connection.Connection
    if sys.platform == "win32":
        kind = connection.PipeConnection
    try:
        _serve(kind(descriptor))
    except (EOFError, OSError):
        os._exit(0)
