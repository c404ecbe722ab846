"""Number of threads of NumPy's matrix products: one, while this process uses its own threads or workers."""

from __future__ import annotations

import os
import threading
from functools import cached_property

from threadpoolctl import LibController, ThreadpoolController


class _OneBlasThread:
    """Limits BLAS to one thread as long as any thread of this process has entered; a shared context manager.

    The number of BLAS threads is a property of the process: the first thread to enter saves it and sets 1, the last to
    leave restores it, unless it was changed in the meantime. Libraries are searched for once, on first use, since that
    takes milliseconds. NumPy's BLAS is loaded by then; one that SciPy loads later is not affected. OpenMP is left
    alone: its number belongs to each thread, and the last thread to leave may differ from the first to enter.
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
        """Forget the other threads: a child process has only the one that forked."""
        self._n_users = getattr(self._own, "n_users", 0)
        if self._before and not self._n_users:
            self._restore()
        self._lock.release()


ONE_BLAS_THREAD = _OneBlasThread()
