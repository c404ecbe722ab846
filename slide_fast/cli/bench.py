"""``slide bench``: which way to train pays for this problem, on this machine?

The same engine trains in each of the ways of `ways_to_train`. First the speed of each kind of step is measured. Then
each way is trained by a complete run that takes a given time, and P@1 on samples that are kept aside tells which one
pays. The number of labels at which sampling and dense training are equally fast is measured on the same samples, with
their labels folded into fewer.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError
from slide_ref.common.metrics import hits_at
from slide_ref.common.parameters import Layer, layers_of
from slide_ref.common.schedule import joined_after, n_epochs, sample_order, total_steps
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.validation import kept_aside, split

from ..display.wording import aligned, duration, network_in_words
from ..engine.checkpoints import PastRuns, TrainingState
from ..engine.handover import Handover
from ..engine.layout import first_parameters
from ..engine.progress import Event
from ..parallel.machine import available_cpus, cpu_model, memory_left
from ..parallel.units import numbered
from ..prediction import predict_topk
from ..training import default_workers, fit
from .bench_report import report
from .session import Session, check_there, chosen_for, expecting_numbers, fitting, generated, read_samples
from .settings import config_of, settings_of
from .ways import (
    CHOSEN,
    DENSE,
    Timing,
    all_active,
    as_it_trains,
    options_of,
    phases,
    run_within,
    seconds_of,
    verdict,
    ways_to_train,
)

EPOCHS = 10**6  # the clock ends a run
FOLDED = (2_000, 8_000, 32_000)  # numbers of labels that the crossover is looked for between
SPEED_ONLY = {"crossover": 0.25, "speed": 0.75, "accuracy": 0.0}  # shares of the time
WITH_ACCURACY = {"crossover": 0.15, "speed": 0.25, "accuracy": 0.6}
LONGER = (1, 2, 4)  # times the time of a run, if the tables took it all
LONGEST = 1.5  # a run for P@1, in units of its time
KEPT_ASIDE = 0.1  # of the training samples, where no test samples are given
MOST_JUDGES, FEWEST_JUDGES, PRODUCTS = 10_000, 1_000, 2e11  # test samples; multiplications of one evaluation
PRODUCTS_A_SECOND = 5e10
START_SECONDS = 1.0  # of a run
LATENCIES = 50
TOP = 5
GENERATED_SAMPLES = 20_000


def bench(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide bench``: measure speed and P@1 of ways to train, and say what follows from them."""
    settings = settings_of(options)

    def tell() -> None:
        session.console.line(f"generating {GENERATED_SAMPLES:,} samples of the shape {options.shape}")

    if options.data is None:
        data, test = generated(options.shape, n_samples=GENERATED_SAMPLES, started=tell), None
    else:
        data, test = _read(options, session)
    config = chosen_for(settings, data, session.console)
    given = config_of(settings, data.labels.n_columns)
    given, config = (own.replace(epochs=n_epochs(own, data.n_samples)) for own in (given, config))  # before the split
    workers = options.workers or (available_cpus() if options.data is None else default_workers(config, data.n_samples))
    if options.data is not None and test is None:
        data, test = split(data, kept_aside(config.seed, data.n_samples, KEPT_ASIDE))
    return _Bench(session, config, data, test, workers, options.seconds).run(given)


def _read(options: Namespace, session: Session) -> tuple[Dataset, Dataset | None]:
    """Read the training samples, and the test samples if they are given."""
    check_there(options.data, options.test)
    with expecting_numbers("slide bench reads samples of numbers"):
        data = read_samples(options.data, needs_labels=True)
        if options.test is None:
            return data, None
        test = read_samples(options.test, needs_labels=True)
    sizes = {what: getattr(data, what).n_columns for what in Dataset._fields}
    return data, fitting(test, options.test, sizes, "the training data", session.console)


def judges(test: Dataset, config: Config) -> Dataset:
    """Return some of the test samples, so many that it takes no longer than a few seconds to evaluate on them."""
    n_fitting = PRODUCTS / (test.labels.n_columns * config.hidden[-1])
    n = min(test.n_samples, MOST_JUDGES, max(int(n_fitting), FEWEST_JUDGES))
    return test if n == test.n_samples else test.take(np.sort(sample_order(config.seed, 0, test.n_samples)[:n]))


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


def in_full_swing(config: Config, data: Dataset, n_workers: int) -> TrainingState:
    """Return a new network whose step count is high enough for all workers to train (S33)."""
    sizes = data.features.n_columns, data.labels.n_columns
    return TrainingState(config, *sizes, first_parameters(config, *sizes), PastRuns(joined_after(n_workers)))


