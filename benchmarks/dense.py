"""The dense baseline: P@1 over epochs of a dense softmax, PyTorch's or ours, until three evaluations bring no gain.

    python benchmarks/dense.py --data acl_authors stdlib diginetica --rates 1e-3     curves, each in a file of its own
    python benchmarks/dense.py --data acl_authors stdlib diginetica --pace           seconds an epoch, in minutes

Accuracy over epochs does not depend on what else the machine does, time does, and a curve takes long. So a curve may be
made at any time, and its time axis is epochs times the pace. The pace is measured alone on the machine; a comparison
measures it again, in turn with the other contenders. Both are stored.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from shared import harness, ours, peers, tasks
from shared.curves import Point
from shared.harness import child, spread, write_result

from slide_ref.common.config import Config

ENGINES = ("pytorch", "slide_fast")
TIME_AXIS = "epoch times seconds_per_epoch, measured alone; the points' own seconds are of a busy machine"
MAX_SECONDS = 1200.0


def file_of(data: str, engine: str, suffix: str) -> str:
    """Name of a result file."""
    return f"dense_{tasks.name_of(data)}_{engine}_{suffix}"


def curve(data: str, engine: str, rate: float, n_threads: int, max_epochs: float, folder: Path) -> None:
    """Make a curve and write it, after each evaluation again."""
    train, test = tasks.load(data)
    test = tasks.evaluation_rows(data, test)
    facts = {"task": tasks.name_of(data), "engine": engine, "learning_rate": rate, "threads": n_threads,
             "training_samples": train.n_samples, "time_axis": TIME_AXIS}  # fmt: skip

    def keep(points: list[Point], finished: bool = False) -> None:
        write_result(file_of(data, engine, f"{rate:g}"), facts | {"finished": finished, "points": points}, folder)
        print(f"{facts['task']} {engine} {rate:g}: {points[-1]}", flush=True)
        if not finished and points[-1]["epoch"] >= max_epochs:
            raise _TimeUp(points)

    try:
        if engine == "pytorch":
            torch.set_num_threads(n_threads)
            network = peers.Network(train.features.n_columns, train.labels.n_columns, rate)
            points = peers.torch_curve(network, train, test, 1e9, keep=keep)
        else:
            config = Config().replace(learning_rate=rate, lsh={"min_active": ours.ALL})
            points = ours.own_curve(train, test, n_threads, 1e9, config, keep=keep)["points"]
    except _TimeUp as error:
        points = error.args[0]
    keep(points, finished=True)


class _TimeUp(Exception):
    """Twenty minutes at the measured pace have passed."""


def pace_once(data: str, engine: str, n_threads: int, seconds: float) -> float:
    """Seconds that an epoch takes."""
    if engine == "pytorch":
        return child(peers.torch_rate, data, None, None, n_threads, seconds)["seconds_per_epoch"]
    settings = {"lsh": {"min_active": ours.ALL}}
    run = child(ours.train_once, data, n_threads, 1, seconds, 0, settings, False, None)
    return run["seconds"] / run["epochs"]


def pace(data: str, engine: str, n_threads: int, rounds: int, seconds: float) -> None:
    """Measure and write the pace."""
    runs = [pace_once(data, engine, n_threads, seconds) for _ in range(rounds)]
    figures = {"task": tasks.name_of(data), "engine": engine, "threads": n_threads, "seconds_per_epoch": spread(runs)}
    write_result(file_of(data, engine, "pace"), figures)
    print(f"{data} {engine}: {figures['seconds_per_epoch']['median']:.1f} s an epoch", flush=True)


def finished(data: str, engine: str) -> list[dict[str, Any]]:
    """The curves of a task that are complete, or longer than 20 minutes at the pace of the file."""
    measured = harness.read_result(file_of(data, engine, "pace"))
    enough = float("inf") if measured is None else MAX_SECONDS / measured["seconds_per_epoch"]["median"]
    paths = sorted(harness.RESULTS.glob(f"{file_of(data, engine, '')}*.json"))
    runs = [run for path in paths if "points" in (run := harness.read_result(path.stem))]
    return [run for run in runs if run["finished"] or run["points"][-1]["epoch"] >= enough]


def at_pace(runs: list[dict[str, Any]], per_epoch: float) -> list[dict[str, Any]]:
    """The curves with `seconds` at so many seconds an epoch, cut to 20 minutes."""
    curves = []
    for run in runs:
        points = [point | {"seconds": point["epoch"] * per_epoch} for point in run["points"]]
        curves.append(run | {"points": [point for point in points if point["seconds"] <= MAX_SECONDS]})
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["acl_authors", "stdlib", "diginetica"])
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 3e-4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pace", action="store_true", help="measure the seconds an epoch takes, and no curve")
    parser.add_argument("--rounds", type=int, default=3, help="of --pace")
    parser.add_argument("--seconds", type=float, default=8.0, help="a round of --pace")
    parser.add_argument("--out", type=Path, default=harness.RESULTS, help="folder for the curves")
    options = parser.parse_args()
    for data in options.data:
        if options.pace:
            pace(data, options.engine, options.threads, options.rounds, options.seconds)
            continue
        measured = harness.read_result(file_of(data, options.engine, "pace"))
        max_epochs = 1e9 if measured is None else MAX_SECONDS / measured["seconds_per_epoch"]["median"]
        for rate in options.rates:
            curve(data, options.engine, rate, options.threads, max_epochs, options.out)


if __name__ == "__main__":
    main()
