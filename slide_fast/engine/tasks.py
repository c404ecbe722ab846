"""The tasks of workers: small, picklable, and safe to repeat, since a dead worker's task goes to another."""

from __future__ import annotations

from typing import Any, NamedTuple


class Task(NamedTuple):
    """A call of a worker's method, by name: one of `slide_fast.engine.worker.Worker`, or of its `Learner`."""

    method: str
    arguments: tuple[Any, ...] = ()

    def of(self, *owners: object) -> Any:
        """Call the method of the first owner that has it; return the result."""
        owner = next(owner for owner in owners if hasattr(owner, self.method))
        return getattr(owner, self.method)(*self.arguments)


class RangeReport(NamedTuple):
    """Totals of a range of steps: sums `loss` and `active` over the labelled samples, and `seconds` taken."""

    n_samples: int
    n_labelled: int
    loss: float
    active: float
    seconds: float


def ranges(n: int, each: int) -> list[tuple[int, int]]:
    """Cut n items into ranges of at most `each`, as pairs of the first item and the one after the last."""
    return [(first, min(first + each, n)) for first in range(0, n, each)]
