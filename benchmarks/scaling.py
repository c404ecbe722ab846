"""Samples a second by number of workers, on the standard-library task or another.

python benchmarks/scaling.py                                                  the standard-library task, 1, 2, 8 workers
python benchmarks/scaling.py --data amazon-670k --workers 1 2 --max-seconds 20        generated data of this shape
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
from shared import tasks
from shared.harness import child, figure, in_turn, require_agreement, spread, write_result
from shared.ours import train_once

from slide_fast.parallel.child import BLAS_ON_ONE_THREAD

SPIN = """
import time
import numpy as np
a, b, n, end = np.ones((256, 128), np.float32), np.ones((128, 1000), np.float32), 0, time.perf_counter() + 2
while time.perf_counter() < end:
    a @ b
    n += 1
print(n)
"""


def machine_once(counts: list[int]) -> dict[int, float]:
    """Matrix products done by so many processes at the same time, over those of the first number."""

    def done(n_processes: int) -> int:
        command = [sys.executable, "-c", SPIN]
        environment = {**os.environ, **BLAS_ON_ONE_THREAD}
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(n_processes)
        ]
        return sum(int(process.communicate()[0]) for process in running)

    done(counts[0])  # the first finds no file in memory
    products = {n: done(n) for n in counts}
    return {n: products[n] / products[counts[0]] for n in counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=tasks.STDLIB, help="a task, or a folder with train.txt and test.txt")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-seconds", type=float, default=1e9, help="of training, for each run")
    options = parser.parse_args()
    require_agreement()
    contenders = [
        partial(child, train_once, options.data, n, options.epochs, options.max_seconds) for n in options.workers
    ]
    *results, control = in_turn([*contenders, partial(machine_once, options.workers)], options.rounds)
    rows = []
    for n, runs in zip(options.workers, results, strict=True):
        rate = spread([run["samples_per_second"] for run in runs])
        in_turns = zip(runs, results[0], strict=True)
        ratios = [run["samples_per_second"] / first["samples_per_second"] for run, first in in_turns]
        rows.append({
            "workers": n,
            "samples_per_second": rate,
            "ratio_to_first": spread(ratios),
            "machine": spread([run[n] for run in control]),
            "precision_at_1": spread([run["precision_at_1"] for run in runs]),
            "active_neurons": spread([run["active_neurons"] for run in runs]),
            "epochs": runs[0]["epochs"],
            "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs),
        })  # fmt: skip
        print(
            f"{n:3d} workers: {rate['median']:9,.0f} samples/s ({rate['min']:,.0f} to {rate['max']:,.0f}), "
            f"{rows[-1]['ratio_to_first']['median']:.2f} times {options.workers[0]} worker(s) "
            f"(processes that share nothing: {rows[-1]['machine']['median']:.2f}), "
            f"P@1 {100 * rows[-1]['precision_at_1']['median']:.2f} %, "
            f"peak {rows[-1]['peak_memory_bytes'] / 2**20:,.0f} MiB",
            flush=True,
        )
    name = tasks.name_of(options.data)
    file = f"scaling_{name}_{max(options.workers)}"
    write_result(file, {"rows": rows})
    axes = {"xlabel": "workers", "ylabel": "times the samples a second of the first", "title": name}
    figure(partial(draw, rows), file, **axes)


def draw(rows: list[dict[str, Any]], plot: Any) -> None:
    workers = [row["workers"] for row in rows]
    for key, label in (("ratio_to_first", "workers"), ("machine", "processes that share nothing")):
        ratios = [row[key] for row in rows]
        middle = np.array([ratio["median"] for ratio in ratios])
        reach = np.abs(middle - [[ratio[end] for ratio in ratios] for end in ("min", "max")])
        plot.errorbar(workers, middle, yerr=reach, marker="o", capsize=4, label=label)
    plot.set_ylim(bottom=0)


if __name__ == "__main__":
    main()
