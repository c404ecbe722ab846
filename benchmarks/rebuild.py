"""The rebuilds' share of training time, growing gaps included, where tables are queried from the first step on.

    python benchmarks/rebuild.py                     Amazon-670K shape

A measured minute gives the time of a step and of a rebuild; from these the first ten minutes are counted out with the
schedule of the settings. The first build of the tables, before step 1, counts.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from shared import ours, tasks
from shared.harness import child, figure, require_agreement, table, write_result

from slide_ref.common.config import Config
from slide_ref.common.schedule import rebuild_steps

TEN_MINUTES = 600.0


def simulate(step_seconds: float, rebuild_seconds: float, config: Config) -> list[tuple[float, float]]:
    """Seconds passed and seconds spent on rebuilds, after each rebuild of the first ten minutes."""
    passed, spent, step = rebuild_seconds, rebuild_seconds, 0
    course = [(passed, spent)]
    for last in rebuild_steps(config.replace(in_batch=0.0), 10**9):
        passed += (last - step) * step_seconds
        if passed + rebuild_seconds > TEN_MINUTES:
            return [*course, (TEN_MINUTES, spent)]
        step, passed, spent = last, passed + rebuild_seconds, spent + rebuild_seconds
        course.append((passed, spent))
    return course


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training that is measured")
    options = parser.parse_args()
    require_agreement()
    run = child(ours.train_once, options.data, options.workers, ours.LONG, options.seconds, 0, {}, False)
    rebuilds = run["rebuild_seconds"]
    rebuild_seconds = sum(rebuilds) / len(rebuilds)
    step_seconds = (run["seconds"] - sum(rebuilds)) / run["steps"]
    course = simulate(step_seconds, rebuild_seconds, Config())
    share = course[-1][1] / course[-1][0]
    measured = sum(rebuilds) / run["seconds"]
    table([
        ["", "rebuilds", "s a rebuild", "ms a step", "share %"],
        [f"measured, {run['seconds']:.0f} s", str(len(rebuilds)), f"{rebuild_seconds:.2f}",
         f"{1e3 * step_seconds:.2f}", f"{100 * measured:.2f}"],
        ["counted out, 600 s", str(len(course) - 1), f"{rebuild_seconds:.2f}", f"{1e3 * step_seconds:.2f}",
         f"{100 * share:.2f}"],
    ])  # fmt: skip
    name = f"rebuild_{tasks.name_of(options.data)}"
    figures = {"rebuild_seconds": rebuilds, "step_seconds": step_seconds, "measured_share": measured,
               "share_of_ten_minutes": share, "workers": options.workers}  # fmt: skip
    write_result(name, figures)
    figure(partial(draw, course), name, xlabel="seconds of training", ylabel="rebuilds so far, per cent of the time")


def draw(course: list[tuple[float, float]], plot: Any) -> None:
    plot.plot([passed for passed, _ in course], [100 * spent / passed for passed, spent in course], marker=".")
    plot.set_ylim(0, 40)


if __name__ == "__main__":
    main()
