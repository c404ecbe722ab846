"""The parent's side of the worker processes: start, distribution of tasks, detection of deaths, stop.

There are no locks. Each worker has its own pipe and at most one task; when the pipe ends the worker is dead, and its
task goes to another. Changes that a task makes to the shared arrays before its worker dies remain, so a task must be
safe to repeat.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any

from slide_ref.common.errors import WorkerDiedError

from .child import BLAS_ON_ONE_THREAD, BOOTSTRAP
from .shared_arrays import SharedArrays
from .streams import off_standard_descriptors

POLL_SECONDS = 0.1
STOP_SECONDS = 1.0
NOTHING = object()


class _Worker:
    """A child process: its pipe, its current task (or NOTHING), and how long the parent has waited for the answer."""

    def __init__(self, setup: bytes, descriptors: list[int]):
        self.task: Any = NOTHING
        self.waited = 0.0
        with off_standard_descriptors(), ExitStack() as stack:
            self.connection, theirs = connection.Pipe(duplex=True)
            stack.enter_context(theirs)
            self.process = subprocess.Popen(
                _command(theirs.fileno()),
                stdin=subprocess.PIPE,  # its end tells the child that the parent is gone
                env={**os.environ, **BLAS_ON_ONE_THREAD},
                **_inheritance(theirs.fileno(), descriptors),
            )
        self._send(setup)

    def _send(self, message: bytes) -> None:
        with suppress(OSError):  # the worker is dead, as waiting for its answer will show
            self.connection.send_bytes(message)

    def hand(self, task: Any) -> None:
        message = pickle.dumps(task)
        self.task, self.waited = task, 0.0
        self._send(message)

    def receive(self) -> tuple:
        """Receive the answer to the task; raise EOFError or OSError if the worker died before it was complete."""
        answer = pickle.loads(self.connection.recv_bytes())
        self.task = NOTHING
        return answer

    def is_dead(self) -> bool:
        return self.process.poll() is not None and not _answered([self])

    def let_go(self) -> None:
        """Close the pipes, so that the worker ends by itself, immediately."""
        self.connection.close()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def reap(self, patience: float) -> int:
        """Wait for the worker to end, kill it after `patience` seconds, and return its exit code."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _command(descriptor: int) -> list[str]:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does: -I, -W error, -X utf8 and so on
    path = [entry for entry in sys.path if isinstance(entry, str)]
    home = str(Path(__file__).resolve().parents[2])
    return [sys.executable, *flags, "-c", BOOTSTRAP, str(descriptor), *path, *([] if home in path else [home])]


