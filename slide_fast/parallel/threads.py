"""Threads that share some work, with BLAS limited to one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .blas_threads import ONE_BLAS_THREAD
from .machine import available_cpus

Job = TypeVar("Job")
Own = TypeVar("Own")


def by_threads(
    do: Callable[[Job, Own], object], jobs: Iterable[Job], n_threads: int | None, make_own: Callable[[], Own]
) -> None:
    """Carry out jobs in threads, each of which takes the next job until there are no more.

    Parameters
    ----------
    do : callable
        Does a job, given what the thread owns.
    jobs : iterable
    n_threads : int or None
        None: one per CPU that this process may use, counted only if there are several jobs. With 1 the calling thread
        does all jobs: the C library may keep memory freed by other threads.
    make_own : callable
        Returns what a thread owns, such as buffers; called once per thread.

    Raises
    ------
    Exception
        The error that a job raises; jobs not begun by then are skipped.
    """
    remaining = deque(jobs)

    def work() -> None:
        own = make_own()
        while True:
            try:
                job = remaining.popleft()
            except IndexError:
                return
            do(job, own)

    with ONE_BLAS_THREAD:
        if n_threads is None and len(remaining) > 1:
            n_threads = available_cpus()
        n_threads = min(n_threads or 1, len(remaining))
        if n_threads <= 1:
            work()
            return
        with ThreadPoolExecutor(n_threads) as threads:
            try:
                try:
                    workers = [threads.submit(work) for _ in range(n_threads)]
                except RuntimeError:  # the interpreter ends: no threads any more, but atexit and daemon threads run
                    work()
                    return
                for worker in workers:
                    worker.result()
            finally:
                remaining.clear()
