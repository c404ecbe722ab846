"""Our side of the comparisons: training runs in this process and its workers, and the figures that count."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from shared import tasks
from shared.curves import Point, ended

from slide_fast.engine.auto_settings import tuned
from slide_fast.engine.run import Run
from slide_fast.parallel.machine import MemoryMeter
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.schedule import joined_after
from slide_ref.common.sparse_rows import Dataset

ALL = 2**31 - 1  # as min_active: the dense softmax
LONG = 1000  # epochs: something else ends the run


class _Enough(Exception):
    """Raised by a callback to end a run."""


def train_once(
    data: str,
    n_workers: int,
    epochs: int = LONG,
    max_seconds: float = 1e9,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    evaluate: bool = True,
    n_samples: int | None = 0,
) -> dict[str, Any]:
    """Train, and what came of it; with `evaluate` also how good it is, on at most 20,000 test rows.

    Unless the settings say otherwise tables are queried from the first step on: the slower steps of a run. Samples a
    second are those of steps in which all workers train (S33); a run that ends before is an error.
    """
    train, test = tasks.load(data, n_samples)
    most = tasks.EVALUATION_ROWS.get(tasks.name_of(data), 20_000)
    test = test.take(range(0, test.n_samples, 1 + test.n_samples // most)) if evaluate else None
    config = Config(epochs=epochs, in_batch=0.0, seed=seed).replace(**settings or {})
    last: dict[str, dict[str, Any]] = {}
    active: list[float] = []
    joined = {"seconds": 0.0, "samples": 0}

    def watch(event: dict[str, Any]) -> None:
        last[event["kind"]] = event
        if event["kind"] == "progress":
            active.extend([event["active_neurons"]] if "active_neurons" in event else [])
            if event["step"] < joined_after(n_workers):
                joined.update(seconds=event["seconds"], samples=event["samples"])

    rebuilding = _timed_rebuilds()
    with MemoryMeter(lambda: last["start"]["pids"]() if "start" in last else ()) as meter:
        fit(config, train, test=test, n_workers=n_workers, max_seconds=max_seconds, callback=watch)
    end = last["end"]
    if end["step"] <= joined_after(n_workers):
        sys.exit(f"{end['step']} steps are too few for {n_workers} workers to train all together: give more time")
    return {
        "samples_per_second": (end["samples"] - joined["samples"]) / (end["seconds"] - joined["seconds"]),
        "seconds": end["seconds"],
        "precision_at_1": end.get("precision_at_1"),
        "epochs": end["epoch"],
        "steps": end["step"],
        "active_neurons": sum(active) / len(active),
        "rebuild_seconds": rebuilding,
        "peak_memory_bytes": meter.peak_bytes,
    }


def _timed_rebuilds() -> list[float]:
    """The seconds of each rebuild of the runs to come in this process, in a list that grows."""
    seconds: list[float] = []
    rebuild = Run.rebuild

    def timed(run: Run) -> None:
        before = run.progress.seconds
        rebuild(run)
        seconds.append(run.progress.seconds - before)

    Run.rebuild = timed
    return seconds


def curve(
    data: str,
    n_samples: int | None,
    n_workers: int,
    max_seconds: float,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    gap: float = 0.5,
) -> dict[str, Any]:
    """As `own_curve`, of a task cut to so many samples. Among the settings ``auto`` lets `tuned` choose."""
    train, test = tasks.load(data, n_samples)
    test = tasks.evaluation_rows(data, test)
    settings = dict(settings or {})
    is_auto = settings.pop("auto", False)
    config = Config(seed=seed).replace(**settings)
    return own_curve(train, test, n_workers, max_seconds, tuned(config, train) if is_auto else config, gap)


def own_curve(
    train: Dataset,
    test: Dataset,
    n_workers: int,
    max_seconds: float,
    config: Config,
    gap: float = 0.5,
    keep: Callable[[list[Point]], None] = lambda points: None,
) -> dict[str, Any]:
    """P@1 over seconds of training, rebuilds included, as `torch_curve` of the peers; also the mean of active neurons.

    A rate that falls to 0 within the epochs brings its gain at their end: such a run is taken to it. With a constant
    rate it ends when three evaluations bring no gain.
    """
    is_open = config.decay == "constant"
    if is_open:
        config = config.replace(epochs=LONG, in_batch=0.0)
    points: list[Point] = []
    active: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["kind"] == "evaluation":
            points.append({key: event[key] for key in ("epoch", "seconds", "precision_at_1", "precision_at_5")})
            active.append(event.get("active_neurons", active[-1] if active else 0.0))
            keep(points)
            if is_open and ended(points, max_seconds):
                raise _Enough

    try:
        fit(
            config, train, test=test, n_workers=n_workers, eval_every=gap,
            eval_samples=test.n_samples, max_seconds=max_seconds, callback=watch,
        )  # fmt: skip
    except _Enough:
        pass  # the curve is complete
    return {"points": points, "active_neurons": sum(active) / len(active)}
