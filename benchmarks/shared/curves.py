"""Learning curves: P@1 over training, when one is complete, and how long it takes to a target."""

from __future__ import annotations

import numpy as np

PATIENCE = 3  # evaluations without a gain, after which a run ends

Point = dict[str, float]


def ended(points: list[Point], max_seconds: float) -> bool:
    """Whether a curve is complete: its last evaluations brought no gain, or its time is up."""
    if not points:
        return False
    scores = [point["precision_at_1"] for point in points]
    return len(scores) - 1 - int(np.argmax(scores)) >= PATIENCE or points[-1]["seconds"] >= max_seconds


def best(points: list[Point]) -> float:
    """The largest P@1 of a curve."""
    return max(point["precision_at_1"] for point in points)


def time_to(points: list[Point], target: float) -> float | None:
    """Seconds until P@1 reaches `target`, interpolated from 0 at the start; None if it never does.

    A curve of one point is that of a contender that tells its accuracy only at the end.
    """
    before = {"seconds": 0.0, "precision_at_1": 0.0}
    for point in points:
        if point["precision_at_1"] >= target:
            if len(points) == 1:
                return point["seconds"]
            share = (target - before["precision_at_1"]) / (point["precision_at_1"] - before["precision_at_1"])
            return before["seconds"] + share * (point["seconds"] - before["seconds"])
        before = point
    return None
