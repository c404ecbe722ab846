"""Samples a second by number of workers, on the standard-library task or a data set.

python benchmarks/scaling.py                              the standard-library task, 1, 2 and 8 workers
python benchmarks/scaling.py --data DIR --workers 1 2     DIR/train.txt and DIR/test.txt
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from harness import child, in_turn, require_agreement, spread, write_result

from slide_fast.data import read_dataset
from slide_fast.demo import build_task
from slide_fast.machine import MemoryMeter
from slide_fast.training import fit
from slide_fast.worker import BLAS_ON_ONE_THREAD
from slide_ref.common.config import Config


def train_once(
    data: str | None, n_workers: int, epochs: int, max_seconds: float, seed: int = 0, lsh: dict | None = None
) -> dict[str, float]:
    """Train in this process and its workers; the facts that count."""
    if data is None:
        task = build_task()
        train, test = task.train, task.test
    else:
        train, test = (read_dataset(Path(data, name)) for name in ("train.txt", "test.txt"))
    test = test.take(range(0, test.n_samples, 1 + test.n_samples // 20_000))
    events = []
    pids = [tuple]
    with MemoryMeter(lambda: pids[-1]()) as meter:

        def watch(event: dict[str, object]) -> None:
            if event["kind"] == "start":
                pids.append(event["pids"])
            if event["kind"] in ("evaluation", "end"):
                events.append(event)

        fit(
            Config(epochs=epochs, seed=seed).replace(lsh=lsh or {}), train, test=test,
            n_workers=n_workers, max_seconds=max_seconds, callback=watch,
        )  # fmt: skip
    end = events[-1]
    return {
        "samples_per_second": end["samples"] / end["seconds"],
        "precision_at_1": end["precision_at_1"],
        "epochs": end["epoch"],
        "active_neurons": events[-2]["active_neurons"],
        "peak_memory_bytes": meter.peak_bytes,
    }


SPIN = """
import time
import numpy as np
a, b, n, end = np.ones((256, 128), np.float32), np.ones((128, 1000), np.float32), 0, time.perf_counter() + 2
while time.perf_counter() < end:
    a @ b
    n += 1
print(n)
"""


def machine_once() -> dict[str, float]:
    """Matrix products done by two processes at the same time over those done by one."""

    def done(n_processes: int) -> int:
        command = [sys.executable, "-c", SPIN]
        environment = {**os.environ, **BLAS_ON_ONE_THREAD}
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(n_processes)
        ]
        return sum(int(process.communicate()[0]) for process in running)

    return {"two_over_one": done(2) / done(1)}


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
    *results, control = in_turn([*contenders, machine_once], options.rounds)
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
    bound = spread([run["two_over_one"] for run in control])
    print(f"the machine: two processes that share nothing do {bound['median']:.2f} times the work of one "
          f"({bound['min']:.2f} to {bound['max']:.2f})")  # fmt: skip
    name = "stdlib" if options.data is None else Path(options.data).resolve().name
    write_result(f"scaling_{name}", {"rows": rows, "machine_two_over_one": bound})


if __name__ == "__main__":
    main()
