"""``slide bench``: does hashing pay off for this problem, on this machine?

The same engine trains in three ways in turn, for a short time each: with the given settings, with uniform negatives
instead of tables, and with all neurons active (dense). The number of labels at which the first and the last are equally
fast is measured on the same samples, with their labels folded into fewer.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError
from slide_ref.common.parameters import Layer, array_shapes, initialise, layers_of
from slide_ref.common.schedule import joined_after
from slide_ref.common.sparse_rows import Dataset

from ..display.wording import aligned, duration, network_in_words
from ..engine.checkpoints import PastRuns, TrainingState
from ..engine.handover import Handover
from ..parallel.machine import available_cpus, cpu_model, memory_left
from ..parallel.units import numbered
from ..prediction import predict_topk
from ..training import fit
from .session import Session, generated, read_samples
from .settings import config_of, settings_of

EPOCHS = 10**6  # the clock ends a run
FOLDED = (2_000, 8_000, 32_000)  # numbers of labels that the crossover is looked for between
SHARE_OF_CROSSOVER = 0.25  # of the time
LATENCIES = 50
TOP = 5
GENERATED_SAMPLES = 20_000
SLIDE, UNIFORM, DENSE = "hashing", "uniform negatives", "dense"


def bench(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide bench``: measure samples/s of the three ways, and say what follows from them."""
    settings = settings_of(options)

    def tell() -> None:
        session.console.line(f"generating {GENERATED_SAMPLES:,} samples of the shape {options.shape}")

    if options.data is None:
        data = generated(options.shape, n_samples=GENERATED_SAMPLES, started=tell)
    else:
        data = read_samples(options.data, needs_labels=True)
    return _Bench(options, session, data, config_of(settings, data.labels.n_columns)).run()


def fold(data: Dataset, n_labels: int) -> Dataset:
    """Return the same samples with fewer labels: label l becomes l mod `n_labels`."""
    folded = dataclasses.replace(data.labels, indices=data.labels.indices % n_labels, n_columns=n_labels)
    return Dataset(data.features, folded.canonical())


def level_at(n_labels: Sequence[float], advantages: Sequence[float]) -> float | None:
    """Return the number of labels at which a growing speed ratio reaches 1, interpolated between logarithms.

    Returns
    -------
    float or None
        0 if it is above 1 everywhere, None if nowhere.
    """
    if advantages[0] > 1:
        return 0.0
    for i in range(1, len(advantages)):
        if advantages[i] > 1:
            (x0, x1), (y0, y1) = (np.log(values[i - 1 : i + 1]) for values in (n_labels, advantages))
            return float(np.exp(x0 - y0 * (x1 - x0) / (y1 - y0)))
    return None


def variants(config: Config) -> dict[str, Config]:
    """Return the ways to train, without the one with tables if the settings have none."""
    everything = config.replace(lsh={"min_active": 2**31 - 1})
    uniform = config.replace(lsh={"L": 0})
    return ({SLIDE: config} if config.lsh.L else {}) | {UNIFORM: uniform, DENSE: everything}


def in_full_swing(config: Config, data: Dataset, n_workers: int) -> TrainingState:
    """Return a new network whose step count is high enough for all workers to train (S33)."""
    sizes = data.features.n_columns, data.labels.n_columns
    shapes = {name: shape for name, shape in array_shapes(config, *sizes).items() if "_" not in name}
    arrays = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    initialise(layers_of(arrays), config.seed, input_scale=config.input_scale)
    return TrainingState(config, *sizes, arrays, PastRuns(joined_after(n_workers)))


