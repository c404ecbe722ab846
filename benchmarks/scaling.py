"""Samples a second by number of workers, on the standard-library task or a data set.

python benchmarks/scaling.py                              the standard-library task, 1, 2 and 8 workers
python benchmarks/scaling.py --data DIR --workers 1 2     DIR/train.txt and DIR/test.txt
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from harness import child, in_turn, require_agreement, spread, write_result

from slide_fast.data import read_dataset
from slide_fast.demo import build_task
from slide_fast.machine import MemoryMeter
from slide_fast.training import fit
from slide_ref.common.config import Config


def train_once(data: str | None, n_workers: int, epochs: int, max_seconds: float) -> dict[str, float]:
    """Train in this process and its workers; the facts that count."""
    if data is None:
        task = build_task()
        train, test = task.train, task.test
    else:
        train, test = (read_dataset(Path(data, name)) for name in ("train.txt", "test.txt"))
    events = []
    pids = [tuple]
    with MemoryMeter(lambda: pids[-1]()) as meter:

        def watch(event: dict[str, object]) -> None:
            if event["kind"] == "start":
                pids.append(event["pids"])
            if event["kind"] in ("evaluation", "end"):
                events.append(event)

        fit(
            Config(epochs=epochs), train, test=test.take(range(0, test.n_samples, 1 + test.n_samples // 20_000)),
            n_workers=n_workers, max_seconds=max_seconds, callback=watch,
        )  # fmt: skip
    end = events[-1]
    return {
        "samples_per_second": end["samples"] / end["seconds"],
        "precision_at_1": end["precision_at_1"],
        "epochs": end["epoch"],
        "peak_memory_bytes": meter.peak_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train.txt and test.txt; default: the standard-library task")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-seconds", type=float, default=1e9, help="of training, for each run")
    options = parser.parse_args()
    require_agreement()
    contenders = [
        partial(child, train_once, options.data, n, options.epochs, options.max_seconds) for n in options.workers
    ]
    results = in_turn(contenders, options.rounds)
    rows = []
    for n, runs in zip(options.workers, results, strict=True):
        rate = spread([run["samples_per_second"] for run in runs])
        in_turns = zip(runs, results[0], strict=True)
        ratios = [run["samples_per_second"] / first["samples_per_second"] for run, first in in_turns]
        rows.append({
            "workers": n,
            "samples_per_second": rate,
            "ratio_to_first": spread(ratios),
            "precision_at_1": spread([run["precision_at_1"] for run in runs]),
            "epochs": runs[0]["epochs"],
            "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs),
        })  # fmt: skip
        print(
            f"{n:3d} workers: {rate['median']:9,.0f} samples/s ({rate['min']:,.0f} to {rate['max']:,.0f}), "
            f"{rows[-1]['ratio_to_first']['median']:.2f} times {options.workers[0]} worker(s), "
            f"P@1 {100 * rows[-1]['precision_at_1']['median']:.2f} %, "
            f"peak {rows[-1]['peak_memory_bytes'] / 2**20:,.0f} MiB",
            flush=True,
        )
    name = "stdlib" if options.data is None else Path(options.data).resolve().name
    write_result(f"scaling_{name}", {"rows": rows})


if __name__ == "__main__":
    main()
