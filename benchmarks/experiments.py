"""Experiments on how well the network learns: settings against each other on several data sets, over seeds.

    python benchmarks/experiments.py                     all, one after another
    python benchmarks/experiments.py --quick             one seed, little data, two epochs: a few minutes
    python benchmarks/experiments.py negatives           one: a table, plots, results/experiment_negatives.json
    python benchmarks/experiments.py negatives --data tate_subjects --seeds 0 1 2

Runs of one experiment take turns: each seed runs all settings before the next. What is compared is P@1 and P@5 over
epochs and over seconds of training, rebuilds included, evaluations not. Experiments of one command share the runs that
they have in common, so their seconds can be of different minutes: where seconds matter, ask for one experiment alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import cache
from typing import Any, NamedTuple

from shared import ours, plots, tasks
from shared.curves import Point, time_to
from shared.harness import child, figure, read_result, require_agreement, table, write_result

from slide_fast.cli.settings import PRESETS

SETS = ("acl_authors", "stdlib", "diginetica", "tate_subjects", "delicious")
QUICK_SETS, QUICK_SAMPLES, QUICK_EPOCHS = ("tate_subjects", "delicious"), 10_000, 2
MATCHED = "matched"  # as min_active: as many as the setting before it had active
AUTO = "auto"  # as a setting: `slide_fast.engine.auto_settings` chooses
DENSE = {"lsh": {"L": 0, "min_active": ours.ALL}}
HASHED: dict[str, Any] = {"in_batch": 0.0, "lsh": {"min_active": 0}}  # from the first step on, and without padding
SIMHASH = {"family": "simhash", "min_active": 0}
MEASURES = {"precision_at_1": "P@1", "precision_at_5": "P@5"}


class Experiment(NamedTuple):
    """A question, and the settings that answer it.

    Attributes
    ----------
    question : str
    settings : dict
        Changes to the defaults by the name of a setting; the first is what the others are compared with.
    data : tuple of str
    seeds : int
    workers : dict
        Number of workers by setting, where it is not the option's.
    kept : tuple of str
        Settings whose curves take long: those in benchmarks/results are used again.
    n_samples : int, optional
        Training samples; default: those of the task.
    """

    question: str
    settings: dict[str, dict[str, Any]]
    data: tuple[str, ...] = ("acl_authors", "stdlib", "tate_subjects")
    seeds: int = 1
    workers: dict[str, int] = {}
    kept: tuple[str, ...] = ()
    n_samples: int | None = None


EXPERIMENTS = {
    "negatives": Experiment(
        "Do negatives from the tables teach more than as many uniform ones?",
        {
            "defaults": {},
            "uniform in place of hashed": {"lsh": {"L": 0}},
            "hashed from the first step": {"in_batch": 0.0},
            "as many, all uniform": {"in_batch": 0.0, "lsh": {"L": 0, "min_active": MATCHED}},
        },
        SETS,
        seeds=3,
    ),
    "hashed_alone": Experiment(
        "Do they alone?",
        {
            "defaults": {},
            "hashed alone": HASHED,
            "as many, all uniform": {"in_batch": 0.0, "lsh": {"L": 0, "min_active": MATCHED}},
            "labels of the micro-batch alone": {"lsh": {"L": 0, "min_active": 0}},
        },
    ),
    "recipe": Experiment(
        "What does each part of the training bring?",
        {
            "defaults": {},
            "logits not corrected": {"correction": False},
            "no decay of weights": {"weight_decay": 0.0},
            "first moments": {"beta1": 0.9},
            "no in-batch steps": {"in_batch": 0.0},
        },
        ("acl_authors", "stdlib", "diginetica", "tate_subjects"),
    ),
    "width": Experiment(
        "What does a wider hidden layer bring?",
        {
            "defaults": {},
            "--preset wide": PRESETS["wide"],
            **{f"the same, {n} hidden": PRESETS["wide"] | {"hidden": [n]} for n in (512, 2048)},
        },
        ("acl_authors", "tate_subjects"),
    ),
    "auto": Experiment(
        "Does --auto choose as well as a hand?",
        {
            "auto": {AUTO: True},
            "defaults": {},
            "micro-batch 64": {"micro_batch": 64},
            "K = 9": {"lsh": {"K": 9}},
            "budget 8": {"lsh": {"budget": 8}},
            "tables in any case": {"overfit_limit": 1.0},
        },
        ("acl_authors", "tate_subjects", "bibtex"),
    ),
    "dense": Experiment(
        "Does the sampled network reach the dense one?",
        {"defaults": {}, "dense": DENSE},
        ("tate_subjects", "delicious"),
        seeds=3,
    ),
    "dense_large": Experiment(
        "Does it with many labels?",
        {"defaults": {}, "dense": DENSE},
        ("acl_authors", "stdlib", "diginetica"),
        kept=("dense",),
    ),
    "unseen": Experiment(
        "Do the defaults hold on data they were not chosen on?",
        {"defaults": {}, "dense": DENSE},
        ("bibtex", *tasks.UNSEEN),
        kept=("dense",),
    ),
    "few_samples": Experiment(
        "How many epochs do 15,000 samples want?",
        {"defaults": {}, "8 epochs": {"epochs": 8}, "5 epochs": {"epochs": 5}},
        ("acl_authors", "stdlib", "diginetica", "tate_subjects"),
        n_samples=15_000,
    ),
    "rates": Experiment(
        "Is the default learning rate a good one?",
        {"defaults": {}, **{f"{rate:g}": {"learning_rate": rate} for rate in (0.02, 0.01, 0.005, 0.0025)}},
        ("bibtex", "delicious", "tate_subjects", "acl_authors", "stdlib", "diginetica"),
    ),
    "batch_size": Experiment(
        "How does the size of the micro-batch matter?",
        {"micro-batches of 256": {}, **{f"micro-batches of {size}": {"micro_batch": size} for size in (128, 64)}},
    ),
    "families": Experiment(
        "Centroids, SimHash or DWTA?",
        {
            "centroids": HASHED,
            "SimHash, K = 14, L = 10": HASHED | {"lsh": SIMHASH},
            "DWTA, K = 4 of 8, L = 10": {**HASHED, "lsh": {"min_active": 0, "family": "dwta", "K": 4}},
        },
    ),
    "strategies": Experiment(
        "How should neurons be chosen from the buckets?",
        {
            name: {**HASHED, "lsh": {**SIMHASH, "L": 50, "K": 10, "strategy": strategy, "threshold": 4}}
            for name, strategy in (("vanilla, 8", "vanilla"), ("top-k, 8", "topk"), ("in 4 buckets", "threshold"))
        },
        ("tate_subjects", "stdlib"),
    ),
    "policies": Experiment(
        "Which neurons should a full bucket keep?",
        {
            f"{name}, buckets of 8": {**HASHED, "lsh": {**SIMHASH, "K": 8, "bucket_size": 8, "policy": policy}}
            for name, policy in (("FIFO", "fifo"), ("reservoir", "reservoir"))
        },
    ),
    "rebuilds": Experiment(
        "Are rebuilds worth their time?",
        {
            "gaps from 200 steps, growing": HASHED,
            "every 50 steps": HASHED | {"rebuild_gap": 50, "rebuild_growth": 0.0},
            "never": HASHED | {"rebuild_gap": 10**9},
        },
    ),
    "workers": Experiment(
        "How do workers scale, and do many learn what one learns?",
        {"2 workers": {}, "1 worker": {}, "4 workers": {}, "16 workers": {}},
        ("acl_authors", "stdlib", "tate_subjects"),
        workers={"1 worker": 1, "4 workers": 4, "16 workers": 16},
    ),
}  # fmt: skip


class Outcome(NamedTuple):
    """What the runs of one setting on one data set came to; one entry a seed."""

    data: str
    setting: str
    curves: list[list[Point]]
    active: list[float]

    def best(self, measure: str) -> list[float]:
        return [max(point[measure] for point in curve) for curve in self.curves]

    def seconds_to(self, target: float) -> list[float | None]:
        return [time_to(curve, target) for curve in self.curves]


def settle(settings: dict[str, Any], active: float) -> dict[str, Any]:
    """Settings with MATCHED replaced by a number of active neurons."""
    lsh = settings.get("lsh", {})
    if lsh.get("min_active") != MATCHED:
        return settings
    return settings | {"lsh": lsh | {"min_active": round(active)}}


@cache
def curve_of(data: str, n_samples: int | None, n_workers: int, seed: int, settings: str) -> dict[str, Any]:
    """What `ours.curve` tells of settings in JSON; those that several experiments of one command share run once."""
    return child(ours.curve, data, n_samples, n_workers, 1e9, seed, json.loads(settings), 1.0)


def run(
    experiment: Experiment, data: str, seeds: list[int], kept: dict[str, Outcome], options: argparse.Namespace
) -> list[Outcome]:
    """All settings on one data set, in turn for each seed; those in `kept` are not run again."""
    outcomes = [kept.get(setting, Outcome(data, setting, [], [])) for setting in experiment.settings]
    epochs, n_samples = (QUICK_EPOCHS, QUICK_SAMPLES) if options.quick else (options.epochs, experiment.n_samples)
    for seed in seeds:
        active = 0.0
        for outcome, (name, settings) in zip(outcomes, experiment.settings.items(), strict=True):
            if name in kept:
                continue
            settings = settle(settings, active) | ({} if epochs is None else {"epochs": epochs})
            n_workers = experiment.workers.get(name, options.workers)
            curve = curve_of(data, n_samples, n_workers, seed, json.dumps(settings, sort_keys=True))
            active = curve["active_neurons"]
            outcome.curves.append(curve["points"])
            outcome.active.append(active)
            last = curve["points"][-1]
            print(f"  {data}, seed {seed}, {name}: P@1 {100 * last['precision_at_1']:.2f} %", flush=True)
    return outcomes


def in_words(values: list[float], scale: float = 100.0) -> str:
    """Mean and, of several, the standard deviation."""
    mean = f"{scale * statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {scale * statistics.stdev(values):.2f}"


def report(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Print a table for each data set; the figures."""
    first = outcomes[0]
    target = 0.9 * statistics.mean(first.best("precision_at_1"))
    cells = [[first.data, *(f"{name} %" for name in MEASURES.values()), "active", "s", f"s to {100 * target:.2f} %"]]
    rows = []
    for outcome in outcomes:
        seconds = [curve[-1]["seconds"] for curve in outcome.curves]
        reached = outcome.seconds_to(target)
        row = {"data": outcome.data, "setting": outcome.setting, "active_neurons": statistics.mean(outcome.active),
               "seconds": statistics.mean(seconds), "target": target, "seconds_to_target": reached,
               **{measure: outcome.best(measure) for measure in MEASURES}}  # fmt: skip
        rows.append(row)
        missed = any(time is None for time in reached)
        cells.append([outcome.setting, *(in_words(row[measure]) for measure in MEASURES),
                      f"{row['active_neurons']:,.0f}", f"{row['seconds']:.1f}",
                      "not reached" if missed else f"{statistics.mean(reached):.1f}"])  # fmt: skip
    table(cells)
    return rows