class _Bench:
    """Measurements on one problem."""

    def __init__(self, options: Namespace, session: Session, data: Dataset, config: Config):
        self.session, self.data, self.config = session, data, config
        self.workers = options.workers or available_cpus()
        self.seconds, self.spent = options.seconds, 0.0
        self.layers: list[Layer] = []

    def run(self) -> dict[str, Any]:
        counts = (self.data.features.n_columns, self.data.labels.n_columns)
        heading = {
            "machine": f"{cpu_model()}, {numbered(self.workers, 'worker')}",
            "data": f"{self.data.n_samples:,} samples",
        }
        heading["network"] = network_in_words(self.config, *counts)
        self.session.console.line(aligned([*heading.items(), ("", "")]))
        folded = self.folded()
        rates = self.rates(folded)
        crossover = level_at([row["labels"] for row in folded], [row["advantage"] for row in folded])
        figures = {
            "ways": rates,
            "dense_is_faster": rates[DENSE]["samples_per_second"] > rates[self.own]["samples_per_second"],
            "folded": folded,
            "crossover_labels": crossover,
            "latency_milliseconds": self.latency(),
            "workers": self.workers,
            "n_labels": counts[1],
        }
        self.session.console.result(_report(figures, self.own))
        return figures

    @property
    def own(self) -> str:
        """Return the user's way to train: the given settings, or uniform negatives if those have no tables."""
        return SLIDE if self.config.lsh.L else UNIFORM

    def measure(self, config: Config, data: Dataset, workers: int, seconds: float, what: str) -> dict[str, float]:
        """Train for some seconds as after the in-batch steps (S32), with all workers (S33), rebuilds included."""
        last: dict[str, Any] = {}
        self.layers, spent = [], self.spent  # of the run before

        def watch(event: dict[str, Any]) -> None:
            last[event["kind"]] = event
            if event["kind"] == "start":
                self.session.worker_pids = event["pids"]
            self.session.console.progress((spent + min(event.get("seconds", 0), seconds)) / self.seconds, what)

        self.session.console.progress(spent / self.seconds, what)
        config = config.replace(epochs=EPOCHS, in_batch=0.0)
        state = Handover(in_full_swing(config, data, workers))
        model = fit(config, data, state=state, n_workers=workers, max_seconds=seconds, callback=watch)
        self.layers = layers_of(model.arrays)
        self.session.worker_pids = tuple
        self.spent += seconds
        end = last["end"]
        if not end["samples"]:
            raise ConfigError(f"--seconds {self.seconds:g} is too short: {what} got {seconds:.2g} s, which the tables "
                              "took before the first step; give more")  # fmt: skip
        return {"samples_per_second": end["samples"] / end["seconds"],
                "active_neurons": last["progress"]["active_neurons"]}  # fmt: skip

    def folded(self) -> list[dict[str, float]]:
        """Measure both ways with labels folded into fewer, in one process; with all neurons active they coincide."""
        each = SHARE_OF_CROSSOVER * self.seconds / (2 * len(FOLDED))
        ways, rows = variants(self.config), []
        for n_labels in FOLDED:
            data, rates = fold(self.data, n_labels), {}
            for way in (self.own, DENSE) if self.config.lsh.min_active < n_labels else (DENSE,):
                what = f"{way}, {n_labels:,} labels"
                rates[way] = self.measure(ways[way], data, 1, each, what)["samples_per_second"]
            rates.setdefault(self.own, rates[DENSE])
            rows.append({"labels": n_labels, **rates, "advantage": rates[self.own] / rates[DENSE]})
        return rows

    def rates(self, folded: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
        """Return samples/s of each way on the whole problem; dense is extrapolated if a step takes too long."""
        ways = variants(self.config)
        each = (1 - SHARE_OF_CROSSOVER) * self.seconds / len(ways)
        rates: dict[str, dict[str, Any]] = {}
        for way, config in reversed(ways.items()):  # ours comes last: latencies are those of its network
            is_projected = way == DENSE and not self.can_measure_dense(folded, each)
            rates[way] = (
                self.projected(folded) if is_projected else self.measure(config, self.data, self.workers, each, way)
            )
            rates[way]["projected"] = is_projected
            rates[way]["seconds_per_epoch"] = self.data.n_samples / rates[way]["samples_per_second"]
        return {way: rates[way] for way in ways}

    def projected(self, folded: list[dict[str, float]]) -> dict[str, Any]:
        """Extrapolate dense training to the whole problem: its time grows like the number of labels."""
        n_labels = self.data.labels.n_columns
        rate = folded[-1][DENSE] * self.workers * folded[-1]["labels"] / n_labels
        return {"samples_per_second": rate, "active_neurons": n_labels}

    def can_measure_dense(self, folded: list[dict[str, float]], seconds: float) -> bool:
        """Tell whether a step of dense training takes less than `seconds`, and less than half of the free memory."""
        config, left = self.config, memory_left()
        step_seconds = self.workers * config.micro_batch / self.projected(folded)["samples_per_second"]
        n_bytes = 4 * self.data.labels.n_columns * 2 * (config.micro_batch + config.hidden[-1])
        return step_seconds < seconds and (left is None or self.workers * n_bytes < left / 2)

    def latency(self) -> dict[str, float]:
        """Measure the milliseconds to find the `TOP` best labels of one sample."""
        times = []
        for row in range(min(LATENCIES, self.data.n_samples)):
            sample = self.data.features.take(np.array([row]))
            started = time.perf_counter()
            predict_topk(self.layers, sample, TOP)
            times.append(1e3 * (time.perf_counter() - started))
        return {"median": statistics.median(times), "max": max(times)}


def _report(figures: dict[str, Any], own: str) -> str:
    ways = figures["ways"]
    lines = [f"{'':18}{'samples/s':>10}{'an epoch':>10}{'active':>10}"]
    for way, row in ways.items():
        name = f"{way}, projected" if row["projected"] else way
        lines.append(f"{name:18}{row['samples_per_second']:>10,.0f}{duration(math.ceil(row['seconds_per_epoch'])):>10}"
                     f"{row['active_neurons']:>10,.0f}")  # fmt: skip
    ratio = ways[own]["samples_per_second"] / ways[DENSE]["samples_per_second"]
    if figures["dense_is_faster"]:
        verdict = f"Dense would be {1 / ratio:.1f} times faster for this problem: --set lsh.min_active=all"
    else:
        verdict = f"Dense would be {ratio:.1f} times slower for this problem."
    crossover = figures["crossover_labels"]
    if crossover is None:
        level = f"Here dense is faster even at {FOLDED[-1]:,} labels."
    elif crossover == 0:
        level = f"Here dense is slower even at {FOLDED[0]:,} labels."
    else:
        level = f"Here the two are equally fast at about {float(f'{crossover:.2g}'):,.0f} labels."
    latency = figures["latency_milliseconds"]
    answer = f"One sample's {TOP} best labels take {latency['median']:.1f} ms (at most {latency['max']:.1f} ms)."
    return "\n".join([*lines, "", verdict, level, answer])
