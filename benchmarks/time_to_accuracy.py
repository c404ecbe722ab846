"""P@1 over seconds of training: ours, narrow and wide, against PyTorch's dense and sampled softmax and omikuji.

    python benchmarks/time_to_accuracy.py --data acl_authors      and stdlib, diginetica, amazon-670k, or a folder

The sampled softmax has as many uniform negatives as our mean number of active neurons, and the best of three learning
rates. Dense curves take long and are read from benchmarks/results (see dense.py); --refresh makes them again. Their
seconds an epoch are measured here, in turn with the other contenders.
Times are interpolated between evaluations, which are half an epoch apart for everyone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from typing import Any

import dense
from shared import ours, peers, plots, tasks
from shared.curves import Point, best, time_to
from shared.harness import ROOT, child, figure, in_turn, require_agreement, spread, table, write_result

from slide_fast.cli.settings import PRESETS

RATES = (3e-4, 1e-3, 3e-3)
SHARE = 0.9
PACE_SECONDS = 8.0
OURS, WIDE, SAMPLED, OMIKUJI = "slide_fast", "slide_fast, wide", "PyTorch sampled", "omikuji"
DENSE = {"pytorch": "PyTorch dense", "slide_fast": "slide_fast, all active"}


def run_contenders(options: argparse.Namespace, engines: list[str]) -> tuple[dict[str, list[list[Point]]], list[float]]:
    """Curves by contender, and the dense engines' seconds an epoch.

    The learning rates are tried first, then the contenders run in turn.
    """
    given = options.data, options.samples
    own = partial(child, ours.curve, *given, options.workers, options.max_seconds)
    first = own()
    n_negatives = options.negatives or round(first["active_neurons"])
    print(f"our mean number of active neurons: {first['active_neurons']:,.0f}", flush=True)

    def sampled(rate: float) -> dict[str, Any]:
        return child(peers.network_curve, *given, rate, n_negatives, options.workers, options.max_seconds)

    tried = {rate: sampled(rate)["points"] for rate in RATES}
    target = SHARE * max(best(points) for points in tried.values())
    rate = min(RATES, key=lambda rate: time_to(tried[rate], target) or float("inf"))
    print(f"the sampled softmax is fastest with learning rate {rate:g}", flush=True)
    omikuji = [] if options.without_omikuji else [partial(child, peers.omikuji_curve, *given, options.workers)]
    paces = [partial(dense.pace_once, options.data, engine, options.workers, PACE_SECONDS) for engine in engines]
    wide = partial(own, 0, PRESETS["wide"])
    runs = in_turn([own, wide, partial(sampled, rate), *paces], options.rounds)
    names = OURS, WIDE, f"{SAMPLED}, {rate:g}"
    curves = {name: [run["points"] for run in own_runs] for name, own_runs in zip(names, runs, strict=False)}
    curves |= {f"{SAMPLED}, {other:g}": [points] for other, points in tried.items() if other != rate}
    curves |= {OMIKUJI: [run()["points"] for run in omikuji]} if omikuji else {}
    return curves, [spread(seconds)["median"] for seconds in runs[3:]]


def in_words(seconds: float | None, most: float) -> str:
    return f"more than {most:,.0f}" if seconds is None else f"{seconds:,.1f}"


def summary(name: str, curves: list[list[Point]], targets: dict[str, float]) -> dict[str, Any]:
    """The figures of a contender: the median over its runs, "more than" where the median run does not get there."""
    longest = max(points[-1]["seconds"] for points in curves)
    row: dict[str, Any] = {"contender": name, "best_precision_at_1": spread([best(points) for points in curves])}
    row["seconds_in_all"] = longest
    for key, target in targets.items():
        times = [time_to(points, target) for points in curves]
        reached = spread([float("inf") if time is None else time for time in times])["median"]
        row[key] = None if reached == float("inf") else reached
        row[f"{key}_runs"] = times
    return row


def report(rows: list[dict[str, Any]], targets: dict[str, float]) -> None:
    """Print the table: times to the targets, and how many times ours they are."""
    header = ["", "best P@1 %", *(f"s to {100 * target:.2f} % ({key})" for key, target in targets.items())]
    cells = [header]
    for row in rows:
        cells.append([row["contender"], f"{100 * row['best_precision_at_1']['median']:.2f}"])
        for key in targets:
            own, time = rows[0][key], row[key]
            bound = row["seconds_in_all"] if time is None else time
            row[f"{key}_times_ours"] = None if own is None else bound / own
            ratio = "" if own is None else f"  {'>' if time is None else ''}{bound / own:.2f} x"
            cells[-1].append(in_words(time, row["seconds_in_all"]) + ratio)
    table(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="acl_authors")
    parser.add_argument("--samples", type=int, help="for training; 0: all; default: 200,000 of stdlib and diginetica")
    parser.add_argument("--workers", type=int, default=2, help="and threads of the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-seconds", type=float, default=1200.0, help="of training, for each run")
    parser.add_argument("--negatives", type=int, help="of the sampled softmax; default: as we have active")
    parser.add_argument("--without-omikuji", action="store_true")
    parser.add_argument("--refresh", action="store_true", help="make PyTorch's dense curves again: hours")
    options = parser.parse_args()
    require_agreement()
    name = tasks.name_of(options.data)
    if options.refresh:
        command = [sys.executable, "benchmarks/dense.py", "--data", options.data]
        for more in (["--pace"], []):
            subprocess.run(command + more, cwd=ROOT, check=True)
    engines = [engine for engine in DENSE if options.samples is None and dense.finished(options.data, engine)]
    curves, paces = run_contenders(options, engines)
    sampled = [points for key, runs in curves.items() if key.startswith(SAMPLED) for points in runs]
    targets = {"sampled": SHARE * max(best(points) for points in sampled)}
    for engine, per_epoch in zip(engines, paces, strict=True):
        runs = dense.at_pace(dense.finished(options.data, engine), per_epoch)
        if engine == "pytorch":
            targets["dense"] = SHARE * max(best(run["points"]) for run in runs)
        curves |= {f"{DENSE[engine]}, {run['learning_rate']:g}": [run["points"]] for run in runs}
    rows = [summary(key, runs, targets) for key, runs in curves.items()]
    report(rows, targets)
    facts = {"targets": targets, "dense_seconds_per_epoch": dict(zip(engines, paces, strict=True)), "rows": rows}
    write_result(f"time_to_accuracy_{name}", facts | {"curves": curves})
    plot = plots.times(curves, name)
    figure(plot.draw, f"time_to_accuracy_{name}", **plot.axes)


if __name__ == "__main__":
    main()