def kept_outcomes(experiment: Experiment, data: str, seeds: list[int], before: dict[str, Any]) -> dict[str, Outcome]:
    """What came of the settings that are not run again, from the results of an earlier run with the same seeds."""
    if before.get("seeds") != seeds or data not in before["curves"]:
        return {}
    active = {row["setting"]: row["active_neurons"] for row in before["rows"] if row["data"] == data}
    curves = before["curves"][data]
    return {name: Outcome(data, name, curves[name], [active[name]]) for name in experiment.kept if name in curves}


def answer(name: str, options: argparse.Namespace) -> None:
    """Run an experiment on its data sets; tables, plots and figures, written after each data set."""
    experiment = EXPERIMENTS[name]
    data = options.data or [d for d in experiment.data if not options.quick or d in QUICK_SETS]
    seeds = options.seeds or list(range(1 if options.quick else experiment.seeds))
    print(f"\n{name}: {experiment.question}", flush=True)
    started = time.perf_counter()
    before = read_result(f"experiment_{name}") or {}
    rows = [row for row in before.get("rows", []) if options.data and row["data"] not in data]
    curves = {key: value for key, value in before.get("curves", {}).items() if options.data and key not in data}
    for one in data:
        refresh = options.refresh or options.quick or options.epochs is not None
        kept = {} if refresh else kept_outcomes(experiment, one, seeds, before)
        outcomes = run(experiment, one, seeds, kept, options)
        rows += report(outcomes)
        curves[one] = {outcome.setting: outcome.curves for outcome in outcomes}
        if options.quick:
            continue
        facts = {"question": experiment.question, "seeds": seeds, "workers": options.workers}
        write_result(f"experiment_{name}", facts | {"rows": rows, "curves": curves})
        for axis in plots.AXES:
            plot = plots.settings(curves[one], axis, experiment.question, one)
            figure(plot.draw, f"experiment_{name}_{tasks.name_of(one)}_{axis}", **plot.axes)
    print(f"{name} took {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(EXPERIMENTS)}; default: all")
    parser.add_argument("--data", nargs="+", help="default: the experiment's own")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the experiment's own")
    parser.add_argument("--epochs", type=int, help="default: that of the settings")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--refresh", action="store_true", help="make the dense curves in benchmarks/results again")
    parser.add_argument("--quick", action="store_true", help="one seed, little data, two epochs; nothing is written")
    options = parser.parse_args()
    for name in options.names:
        if name not in EXPERIMENTS:
            parser.error(f"unknown experiment {name}; known are {', '.join(EXPERIMENTS)}")
    require_agreement()
    for name in options.names or EXPERIMENTS:
        answer(name, options)


if __name__ == "__main__":
    main()
