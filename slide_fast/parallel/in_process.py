"""Tasks without worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .blas_threads import ONE_BLAS_THREAD
from .pool import NOTHING


class InProcess:
    """The interface of `Pool` without processes: tasks run one after another in the calling process.

    Parameters
    ----------
    state : object
        ``state.run(task)`` does the work; BLAS uses one thread meanwhile, as in a worker.
    """

    n_workers = 1
    restarts = 0

    def __init__(self, state: Any):
        self.pids: list[int] = []
        self._state = state

    def run(
        self,
        tasks: Iterable[Any],
        should_stop: Callable[[], bool] | None = None,
        at_most: Callable[[], int] | None = None,
        ahead: int = 0,
    ) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result) for each task until `should_stop`, called before each, returns true.

        `at_most` and `ahead` have no effect: there is one task at a time.
        """
        tasks = iter(tasks)
        while should_stop is None or not should_stop():
            task = next(tasks, NOTHING)
            if task is NOTHING:
                return
            with ONE_BLAS_THREAD:
                result = self._state.run(task)
            yield task, result

    def close(self) -> None:
        """Do nothing: there is no process to end."""

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
