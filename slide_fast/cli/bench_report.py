"""What ``slide bench`` prints: its figures as a table, and which way to train pays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..display.wording import duration
from .ways import CHOSEN, DENSE, TABLES, THROUGHOUT, UNIFORM

NEARLY = 0.9  # of the epochs count as all
PHRASES = {
    CHOSEN: "with the settings of slide train",
    TABLES: "with tables after the in-batch steps",
    THROUGHOUT: "with tables from the first step on",
    UNIFORM: "with uniform negatives",
    DENSE: "with all neurons active",
}


def report(figures: dict[str, Any], folded: Sequence[int], top: int) -> str:
    """Return the report on the figures of ``slide bench``; `folded` and `top` are its constants."""
    latency = figures["latency_milliseconds"]
    answer = f"One sample's {top} best labels take {latency['median']:.1f} ms (at most {latency['max']:.1f} ms)."
    lines = [*_table(figures["ways"]), "", *accuracy_in_words(figures), _speed(figures)]
    return "\n".join([*lines, _crossover(figures["crossover_labels"], folded), answer])


def _table(ways: dict[str, dict[str, Any]]) -> list[str]:
    is_judged = any("precision_at_1" in row for row in ways.values())
    heads = f"{'P@1 %':>8}{'after':>8}{'epochs':>8}" if is_judged else ""
    lines = [f"{'':18}{'samples/s':>10}{'an epoch':>10}{'active':>10}{heads}"]
    for way, row in ways.items():
        name = f"{way}, projected" if row["projected"] else way
        text = f"{name:18}{row['samples_per_second']:>10,.0f}{duration(math.ceil(row['seconds_per_epoch'])):>10}"
        text += f"{row['active_neurons']:>10,.0f}"
        if "precision_at_1" in row:
            text += f"{100 * row['precision_at_1']:>8.2f}{row['trained_seconds']:>6.1f} s{row['epochs']:>8.2f}"
        lines.append(text)
    return lines


def accuracy_in_words(figures: dict[str, Any]) -> list[str]:
    """Return sentences that say which way pays, how to train by it, and what would be longer; none without P@1."""
    found, ways = figures["verdict"], figures["ways"]
    if found is None:
        return []
    best, against = found["best"], found["against"]
    scores = ", ".join(f"{100 * ways[way]['precision_at_1']:.1f} % {PHRASES[way]}" for way in (best, against))
    after = f"after {_seconds(ways[best], ways[against])} of training"
    if found["difference"] <= found["margin"]:
        shown = f"No difference here that {figures['n_test_samples']:,} test samples can show"
        lines = [f"{shown}: P@1 is {scores}, {after}."]
    elif found["tables_pay"] is None:
        lines = [f"Training {PHRASES[best]} pays here: P@1 is {scores}, {after}."]
    else:
        lines = [f"Tables {'pay' if found['tables_pay'] else 'do not pay'} here: P@1 is {scores}, {after}."]
    if found["is_better_than_chosen"]:
        lines.append(f"To train {PHRASES[best]}, give slide train {found['options']}")
    planned = figures["planned"]
    if min(ways[way]["epochs"] for way in (best, against)) < NEARLY * planned["epochs"]:
        whole = f"{planned['epochs']} epochs in {duration(planned['seconds'])}"
        needed = float(f"{planned['bench_seconds']:.2g}")
        lines.append(f"slide train would train {whole}; by then the order may change: "
                     f"--seconds {needed:.0f} gives each way as long.")  # fmt: skip
    return lines


def _seconds(*rows: dict[str, Any]) -> str:
    """Return the seconds of two runs, once if they are about the same."""
    shown = [f"{s:.0f}" if (s := row["trained_seconds"]) >= 1 else f"{s:.1g}" for row in rows]
    return f"{' and '.join(dict.fromkeys(shown))} s"


def _speed(figures: dict[str, Any]) -> str:
    ways = figures["ways"]
    if DENSE not in ways:
        return "All neurons are active in each step: with so few labels nothing is sampled."
    ratio = ways[CHOSEN]["samples_per_second"] / ways[DENSE]["samples_per_second"]
    if figures["dense_is_faster"]:
        return f"Dense would be {1 / ratio:.1f} times faster for this problem: {figures['dense_options']}"
    return f"Dense would be {ratio:.1f} times slower for this problem."


def _crossover(n_labels: float | None, folded: Sequence[int]) -> str:
    if n_labels is None:
        return f"Dense is faster even at {folded[-1]:,} labels."
    if n_labels == 0:
        return f"Dense is slower from {folded[0]:,} labels on, or from fewer."
    return f"The two are equally fast at about {float(f'{n_labels:.2g}'):,.0f} labels."
