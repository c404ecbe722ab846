"""What the tables save: samples a second with the defaults, with uniform negatives alone, and with all neurons active.

    python benchmarks/dense.py               the standard-library task
    python benchmarks/dense.py --data DIR    DIR/train.txt and DIR/test.txt

The same engine each time; only the settings differ.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from harness import child, in_turn, require_agreement, spread, write_result
from scaling import train_once

CASES = {"defaults": {}, "uniform negatives (L = 0)": {"L": 0}, "dense (all neurons active)": {"min_active": 2**31 - 1}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train.txt and test.txt; default: the standard-library task")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-seconds", type=float, default=20.0, help="of training, for each run")
    options = parser.parse_args()
    require_agreement()
    contenders = [
        partial(child, train_once, options.data, options.workers, 1000, options.max_seconds, 0, lsh)
        for lsh in CASES.values()
    ]
    results = in_turn(contenders, options.rounds)
    rows = []
    for case, runs in zip(CASES, results, strict=True):
        rate = spread([run["samples_per_second"] for run in runs])
        precision = spread([run["precision_at_1"] for run in runs])
        active = runs[0]["active_neurons"]
        rows.append({"case": case, "samples_per_second": rate, "precision_at_1": precision, "active_neurons": active})
        times = rate["median"] / spread([run["samples_per_second"] for run in results[-1]])["median"]
        print(
            f"{case:27} {rate['median']:9,.0f} samples/s ({rate['min']:,.0f} to {rate['max']:,.0f}), "
            f"{times:5.1f} times dense, {active:8,.0f} active, P@1 {100 * precision['median']:5.2f} %",
            flush=True,
        )
    name = "stdlib" if options.data is None else Path(options.data).resolve().name
    write_result(f"dense_{name}", {"workers": options.workers, "max_seconds": options.max_seconds, "rows": rows})


if __name__ == "__main__":
    main()
