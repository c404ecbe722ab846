"""The ways to train that ``slide bench`` compares, and runs of them that fit in a given time."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.lsh_config import CENTROID_TABLES, LshConfig
from slide_ref.common.schedule import (
    STEPS_A_WORKER,
    in_batch_steps,
    joined_after,
    n_epochs,
    rebuild_steps,
    sample_order,
    steps_per_epoch,
    total_steps,
    workers_at,
)
from slide_ref.common.sparse_rows import Dataset

from ..display.wording import has_tables
from ..engine.auto_settings import OF_INPUTS
from .settings import ALL

CHOSEN, TABLES, THROUGHOUT = "as slide train", "tables", "tables throughout"
UNIFORM, DENSE = "uniform negatives", "dense"
EVERYTHING = 2**31 - 1  # neurons: as many as there are
DEVIATIONS = 2  # by which a difference exceeds chance


def ways_to_train(config: Config, n_labels: int) -> dict[str, Config]:
    """Return the ways to train by name, those only that differ from the ways before them.

    Parameters
    ----------
    config : Config
        What ``slide train`` would choose. If it has tables, they are also queried from the first step on; if it has
        none, the default ones are compared with it.
    n_labels : int
        With so few that tables or draws would make them all active, these ways are dense.
    """
    padding = {"min_active": config.lsh.min_active or LshConfig.min_active}
    in_batch = min(config.in_batch, Config.in_batch)  # so that tables are queried in the end
    queries_tables = config.lsh.L and (config.in_batch < 1 or config.scope != "batch")
    tables = {} if config.lsh.L else CENTROID_TABLES | padding
    every = {
        CHOSEN: config,
        TABLES: config if queries_tables else config.replace(in_batch=in_batch, lsh=tables),
        THROUGHOUT: config.replace(in_batch=0.0) if config.lsh.L else config,
        UNIFORM: config.replace(lsh={"L": 0} | padding),
        DENSE: all_active(config),
    }
    ways: dict[str, Config] = {}
    for name, way in every.items():
        way = as_it_trains(way, n_labels)
        if way not in ways.values() and (name in (CHOSEN, DENSE) or way.lsh.min_active < n_labels):
            ways[name] = way
    return ways


def all_active(config: Config) -> Config:
    """Return the same settings with a dense output layer."""
    return config.replace(in_batch=0.0, lsh={"L": 0, "min_active": EVERYTHING})


def as_it_trains(config: Config, n_labels: int) -> Config:
    """Return the same settings without those that change nothing for this number of labels."""
    if config.lsh.min_active >= n_labels:
        return all_active(config)
    has_phases = config.scope == "batch" and (config.lsh.L or config.lsh.min_active)
    if has_phases and config.in_batch == 1:
        return config.replace(lsh={"L": 0})  # tables that no step queries
    return config if has_phases else config.replace(in_batch=0.0)


def phases(way: Config) -> dict[Config, float]:
    """Return the parts of a run whose steps are alike, each as settings of its own, with their shares of the steps."""
    parts = {way.replace(in_batch=1.0, lsh={"L": 0}): way.in_batch, way.replace(in_batch=0.0): 1 - way.in_batch}
    return {part: share for part, share in parts.items() if share}


class Timing(NamedTuple):
    """Seconds that a step takes when all workers train, and a rebuild of the tables."""

    step: float
    rebuild: float = 0.0

    @classmethod
    def of(cls, events: Sequence[dict[str, Any]], has_rebuilds: bool) -> Timing:
        """Return the timing of a run of steps that are alike, from its events.

        What passes between two reports with no rebuild between them is steps; the rest of the time is rebuilds.
        """
        end, seconds, n_steps = events[-1], 0.0, 0
        reports = [event for event in events if event["kind"] == "progress"]
        for _, group in groupby(reports, key=lambda event: event["rebuilds"]):
            between = list(group)
            seconds += between[-1]["seconds"] - between[0]["seconds"]
            n_steps += between[-1]["step"] - between[0]["step"]
        if not (has_rebuilds and n_steps):
            return cls(end["seconds"] / end["step"])
        left = end["seconds"] - end["step"] * seconds / n_steps
        return cls(seconds / n_steps, max(left, 0.0) / max(end["rebuilds"], 1))


def seconds_of(way: Config, n_steps: int, timings: dict[Config, Timing], n_workers: int) -> float:
    """Return how long a new run takes, by the timings of its `phases`; workers join one by one (S33)."""
    steps = sum(share * timings[part].step for part, share in phases(way).items())
    joining = range(0, min(n_steps, joined_after(n_workers)), STEPS_A_WORKER)
    lost = sum(STEPS_A_WORKER * (n_workers / workers_at(step, n_workers) - 1) for step in joining)
    queried = in_batch_steps(way, n_steps)
    n_rebuilds = (not queried) + sum(step >= queried for step in rebuild_steps(way, n_steps))
    later = timings.get(way.replace(in_batch=0.0), Timing(0.0))  # not measured if all steps are in-batch steps
    return steps * (n_steps + lost) + n_rebuilds * later.rebuild


def run_within(
    seconds: float, way: Config, data: Dataset, timings: dict[Config, Timing], n_workers: int
) -> tuple[Config, Dataset]:
    """Return settings and samples of a complete run that takes about `seconds`: at most what ``slide train`` runs.

    Its schedule ends with the run. Of an epoch that would take too long, it sees the first samples in keyed order.
    """
    n, size = data.n_samples, way.micro_batch
    planned = n_epochs(way, n)
    n_steps = bisect.bisect_right(
        range(1, total_steps(way, n)), seconds, key=lambda n_steps: seconds_of(way, n_steps, timings, n_workers)
    )
    n_steps = max(n_steps, 1)
    epochs = min(math.ceil(n_steps / steps_per_epoch(n, size)), planned)
    n_seen = min(n_steps * size // epochs, n)
    if n_seen < n:
        data = data.take(np.sort(sample_order(way.seed, 0, n)[:n_seen]))
    return way.replace(epochs=epochs), data


def verdict(hits: dict[str, np.ndarray], ways: dict[str, Config], n_labels: int) -> dict[str, Any]:
    """Compare ways by which test samples each answers correctly: the best one with tables and the best without.

    Parameters
    ----------
    hits : mapping of str to ndarray of bool, shape (n_test_samples,)
        At least two, by the name of the way.
    ways : mapping of str to Config
    n_labels : int

    Returns
    -------
    dict
        Names of the ``best`` way and of the one it is compared ``against``, the best of the other kind, or if all are
        of one kind the second best; ``difference`` in P@1; ``margin``, which chance seldom exceeds; ``tables_pay``,
        None if that is open; ``is_better_than_chosen``, whether the best exceeds the chosen way by more than chance.
    """
    order = sorted(hits, key=lambda way: -hits[way].mean())  # stable: of equals the one that comes first
    best, uses = order[0], {way: has_tables(ways[way], n_labels) for way in hits}
    others = [way for way in order if uses[way] != uses[best]]
    against = others[0] if others else order[1]
    difference, margin = _compared(hits[best], hits[against])
    gain, chance = _compared(hits[best], hits[CHOSEN])
    return {
        "best": best,
        "against": against,
        "difference": difference,
        "margin": margin,
        "tables_pay": uses[best] if others and difference > margin else None,
        "is_better_than_chosen": gain > chance,
    }


def _compared(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the difference between two fractions of the same samples, and how large it would be by chance."""
    return float(one.mean() - other.mean()), DEVIATIONS * math.sqrt(np.count_nonzero(one != other)) / len(one)


def options_of(way: Config, given: Config) -> str:
    """Return the options that make `way` out of the settings given, but for those that the inputs decide."""
    had, has = _named(given), _named(way)
    changed = {key: value for key, value in has.items() if had[key] != value and key not in OF_INPUTS}
    if way.lsh.min_active == EVERYTHING:  # other settings of the sampling have no effect
        changed = {key: value for key, value in changed.items() if key not in ("in_batch", "lsh.L")}
        changed["lsh.min_active"] = ALL
    return " ".join(f"--set {key}={str(value).replace(' ', '')}" for key, value in changed.items())


def _named(config: Config) -> dict[str, Any]:
    """Return settings by their names in ``--set``."""
    settings = config.to_dict()
    lsh = settings.pop("lsh")
    return settings | {f"lsh.{key}": value for key, value in lsh.items()}
