"""Does it cost accuracy that workers update the same weights without locks? P@1 by number of workers, over seeds.

python benchmarks/hogwild.py                        the standard-library task, one epoch
python benchmarks/hogwild.py --data DIR --epochs 2  DIR/train.txt and DIR/test.txt
"""

from __future__ import annotations

import argparse
from functools import partial

from shared import tasks
from shared.harness import child, in_turn, require_agreement, spread, write_result
from shared.ours import train_once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=tasks.STDLIB, help="a task, or a folder with train.txt and test.txt")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    require_agreement()
    cases = [(n, seed) for seed in range(options.seeds) for n in options.workers]
    results = in_turn([partial(child, train_once, options.data, n, options.epochs, 1e9, seed) for n, seed in cases], 1)
    rows = []
    for n in options.workers:
        runs = [run for (workers, _), [run] in zip(cases, results, strict=True) if workers == n]
        precisions = [run["precision_at_1"] for run in runs]
        mean = sum(precisions) / len(precisions)
        rows.append({"workers": n, "mean_precision_at_1": mean, "precision_at_1": precisions})
        rows[-1] |= {"samples_per_second": spread([run["samples_per_second"] for run in runs])}
        print(
            f"{n:3d} workers: mean P@1 {100 * mean:.2f} % ({', '.join(f'{100 * p:.2f}' for p in precisions)}), "
            f"{mean / rows[0]['mean_precision_at_1']:.3f} of that with {options.workers[0]}",
            flush=True,
        )
    write_result(f"hogwild_{tasks.name_of(options.data)}", {"epochs": options.epochs, "rows": rows})


if __name__ == "__main__":
    main()