class Speed(NamedTuple):
    """How fast steps of one kind are."""

    samples_per_second: float
    active_neurons: float
    timing: Timing


class _Bench:
    """Measurements on one problem.

    Parameters
    ----------
    session : Session
    config : Config
        What ``slide train`` would choose.
    data : Dataset
    test : Dataset, optional
        Samples to compare P@1 on; without them only speed is compared.
    workers : int
    seconds : float
        Of training, all runs together.
    """

    def __init__(
        self, session: Session, config: Config, data: Dataset, test: Dataset | None, workers: int, seconds: float
    ):
        self.session, self.config, self.data, self.workers = session, config, data, workers
        self.seconds, self.spent = seconds, 0.0
        self.ways = ways_to_train(config, data.labels.n_columns)
        self.parts = {part: name for name, way in reversed(self.ways.items()) for part in phases(way)}
        self.test = None if test is None or len(self.ways) == 1 else judges(test, config)
        shares = SPEED_ONLY if self.test is None else WITH_ACCURACY
        self.budget = {what: share * seconds for what, share in shares.items()}
        self.layers: list[Layer] = []
        self.timings: dict[Config, Timing] = {}

    def run(self, given: Config) -> dict[str, Any]:
        """Measure, print the report and return the figures; `given` are the settings before any were chosen."""
        self.session.console.line(self.heading())
        folded = self.folded()
        ways = self.rates(folded)
        hits = self.judged(ways)
        crossover = level_at([row["labels"] for row in folded], [row["advantage"] for row in folded])
        figures: dict[str, Any] = {
            "ways": ways,
            "verdict": None,
            "dense_is_faster": None,
            "dense_options": None,
            "folded": folded,
            "crossover_labels": crossover,
            "latency_milliseconds": self.latency(),
            "workers": self.workers,
            "n_labels": self.data.labels.n_columns,
            "n_test_samples": 0 if self.test is None else self.test.n_samples,
            "planned": self.planned(len(hits)),
            "config": self.config.to_dict(),
        }
        if DENSE in ways:
            figures["dense_options"] = options_of(self.dense, given)
            figures["dense_is_faster"] = ways[DENSE]["samples_per_second"] > ways[CHOSEN]["samples_per_second"]
        if len(hits) > 1:
            found = verdict(hits, self.ways, self.data.labels.n_columns)
            figures["verdict"] = found | {"options": options_of(self.ways[found["best"]], given)}
        self.session.console.result(report(figures, FOLDED, TOP))
        return figures

    def heading(self) -> str:
        """Return what is to be measured, on what, and how long it takes."""
        n_runs = 2 * len(FOLDED) + len(self.parts) + (0 if self.test is None else len(self.ways))
        kept = "" if self.test is None else f", P@1 on {self.test.n_samples:,} others"
        starting, evaluating = START_SECONDS * n_runs, 0.0
        if self.test is not None:
            n_products = self.test.n_samples * self.test.labels.n_columns * self.config.hidden[-1]
            evaluating = len(self.ways) * n_products / PRODUCTS_A_SECOND
        lines = {
            "machine": f"{cpu_model()}, {numbered(self.workers, 'worker')}",
            "data": f"{numbered(self.data.n_samples, 'sample')}{kept}",
            "network": network_in_words(self.config, self.data.features.n_columns, self.data.labels.n_columns),
            "time": f"about {duration(self.seconds + starting + evaluating)}, for {n_runs} short runs",
        }
        return aligned([*lines.items(), ("", "")])

    def train(self, config: Config, data: Dataset, seconds: float, what: str, **options: Any) -> list[Event]:
        """Train, show how much of the time is over, and return the events of the run."""
        events: list[Event] = []
        self.layers = []  # of the run before

        def watch(event: Event) -> None:
            events.append(event)
            if event["kind"] == "start":
                self.session.worker_pids = event["pids"]
            spent = self.spent + min(event.get("seconds", 0), seconds)
            self.session.console.progress(min(spent / self.seconds, 1.0), what)

        self.session.console.progress(min(self.spent / self.seconds, 1.0), what)
        model = fit(config, data, callback=watch, **options)
        self.layers = layers_of(model.arrays)
        self.session.worker_pids = tuple
        self.spent += seconds
        return events

    def measure(self, config: Config, data: Dataset, workers: int, seconds: float, what: str) -> Speed:
        """Train steps of one kind for some seconds, with all workers (S33), rebuilds included."""
        config = config.replace(epochs=EPOCHS)
        for longer in LONGER:
            state, most = Handover(in_full_swing(config, data, workers)), longer * seconds
            events = self.train(config, data, seconds, what, state=state, n_workers=workers, max_seconds=most)
            if (end := events[-1])["samples"]:
                break
        else:
            raise ConfigError(f"--seconds {self.seconds:g} is too short: {what} got {most:.2g} s, which the tables "
                              "took before the first step; give more")  # fmt: skip
        active = [0.0, *(event["active_neurons"] for event in events if "active_neurons" in event)][-1]
        return Speed(end["samples"] / end["seconds"], active, Timing.of(events, config.lsh.L > 0))

    def folded(self) -> list[dict[str, float]]:
        """Measure sampling and dense training with labels folded into fewer, in one process.

        Sampled steps are those after the in-batch steps (S32). With all neurons active the two are the same.
        """
        each = self.budget["crossover"] / (2 * len(FOLDED))
        rows = []
        for n_labels in FOLDED:
            data = fold(self.data, n_labels)
            sampled, dense = (as_it_trains(way.replace(in_batch=0.0), n_labels) for way in (self.config, self.dense))
            rates = {
                way: self.measure(way, data, 1, each, f"{n_labels:,} labels").samples_per_second
                for way in dict.fromkeys((sampled, dense))
            }
            row = {"labels": n_labels, "sampled": rates[sampled], DENSE: rates[dense]}
            rows.append(row | {"advantage": rates[sampled] / rates[dense]})
        return rows

    @property
    def dense(self) -> Config:
        """Return the settings of dense training."""
        return all_active(self.config)

    def rates(self, folded: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
        """Return samples/s of each way on the whole problem; dense is extrapolated if a step takes too long."""
        each = self.budget["speed"] / len(self.parts)
        is_projected = DENSE in self.ways and not self.can_measure_dense(folded, each)
        measured = {
            part: self.projected(folded) if is_projected and name == DENSE
            else self.measure(part, self.data, self.workers, each, name)
            for part, name in self.parts.items()
        }  # fmt: skip
        self.timings = {part: speed.timing for part, speed in measured.items()}
        rates: dict[str, dict[str, Any]] = {}
        for name, way in self.ways.items():
            shares = phases(way)
            seconds = sum(share / measured[part].samples_per_second for part, share in shares.items())
            active = sum(share * measured[part].active_neurons for part, share in shares.items())
            rates[name] = {
                "samples_per_second": 1 / seconds,
                "active_neurons": active,
                "projected": is_projected and name == DENSE,
                "seconds_per_epoch": self.data.n_samples * seconds,
            }
        return rates

    def judged(self, rates: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
        """Train each way by a complete run; return which test samples it answers correctly, and add P@1 to `rates`."""
        names = [name for name, row in rates.items() if not row["projected"]]
        hits: dict[str, np.ndarray] = {}
        if self.test is None:
            return hits
        each = self.budget["accuracy"] / len(names)
        for name in names:
            config, data = run_within(each, self.ways[name], self.data, self.timings, self.workers)
            limits = {"n_workers": self.workers, "max_seconds": LONGEST * each}
            end = self.train(config, data, each, f"{name}, P@1", **limits)[-1]
            ids = predict_topk(self.layers, self.test.features, 1, self.workers)[0]
            hits[name] = hits_at(ids, self.test.labels, 1)[:, 0]
            rates[name]["precision_at_1"] = float(hits[name].mean())
            rates[name] |= {"trained_seconds": end["seconds"], "epochs": end["samples"] / self.data.n_samples}
        return hits

    def planned(self, n_judged: int) -> dict[str, float]:
        """Return epochs and seconds of a run of ``slide train``, and the ``--seconds`` that give each way as much."""
        way, n = self.ways[CHOSEN], self.data.n_samples
        seconds = seconds_of(way, total_steps(way, n), self.timings, self.workers)
        needed = max(n_judged, 1) * seconds / WITH_ACCURACY["accuracy"]
        return {"epochs": n_epochs(way, n), "seconds": seconds, "bench_seconds": needed}

    def projected(self, folded: list[dict[str, float]]) -> Speed:
        """Extrapolate dense training to the whole problem: its time grows like the number of labels."""
        n_labels = self.data.labels.n_columns
        rate = folded[-1][DENSE] * self.workers * folded[-1]["labels"] / n_labels
        return Speed(rate, n_labels, Timing(self.config.micro_batch / rate))

    def can_measure_dense(self, folded: list[dict[str, float]], seconds: float) -> bool:
        """Tell whether a step of dense training takes less than `seconds`, and less than half of the free memory."""
        config, left = self.config, memory_left()
        step_seconds = self.workers * config.micro_batch / self.projected(folded).samples_per_second
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
