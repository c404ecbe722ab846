"""How many threads NumPy's matrix products use: one, while this process works in threads or workers of its own."""

from __future__ import annotations

import os
import threading
from functools import cached_property

from threadpoolctl import LibController, ThreadpoolController


class _OneBlasThread:
    """BLAS on one thread as long as someone in this process is at work; a context manager that threads may share.

    The number of threads belongs to the whole process: the first who enters notes it and sets 1, the last who leaves
    puts it back, unless someone else has changed it meanwhile. Libraries are looked for once, on first use, for that
    takes milliseconds. NumPy's BLAS is loaded by then; one that SciPy loads later is none of ours. OpenMP is left
    alone: its number belongs to each thread, and the last who leaves may be another thread than the first.
    """

    def __init__(self) -> None:
        self._lock, self._n_users, self._own = threading.Lock(), 0, threading.local()
        self._before: list[tuple[LibController, int]] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._after_fork
            )

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_users:
                self._limit()
            self._n_users += 1
            self._own.n_users = getattr(self._own, "n_users", 0) + 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._n_users -= 1
            self._own.n_users -= 1
            if not self._n_users:
                self._restore()

    @cached_property
    def _controller(self) -> ThreadpoolController:
        return ThreadpoolController().select(user_api="blas")

    def _limit(self) -> None:
        for library in self._controller.lib_controllers:
            self._before.append((library, library.get_num_threads()))
            library.set_num_threads(1)

    def _restore(self) -> None:
        while self._before:
            library, number = self._before.pop()
            if library.get_num_threads() != 1:
                continue
            library.set_num_threads(number)
            if library.get_num_threads() != number:  # threadpoolctl 3.8 on: only the thread that came first may do this
                library.clear_controlling_thread(force=True)
                library.set_num_threads(number)
        with self._controller.limit(limits=None):
            """Changes no number, and lets go of that right, unless the caller's own limits still need it."""

    def _after_fork(self) -> None:
        """Forget the uses of other threads: a child has only the one that forked."""
        self._n_users = getattr(self._own, "n_users", 0)
        if self._before and not self._n_users:
            self._restore()
        self._lock.release()


ONE_BLAS_THREAD = _OneBlasThread()