def _inheritance(descriptor: int, shared: list[int]) -> dict[str, Any]:
    """Return Popen arguments: descriptors for the child, and a process group that Ctrl-C does not reach."""
    if sys.platform != "win32":
        return {"pass_fds": (descriptor, *shared), "process_group": 0}
    os.set_handle_inheritable(descriptor, True)
    startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [descriptor]})
    return {"startupinfo": startup, "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


def _end(workers: list[_Worker]) -> None:
    """End all workers within about STOP_SECONDS."""
    for worker in workers:
        worker.let_go()
    deadline = time.monotonic() + STOP_SECONDS
    while workers:
        workers.pop().reap(max(0.0, deadline - time.monotonic()))


def obituary(code: int) -> str:
    """Describe, from its exit code, how a process ended and what to try."""
    if code >= 0:
        return f"it ended by itself with exit code {code}; see its output on standard error"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    advice = {
        "SIGKILL": "it was killed, most likely by the system for lack of memory; try fewer workers, a smaller "
        "micro_batch, or a machine or container with more memory",
        "SIGBUS": "the memory behind the shared arrays ran out; free memory or raise the container's limit",
        "SIGTERM": "it was asked to end; see what limits processes here (a batch system, a container)",
    }
    return f"{name}: " + advice.get(name, "it crashed in compiled code; check the installations of Python and NumPy")


class Pool:
    """Worker processes that share arrays with the caller and work through tasks.

    A worker is a new interpreter that calls ``state_factory(setup, arrays)`` once and then ``state.run(task)`` for
    each task, with BLAS on one thread. It never imports the caller's main module, so scripts need no
    ``if __name__ == "__main__"`` guard. It ignores Ctrl-C, and it ends when the caller's process does.

    Parameters
    ----------
    state_factory : str
        ``"module:function"``; the module must be importable with the caller's ``sys.path``.
    setup : object
        Picklable; small, since every worker gets a copy.
    shared : sequence of SharedArrays
        Blocks whose arrays all workers see, under distinct names; they must stay open as long as the pool.
    n_workers : int
    max_restarts : int
        Number of workers that may be replaced over the life of the pool before a death is an error.
    worker_timeout : float
        Seconds after which a worker that does not answer is killed and replaced. Time in which the caller's process
        is stopped, or busy elsewhere, does not count.

    Attributes
    ----------
    n_workers : int
    restarts : int
        Number of workers so far that died, or were killed because they did not answer.
    """

    def __init__(
        self,
        state_factory: str,
        setup: Any,
        shared: Sequence[SharedArrays],
        n_workers: int,
        max_restarts: int = 3,
        worker_timeout: float = 60.0,
    ):
        self.n_workers, self.restarts = n_workers, 0
        self._max_restarts, self._worker_timeout = max_restarts, worker_timeout
        handles = [block.handle for block in shared]
        self._setup = pickle.dumps((state_factory, setup, handles))
        self._descriptors = [descriptor for handle in handles for descriptor in handle.descriptors]
        self._orphaned: deque[Any] = deque()  # tasks of dead workers
        self._last_death = ""
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _end, self._workers)
        self._finalizer.atexit = False  # a daemon thread may be at work; the workers notice the end by themselves
        self._start_missing()

    @property
    def pids(self) -> list[int]:
        """Process ids of the current workers."""
        return [worker.process.pid for worker in self._workers]

    def run(
        self,
        tasks: Iterable[Any],
        should_stop: Callable[[], bool] | None = None,
        at_most: Callable[[], int] | None = None,
        ahead: int = 0,
    ) -> Iterator[tuple[Any, Any]]:
        """Carry out tasks; a call acts as a barrier: after it no task is in progress.

        The next task is drawn when a worker is free, or up to `ahead` tasks earlier, so tasks start in order. If the
        caller stops iterating early, workers with a task in progress are killed, and replaced by the next call.

        Parameters
        ----------
        tasks : iterable
            Picklable, and small: they travel through pipes.
        should_stop : callable, optional
            Called at least every 0.1 s. Once it returns true no further task is handed out; those in progress have one
            second to finish, then their workers are killed.
        at_most : callable, optional
            Returns how many workers may have a task; called before each task is handed out.
        ahead : int
            Number of tasks to draw while all workers are busy: for tasks that take time to make.

        Yields
        ------
        (task, result)
            In the order in which results arrive.

        Raises
        ------
        WorkerDiedError
            If more than `max_restarts` workers died.
        Exception
            What ``state.run`` or the factory raised in a worker; the worker's traceback is in the error's notes.
        """
        if not self._finalizer.alive or self._busy():
            raise RuntimeError("the pool is closed, or another run of it is in progress")
        tasks, deadline = iter(tasks), None
        drawn: deque[Any] = deque()
        done: list[tuple[Any, Any]] = []
        self._orphaned.clear()
        try:
            while True:
                if deadline is None and should_stop is not None and should_stop():
                    deadline = time.monotonic() + STOP_SECONDS
                if deadline is None:
                    self._hand_out(lambda: drawn.popleft() if drawn else next(tasks, NOTHING),
                                   at_most or (lambda: self.n_workers))  # fmt: skip
                yield from done
                busy = self._busy()
                if not busy or (deadline is not None and time.monotonic() > deadline):
                    return
                while deadline is None and len(drawn) < ahead and not _answered(busy):
                    drawn.append(next(tasks, NOTHING))
                done = self._collect(busy)
        finally:
            for worker in self._busy():
                self._remove(worker)

    def close(self) -> None:
        """End the workers within about a second; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not NOTHING]

    def _start_missing(self) -> None:
        while len(self._workers) < self.n_workers:
            self._workers.append(_Worker(self._setup, self._descriptors))

    def _hand_out(self, draw: Callable[[], Any], at_most: Callable[[], int]) -> None:
        """Give tasks to free workers, as many as may have one; tasks of dead workers go first."""
        if self.restarts > self._max_restarts:
            raise WorkerDiedError(
                f"a worker died, and max_restarts ({self._max_restarts}) is exhausted. The last one, {self._last_death}"
            )
        self._start_missing()
        for worker in self._workers:
            if worker.task is NOTHING and len(self._busy()) < at_most():
                task = self._orphaned.popleft() if self._orphaned else draw()
                if task is NOTHING:
                    return
                worker.hand(task)

    def _collect(self, busy: list[_Worker]) -> list[tuple[Any, Any]]:
        """Wait briefly for answers and collect them; remove workers that died or did not answer in time."""
        start = time.monotonic()
        ready = _answered(busy, POLL_SECONDS)
        elapsed = min(time.monotonic() - start, 2 * POLL_SECONDS)  # more than that is a process that was stopped
        done = []
        for worker in busy:
            worker.waited += elapsed
            if worker.connection in ready:
                task = worker.task
                try:
                    answer = worker.receive()
                except (EOFError, OSError):
                    self._bury(worker)
                    continue
                done.append((task, _result(answer, worker.process.pid)))
            elif worker.is_dead():
                self._bury(worker)
            elif worker.waited > self._worker_timeout:
                self._bury(worker, silent=True)
        return done

    def _bury(self, worker: _Worker, silent: bool = False) -> None:
        """Remove a worker that died or did not answer in time, and keep its task for another."""
        self._orphaned.append(worker.task)
        self.restarts += 1
        cause = obituary(self._remove(worker, patience=0.0 if silent else STOP_SECONDS))
        if silent:
            cause = (
                f"no answer for {self._worker_timeout:g} s, so it was killed; something stopped it, or the machine is "
                "overloaded or short of memory: try fewer workers"
            )
        self._last_death = f"worker {worker.process.pid}: {cause}"

    def _remove(self, worker: _Worker, patience: float = 0.0) -> int:
        self._workers.remove(worker)
        code = worker.reap(patience)  # before the pipes are closed: that would end a dying worker with another code
        worker.let_go()
        return code


def _answered(workers: list[_Worker], seconds: float = 0.0) -> list[Any]:
    """Return the connections of workers that have answered, or died, within some seconds."""
    return connection.wait([worker.connection for worker in workers], seconds)


def _result(answer: tuple, pid: int) -> Any:
    if len(answer) == 1:
        return answer[0]
    error, trace = answer
    error.add_note(f"In worker {pid}:\n{trace}")
    raise error
