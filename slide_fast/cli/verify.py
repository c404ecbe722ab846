"""``slide verify``: compare reference and fast path on the user's data and settings."""

from __future__ import annotations

import dataclasses
import math
import time
from argparse import Namespace
from itertools import takewhile
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import DataError
from slide_ref.common.metrics import RANKS
from slide_ref.common.micro_batches import micro_batch
from slide_ref.common.schedule import in_batch_steps, rebuild_steps, sample_order, steps_per_epoch, total_steps
from slide_ref.common.sparse_rows import Dataset

from ..display.wording import aligned, network_in_words
from ..parallel.units import numbered
from ..verify.comparison import Disagreement, Report
from ..verify.lockstep import Lockstep, new_lockstep
from .session import Session, expecting_numbers, generated, read_samples
from .settings import assign, config_of, settings_of

STEPS = 12
REBUILD_GAP = 4
MICRO_BATCH = 32
SECONDS = 60.0  # after which no step begins, unless their number was asked for
ENTRIES = 500_000  # neurons in all tables: the reference puts them in one by one
SORTED = 20_000  # neurons that it sorts at every centroid
ROWS_TO_PREDICT = 16
LOGITS_TO_PREDICT = 200_000
SYNTHETIC = {"n_samples": 600, "n_features": 500, "n_labels": 2000, "nonzeros": 20, "labels_per_sample": 3}
SYNTHETIC_MIN_ACTIVE = 100
STAGES = {
    "codes": ("hash constants", "addresses of neurons", "addresses of samples"),
    "centroids": ("queries", "cells", "centroids", "groups", "nearest centroids"),
    "buckets": ("bucket sizes", "buckets"),
    "active sets": ("active sets", "inactive neurons", "probabilities of being active"),
    "activations": ("activations",),
    "loss": ("loss",),
    "gradients": ("touched rows", "gradients", "bias gradients"),
    "weights": ("W", "b"),
    "moments": ("W_m", "W_v", "b_m", "b_v"),
    "predictions": ("exact answers", "cells of samples", "candidates", "answers of the index"),
}
STAGE_OF = {part: stage for stage, parts in STAGES.items() for part in parts}


