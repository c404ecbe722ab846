"""What many workers learn, without as many CPUs: P@1 where each update comes as late as theirs would.

    python benchmarks/delay.py --data acl_authors      and stdlib, tate_subjects, amazon-670k, or a folder

One process computes all gradients, and applies each when so many later ones are computed as W - 1 other workers would
have begun meanwhile: the longest delay that W workers of equal speed have. Workers join as they do in a run (S33), or
are there from the first step on. Everything is reproducible to the bit.
"""

from __future__ import annotations

import argparse
from collections import deque
from copy import deepcopy
from functools import partial
from typing import Any

from shared import ours, plots, tasks
from shared.curves import best
from shared.harness import child, figure, in_turn, require_agreement, table, write_result

import slide_fast.engine.learner
from slide_fast.network import RowGradient
from slide_ref.common.schedule import workers_at

Curve = dict[str, Any]


def delayed_curve(data: str, n_workers: int, joins: bool) -> Curve:
    """`curve` of ours, of one process that updates late."""
    update, waiting = slide_fast.engine.learner.update, deque()

    def late(layers: list, gradients: list[RowGradient], step: int, *rest: Any) -> None:
        waiting.append((deepcopy(gradients), step, *rest))
        under_way = workers_at(step - 1, n_workers) if joins else n_workers
        while len(waiting) >= under_way:
            update(layers, *waiting.popleft())

    slide_fast.engine.learner.update = late
    return ours.curve(data, None, 1, 1e9, gap=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="acl_authors")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 16, 64])
    options = parser.parse_args()
    require_agreement()
    cases = {"1": (1, True)}
    for n in options.workers:
        cases |= {f"{n}": (n, True), f"{n}, all from the first step on": (n, False)}
    contenders = [partial(child, delayed_curve, options.data, *case) for case in cases.values()]
    curves = {name: run["points"] for name, [run] in zip(cases, in_turn(contenders, 1), strict=True)}
    rows = [["workers", "best P@1 %", "P@1 % by epoch"]]
    for name, points in curves.items():
        by_epoch = ", ".join(f"{100 * point['precision_at_1']:.1f}" for point in points)
        rows.append([name, f"{100 * best(points):.2f}", by_epoch])
    table(rows)
    name = tasks.name_of(options.data)
    write_result(f"delay_{name}", {"curves": curves})
    plot = plots.delays(curves, name)
    figure(plot.draw, f"delay_{name}", **plot.axes)


if __name__ == "__main__":
    main()
