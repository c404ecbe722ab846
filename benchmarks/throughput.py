"""Samples a second, rebuilds included.

    python benchmarks/throughput.py peers     ours against PyTorch's dense and sampled softmax, Amazon-670K shape
    python benchmarks/throughput.py run       two epochs with the defaults, in-batch steps included, against sampled
    python benchmarks/throughput.py labels    the same work with 10^4, 10^5 and 10^6 labels, at a fixed budget
    python benchmarks/throughput.py paper     scope sample with the paper's settings: SimHash, K=9, L=50, budget 3000

The sampled softmax has as many uniform negatives as our mean number of active neurons. scaling.py: 1, 2, … workers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from shared import ours, peers, tasks
from shared.harness import child, figure, in_turn, require_agreement, spread, table, write_result

from slide_ref.common.config import Config

SHAPE = "amazon-670k"
LABELS = (10_000, 100_000, 1_000_000)
EPOCHS = 2
PAPER = {
    "scope": "sample",
    "micro_batch": 128,
    "lsh": {"family": "simhash", "K": 9, "L": 50, "strategy": "vanilla", "budget": 3000, "min_active": 0},
}
Contenders = dict[str, Callable[[], dict[str, Any]]]


def own(options: argparse.Namespace, data: str, settings: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    return partial(child, ours.train_once, data, options.workers, ours.LONG, options.seconds, 0, settings, False)


def sampled(options: argparse.Namespace, mine: Callable[[], dict[str, Any]]) -> Contenders:
    """The sampled softmax, at the number of active neurons of a short run of ours."""
    n_negatives = options.negatives or round(mine()["active_neurons"])
    print(f"our mean number of active neurons: {n_negatives:,}", flush=True)
    rate = partial(child, peers.torch_rate, options.data, 0, n_negatives, options.workers, options.seconds)
    return {f"PyTorch sampled, {n_negatives:,}": rate}


def against_peers(options: argparse.Namespace) -> tuple[Contenders, str]:
    """Ours first, tables queried from the first step on."""
    mine = own(options, options.data, {})
    dense = partial(child, peers.torch_rate, options.data, 0, None, options.workers, options.seconds / 3)
    return {"slide_fast": mine, **sampled(options, mine), "PyTorch dense": dense}, "peers"


def whole_run(options: argparse.Namespace) -> tuple[Contenders, str]:
    """A run with the defaults, of a few epochs, to its end."""
    as_usual = {"in_batch": Config().in_batch}
    run = partial(child, ours.train_once, options.data, options.workers, EPOCHS, 1e9, 0, as_usual, False)
    return {f"slide_fast, {EPOCHS} epochs": run, **sampled(options, own(options, options.data, {}))}, "run"


def over_labels(options: argparse.Namespace) -> tuple[Contenders, str]:
    """The same shape with fewer and more labels; each sample finds at most `budget` neurons."""
    settings = {"lsh": {"budget": options.budget}}
    folders = {n: str(tasks.generated(SHAPE, n)) for n in LABELS}
    return {f"{n:,} labels": own(options, folder, settings) for n, folder in folders.items()}, "labels"


def as_in_the_paper(options: argparse.Namespace) -> tuple[Contenders, str]:
    return {"scope sample, paper's settings": own(options, options.data, PAPER)}, "paper"


PARTS = {"peers": against_peers, "run": whole_run, "labels": over_labels, "paper": as_in_the_paper}


def rows_of(contenders: Contenders, results: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Figures of each contender; ratios are taken round by round to the first."""
    rows = []
    for name, runs in zip(contenders, results, strict=True):
        rates = [run["samples_per_second"] for run in runs]
        ratios = [first["samples_per_second"] / rate for first, rate in zip(results[0], rates, strict=True)]
        row = {"contender": name, "samples_per_second": spread(rates), "first_over_this": spread(ratios)}
        row["peak_memory_bytes"] = max(run["peak_memory_bytes"] for run in runs)
        if "active_neurons" in runs[0]:
            row["active_neurons"] = spread([run["active_neurons"] for run in runs])
            row["rebuild_share"] = spread([sum(run["rebuild_seconds"]) / run["seconds"] for run in runs])
        rows.append(row)
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    cells = [["", "samples/s", "range", "us per sample", "first / this", "active", "rebuilds %", "peak MiB"]]
    for row in rows:
        rate = row["samples_per_second"]
        has = "active_neurons" in row
        cells.append([
            row["contender"],
            f"{rate['median']:,.0f}",
            f"{rate['min']:,.0f} to {rate['max']:,.0f}",
            f"{1e6 / rate['median']:,.1f}",
            f"{row['first_over_this']['median']:.2f}",
            f"{row['active_neurons']['median']:,.0f}" if has else "",
            f"{100 * row['rebuild_share']['median']:.1f}" if has else "",
            f"{row['peak_memory_bytes'] / 2**20:,.0f}",
        ])  # fmt: skip
    table(cells)


def draw(rows: list[dict[str, Any]], plot: Any) -> None:
    rates = [row["samples_per_second"] for row in rows]
    middle = [rate["median"] for rate in rates]
    reach = [[rate["median"] - rate["min"] for rate in rates], [rate["max"] - rate["median"] for rate in rates]]
    bars = plot.barh([row["contender"] for row in rows], middle, xerr=reach, height=0.5, capsize=4)
    plot.bar_label(bars, [f"{value:,.0f}" for value in middle], padding=8)
    plot.set_xlim(right=1.15 * max(rate["max"] for rate in rates))
    plot.invert_yaxis()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", default=SHAPE)
    parser.add_argument("--workers", type=int, default=2, help="and threads of the peers")
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, for each run; a third for dense")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=20, help="of labels: neurons per sample at most")
    parser.add_argument("--negatives", type=int, help="of the sampled softmax; default: as we have active")
    options = parser.parse_args()
    require_agreement()
    contenders, part = PARTS[options.part](options)
    rows = rows_of(contenders, in_turn(list(contenders.values()), options.rounds))
    report(rows)
    write_result(f"throughput_{part}", {"seconds": options.seconds, "workers": options.workers, "rows": rows})
    figure(partial(draw, rows), f"throughput_{part}", xlabel="samples a second", title=part)


if __name__ == "__main__":
    main()