def verify(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide verify``: train the reference and compare the fast path at every stage of every step."""
    settings = settings_of(options)
    with expecting_numbers("slide verify reads samples of numbers"):
        data = _synthetic(settings) if options.data is None else read_samples(options.data)
    n_samples, n_labels = data.n_samples, data.labels.n_columns
    wanted = config_of(settings, n_labels)
    micro_batch = options.micro_batch or min(wanted.micro_batch, MICRO_BATCH)
    most = SORTED if wanted.lsh.family == "centroid" else ENTRIES // max(1, wanted.lsh.L)
    n_kept = options.labels or most
    data = cut(data, micro_batch * (options.steps or STEPS), n_kept)
    if not data.labels.nnz:
        raise DataError(f"none of the first {data.n_samples:,} samples has a label", options.data)
    config = config_of(settings, data.labels.n_columns)
    config = config.replace(micro_batch=micro_batch, rebuild_gap=min(config.rebuild_gap, REBUILD_GAP))
    config = _with_early_tables(config, data, options.steps or STEPS)
    session.console.line(_outlook(config, data, n_samples, n_labels, options))
    started = time.perf_counter()
    run = _Run(config, data, session)
    disagreement = run.compare(options.steps)
    stages = _by_stage(run.lockstep.report)
    failed = None if disagreement is None else _stage_of(disagreement["at"])
    session.console.result(f"{_table(stages, failed)}\n")
    if disagreement is not None:
        session.console.result(f"{disagreement['when']}: {disagreement['at']}\n\nThe two sides DISAGREE.")
    else:
        session.console.result(
            f"{numbered(run.step, 'step')} and {numbered(run.rebuilds, 'build')} of the tables: the two sides agree."
        )
    return {
        "agree": disagreement is None,
        "disagreement": disagreement,
        "stages": stages,
        "steps": run.step,
        "rebuilds": run.rebuilds,
        "micro_batch": config.micro_batch,
        "seconds": time.perf_counter() - started,
    }


def _with_early_tables(config: Config, data: Dataset, n_steps: int) -> Config:
    """Return settings in which the output's tables, if any, are queried after at most a quarter of the steps (S32)."""
    total = total_steps(config, data.n_samples)
    is_sampled = len(config.hidden) in config.sampled_layers(data.labels.n_columns)
    alone = min(in_batch_steps(config, total), n_steps // 4) if is_sampled else 0
    return config.replace(in_batch=min((alone + 0.5) / total, 1.0) if alone else 0.0)


def _synthetic(settings: dict[str, Any]) -> Dataset:
    """Generate a small task, whose labels outnumber the padding unless the user wants otherwise."""
    if "min_active" not in settings.get("lsh", {}):
        assign(settings, "lsh.min_active", SYNTHETIC_MIN_ACTIVE)
    return generated("wiki10-31k", **SYNTHETIC)


def cut(data: Dataset, n_samples: int, n_labels: int) -> Dataset:
    """Return the first samples of a data set, with at most `n_labels` labels unless these samples have more.

    Further labels are chosen evenly among those that the samples do not have; all labels keep their order.
    """
    data = data.take(np.arange(min(n_samples, data.n_samples)))
    n = data.labels.n_columns
    if n <= n_labels:
        return data
    is_kept = np.zeros(n, dtype=bool)
    is_kept[data.labels.indices] = True
    others = np.flatnonzero(~is_kept)
    n_more = max(0, n_labels - int(is_kept.sum()))
    is_kept[others[np.linspace(0, len(others) - 1, n_more).astype(np.int64)]] = True
    new_ids = np.cumsum(is_kept, dtype=np.int32) - 1
    labels = dataclasses.replace(data.labels, indices=new_ids[data.labels.indices], n_columns=int(is_kept.sum()))
    return Dataset(data.features, labels)


def _outlook(config: Config, data: Dataset, n_samples: int, n_labels: int, options: Namespace) -> str:
    lines = [
        ("data", f"{numbered(data.n_samples, 'sample')} of {n_samples:,}, {options.data or 'synthetic'}"),
        ("network", network_in_words(config, data.features.n_columns, data.labels.n_columns)),
        ("steps", f"of {config.micro_batch:,} samples; tables rebuilt every {config.rebuild_gap} steps or so"),
    ]
    alone = in_batch_steps(config, total_steps(config, data.n_samples))
    if alone:
        lines.append(("", f"the output's tables are queried from step {alone + 1} on"))
    if data.labels.n_columns < n_labels:
        lines.append(("", f"{data.labels.n_columns:,} of {n_labels:,} labels: the reference is slow; see --labels"))
    n_labels = data.labels.n_columns
    if not config.sampled_layers(n_labels):
        lines.append(("", "no layer has tables: lsh.min_active is not below the number of labels"))
    if options.steps is None:
        lines.append(("", f"{STEPS} steps, or fewer: none begins after {SECONDS:.0f} s; the reference is slow"))
    return aligned([*lines, ("", "")])


class _Run:
    """A comparison over some training steps in lockstep.

    Attributes
    ----------
    lockstep : Lockstep
    step, rebuilds : int
        Number of steps, and of table builds, compared so far.
    """

    def __init__(self, config: Config, data: Dataset, session: Session):
        self.config, self.data, self.session = config, data, session
        self.lockstep: Lockstep = new_lockstep(config, data)
        self.step = self.rebuilds = 0
        self.when = ""

    @np.errstate(over="ignore", invalid="ignore")  # check_floats says it better
    def compare(self, n_steps: int | None) -> dict[str, Any] | None:
        """Take `n_steps` steps, or as many as time allows; return the first disagreement, or None."""
        wanted, deadline = n_steps or STEPS, math.inf if n_steps else time.monotonic() + SECONDS
        total = total_steps(self.config, self.data.n_samples)
        alone = in_batch_steps(self.config, total)
        rebuilds = set(takewhile(lambda step: step <= wanted, rebuild_steps(self.config, total)))
        try:
            self._rebuild(wanted)
            while self.step < wanted and (self.step <= alone or time.monotonic() < deadline):
                self._step(self.step + 1, wanted)
                if self.step in rebuilds:
                    self._rebuild(wanted)
        except Disagreement as error:
            return {"when": self.when, "at": str(error)}
        return None

    def _tell(self, when: str, wanted: int) -> None:
        self.when = when
        size = f"the reference works through {self.data.labels.n_columns:,} labels"
        self.session.console.progress(self.step / wanted, f"{when} (of {wanted}); {size}")

    def _rebuild(self, wanted: int) -> None:
        self._tell(f"build {self.rebuilds} of the tables, after step {self.step}", wanted)
        self.lockstep.rebuild(self.rebuilds)
        self.rebuilds += 1
        n_rows = max(1, min(ROWS_TO_PREDICT, LOGITS_TO_PREDICT // self.data.labels.n_columns, self.data.n_samples))
        self._tell(f"predictions after step {self.step}", wanted)
        first = self.step * self.config.micro_batch
        rows = (first + np.arange(n_rows)) % self.data.n_samples
        self.lockstep.predict(self.data.features.take(rows), max(RANKS))

    def _step(self, step: int, wanted: int) -> None:
        self._tell(f"step {step}", wanted)
        epoch = (step - 1) // steps_per_epoch(self.data.n_samples, self.config.micro_batch)
        order = sample_order(self.config.seed, epoch, self.data.n_samples)
        self.lockstep.step(micro_batch(self.config, self.data, order, epoch, step))
        self.step = step


def _stage_of(text: str) -> str:
    """Return the stage that an entry of a report, or a message about it, belongs to."""
    part = text.partition(":")[0].partition(" of layer ")[0].partition(" of table ")[0]
    return STAGE_OF.get(part, part)


def _by_stage(report: Report) -> dict[str, dict[str, Any]]:
    """Summarise by stage: numbers of values, and largest deviations relative to their bounds."""
    stages: dict[str, dict[str, Any]] = {}
    for part, n in report.compared.items():
        stage = stages.setdefault(_stage_of(part), {"values": 0, "deviation": 0.0})
        stage["values"] += n
        stage["deviation"] = max(stage["deviation"], report.deviation[part])
    return {stage: stages[stage] for stage in sorted(stages, key=[*STAGES, *stages].index)}


def _table(stages: dict[str, dict[str, Any]], failed: str | None) -> str:
    """Format one line per stage; a deviation of 1 is the most that the reference's own rounding allows."""
    lines = [f"{'stage':12}{'values':>14}{'deviation':>12}"]
    for stage in [*stages, *([] if failed is None or failed in stages else [failed])]:
        figures = stages.get(stage, {"values": 0, "deviation": math.nan})
        cell = "WRONG" if stage == failed else f"{figures['deviation']:.3f}"
        lines.append(f"{stage:12}{figures['values']:>14,}{cell:>12}")
    legend = "deviation: the largest, relative to twice the reference's own error in float32, plus rounding"
    return "\n".join([*lines, "", legend])
