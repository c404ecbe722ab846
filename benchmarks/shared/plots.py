"""Plots of results, each drawn from what is in its JSON file alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from shared.curves import Point

AXES = {"epoch": "epochs", "seconds": "seconds of training"}
P_AT_1 = "P@1, per cent"


class Plot(NamedTuple):
    """A function that fills a plot, and its axes and title."""

    draw: Callable[[Any], None]
    axes: dict[str, str]


def _line(plot: Any, points: list[Point], axis: str, style: str = "o-", **options: Any) -> None:
    x, y = [point[axis] for point in points], [100 * point["precision_at_1"] for point in points]
    plot.plot(x, y, style, markersize=3, **options)


def delays(curves: dict[str, list[Point]], name: str) -> Plot:
    """P@1 over epochs by number of workers; dashed where all of them train from the first step on."""

    def draw(plot: Any) -> None:
        for label, points in curves.items():
            _line(plot, points, "epoch", "o--" if "," in label else "o-", label=label)

    return Plot(draw, {"xlabel": "epochs", "ylabel": P_AT_1, "title": f"{name}, by number of workers"})


def settings(curves: dict[str, list[list[Point]]], axis: str, question: str, name: str) -> Plot:
    """P@1 of every seed over epochs or seconds; a colour a setting."""

    def draw(plot: Any) -> None:
        for number, (label, runs) in enumerate(curves.items()):
            for i, points in enumerate(runs):
                _line(plot, points, axis, color=f"C{number}", label=label if i == 0 else None)

    return Plot(draw, {"xlabel": AXES[axis], "ylabel": P_AT_1, "title": f"{question} ({name})"})


def times(curves: dict[str, list[list[Point]]], name: str) -> Plot:
    """P@1 over seconds on a logarithmic axis, the first run of each contender."""

    def draw(plot: Any) -> None:
        for label, runs in curves.items():
            _line(plot, runs[0], "seconds", label=label)
        plot.set_xscale("log")

    return Plot(draw, {"xlabel": AXES["seconds"], "ylabel": P_AT_1, "title": name})


def retrieved(runs: dict[str, list[dict[str, float]]], name: str) -> Plot:
    """Per cent of the largest logits and of all labels that buckets hold, after each rebuild."""

    def draw(plot: Any) -> None:
        for number, (label, points) in enumerate(runs.items()):
            for key, style in (("after", "-"), ("of_all", ":")):
                shown = label if key == "after" else f"{label}: as many at random"
                shares = [100 * point[key] for point in points]
                plot.plot([point["step"] for point in points], shares, style, color=f"C{number}", label=shown)

    axes = {"xlabel": "steps", "ylabel": "per cent of the 100 largest logits"}
    return Plot(draw, axes | {"title": f"What the tables return ({name})"})
