"""A training run of ``slide train`` or ``slide demo``, shown on the screen and written to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import numpy as np

from slide_ref.common.config import EVAL_METRICS, WEIGHT_DTYPES, Config
from slide_ref.common.errors import ConfigError, DivergedError, ModelError, SlideError
from slide_ref.common.index import IndexSamples, samples_for_index
from slide_ref.common.metrics import RANKS, evaluate
from slide_ref.common.schedule import in_batch_steps, largest_rate, n_epochs, total_steps
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.model_folder import Model
from slide_ref.common.storage.precision import WeightRangeError, with_dtype

from ..active_sets import without_tables
from ..display.plots import PlotError
from ..display.training_table import TrainingDisplay
from ..display.wording import aligned, network_in_words, score_table
from ..engine.checkpoints import BEST, TrainingState
from ..engine.handover import Handover
from ..engine.memory_estimate import indexing
from ..engine.options import RunOptions
from ..engine.progress import Event, tell_all
from ..engine.training_info import propensities
from ..inference.predictor import Predictor, with_index
from ..parallel.interrupt import deferred_interrupt
from ..parallel.machine import cpu_model
from ..parallel.units import numbered, size
from ..training import TrainingInterrupted, fit
from .index import figures_of
from .main import FAILURES, in_words
from .run_folder import RunFolder
from .session import Session

SCORES = EVAL_METRICS[:-1]
PLOTTING = 40_000_000  # bytes that Matplotlib takes


@dataclass(frozen=True)
class TrainingRun:
    """A training run in its folder.

    Attributes
    ----------
    session : Session
    folder : RunFolder
        Already entered.
    command_line : str
        Recorded in the folder.
    config : Config
    options : RunOptions
        Without a callback, since the run has its own.
    baselines : mapping of str to float
        P@1 of simple baselines by name, to show next to that of the network.
    dtype : str
        Of the weights in the model folder.
    history : sequence of dict, optional
        Events of the run to resume; None for a new run.
    """

    session: Session
    folder: RunFolder
    command_line: str
    config: Config
    options: RunOptions
    baselines: Mapping[str, float] = field(default_factory=dict)
    dtype: str = WEIGHT_DTYPES[0]
    history: Sequence[Event] | None = None

    def train_on(
        self, data: list[Dataset], n_workers: int | None, state: Handover[TrainingState] | None = None
    ) -> tuple[Model, dict[str, Any]]:
        """Train on ``data[0]`` and evaluate on ``data[1]``, if present; see `carry_out`.

        Empties `data`, so that only `fit` refers to them, except for test data needed to evaluate the stored weights.
        """
        counts, samples = counts_of(data), self._samples_for_index(data)
        judges = data[1] if len(data) > 1 and self.dtype != WEIGHT_DTYPES[0] else None
        test = Handover(data.pop()) if len(data) > 1 else None
        fit_data = partial(fit, self.config, Handover(data.pop()), test=test, n_workers=n_workers, state=state)
        model, figures = self.carry_out(fit_data, counts, samples)
        return model, figures | {"stored": None if judges is None else self._measured(model, judges, n_workers)}

    def carry_out(
        self, fit: Callable[..., Model], counts: Mapping[str, int], samples: IndexSamples | None = None
    ) -> tuple[Model, dict[str, Any]]:
        """Train by calling a function with the fields of `RunOptions`, which returns the model; write the folder.

        The model gets an index if there are samples to build it from.

        Returns the model and the figures for ``--json``. Ctrl-C raises KeyboardInterrupt with a message for the user,
        after the model is saved. `counts` is from `counts_of`.
        """
        session, options = self.session, self.options
        last: dict[str, Event] = {}
        if self.history is not None and self.folder.took_back:
            session.console.line("the last run here ended before it had saved anything; the one before it goes on")
        session.console.line(_outlook(self.config, counts))
        display = TrainingDisplay(
            session.console, self.config, options.max_seconds, counts["n_labels"], counts.get("n_test_samples", 0),
            eval_every=options.eval_every, eval_samples=options.eval_samples, patience=options.patience,
            eval_metric=options.eval_metric,
        )  # fmt: skip

        def note(event: Event) -> None:
            last[event["kind"]] = event

        has_test = "n_test_samples" in counts
        plotting = PLOTTING * (has_test or self.history is not None)  # evaluations of the run to resume are drawn too
        own = note, partial(self._add_memory, samples, counts["n_labels"], plotting), self._begin
        callback = tell_all([*own, self.folder.record, display])
        with self._telling_what_is_lost(last):
            try:
                model = fit(**vars(options) | {"callback": callback})
            except TrainingInterrupted as stop:
                self._end_early(stop.model)
            session.worker_pids = tuple
            if not model.facts["steps"]:  # the folder keeps the run that was there before
                raise ConfigError(f"--max-seconds {options.max_seconds:g} were over before the first step; nothing is "
                                  "saved; give more")  # fmt: skip
            model, problem = self._as_stored(model)
            if samples is not None:
                session.console.progress(1.0, "making the index for prediction")
                try:
                    model = with_index(model, samples, last["start"]["n_workers"])
                except KeyboardInterrupt:
                    self._end_early(model)
            with deferred_interrupt() as pressed:
                self.folder.save(model)
        if pressed.is_set():
            raise KeyboardInterrupt(f"interrupted at the end; the model is in {self.folder.model_path}")
        if problem is not None:
            raise problem
        if not self.folder.has_metrics:
            session.console.line(f"{self.folder.path}: was removed during training; the model is complete, but "
                                 "config.toml and metrics.jsonl are lost")  # fmt: skip
        with self._telling_what_is_lost(last):
            curves = self._plot()
        figures = _figures(last) | {"model": str(self.folder.model_path), "curves": curves}
        figures["index"] = None if model.index is None else figures_of(model)
        return model, figures | dict(counts) | session.totals()

    @contextmanager
    def _telling_what_is_lost(self, last: Mapping[str, Event]) -> Iterator[None]:
        """Add what is left of a run, once something was trained, to the error or second Ctrl-C that ends a block."""
        try:
            yield
        except KeyboardInterrupt as stop:
            if str(stop) or "progress" not in last:
                raise
            left = f"the model is in {self.folder.model_path}" if self.folder.has_model else self._left()
            raise KeyboardInterrupt(f"interrupted; {left}") from None
        except FAILURES as error:
            is_told = isinstance(error, DivergedError) and not self.folder.leaves_best
            if is_told or self.folder.has_model or "progress" not in last:
                raise
            raise SlideError(f"{in_words(error)}; {self._left()}") from error

    def _left(self) -> str:
        """Say what is left of a run that has saved no model."""
        checkpoints = self.options.checkpoints
        if checkpoints is not None and checkpoints.saved():
            return "--resume continues from the last checkpoint"
        if checkpoints is not None and self.folder.leaves_best:
            return f"the best network so far is in {checkpoints.folder / BEST}"
        return "what was trained is lost"

    def _as_stored(self, model: Model) -> tuple[Model, ModelError | None]:
        """Return the model in the dtype to store it in; unchanged, with an error, if that cannot hold its weights."""
        try:
            return with_dtype(model, self.dtype), None
        except WeightRangeError as error:
            return model, ModelError(f"{error}; the model is in {self.folder.model_path} in float32")

    def _measured(self, model: Model, test: Dataset, n_workers: int | None) -> dict[str, Any]:
        """Evaluate a model with its weights as stored."""
        ids, n = [], test.n_samples
        for done, answers in Predictor(model, n_workers).blocks(test.features, max(RANKS)):
            ids.append(answers.ids)
            self.session.console.progress(done / n, f"evaluating in {self.dtype}: {done:,} of {numbered(n, 'sample')}")
        scores = evaluate(np.concatenate(ids), test.labels, propensities(model))
        return {"dtype": self.dtype} | {key: scores[key] for key in SCORES}

    def _samples_for_index(self, data: list[Dataset]) -> IndexSamples | None:
        """Draw samples to build the index from; recall is measured on test samples if there are any."""
        if data[0].n_samples < 2:
            return None
        others = data[1].features if len(data) > 1 else None
        return samples_for_index(self.config.seed, data[0].features, others)

    def _add_memory(self, samples: IndexSamples | None, n_labels: int, plotting: int, event: Event) -> None:
        """Add the memory that this command needs besides training: for reading, and for index and curves."""
        if event["kind"] == "memory":
            now, before = self.session.memory()
            index = 0 if samples is None else indexing(self.config, samples, n_labels, event["n_workers"])
            at_end = now - event["data"] + event["model"] + max(index, plotting)
            event["total"] = max(event["total"], before, at_end)

    def _begin(self, event: Event) -> None:
        """Begin this run's files in the folder when training starts."""
        if event["kind"] == "start":
            self.session.worker_pids = event.pop("pids")
            step = event.get("step", 0) - event.get("is_complete", False)  # a complete run is evaluated again
            self.folder.begin(self.config, self.command_line, self.history, step)
            workers = f"{event['n_workers']} on {cpu_model()}"
            self.session.console.line(aligned([("workers", workers), ("", "")]))
            if event.get("is_complete"):
                further = "give more --epochs, --max-seconds or --patience to go on"
                self.session.console.line(
                    f"{self.folder.path}: the run is complete, nothing is left to train; {further}"
                )

    def _end_early(self, model: Model) -> NoReturn:
        """Save what was learned before Ctrl-C, if anything, and raise KeyboardInterrupt that says where it is."""
        self.session.console.close()
        if not model.facts["steps"]:  # the folder keeps the run that was there before
            raise KeyboardInterrupt("interrupted before the first step; nothing is saved") from None
        model, problem = self._as_stored(model)
        self.folder.save(model)
        checkpoints = self.options.checkpoints
        parts = [f"interrupted after {model.facts['epochs']:.2f} epochs"]
        parts += [f"the model is in {self.folder.model_path}" if problem is None else str(problem)]
        if checkpoints is not None:
            best = checkpoints.folder / BEST
            parts += [f"the best network so far is in {best}"] if self.options.keeps_best and best.exists() else []
            parts += ["train with --resume to continue"] if checkpoints.saved() else []
        raise KeyboardInterrupt("; ".join(parts)) from None

    def _plot(self) -> str | None:
        if not self.folder.has_evaluations:
            return None
        try:
            return str(self.folder.plot(self.baselines))
        except PlotError as error:
            self.session.console.line(f"no learning curves: {error}")
            return None

    def report(self, figures: Mapping[str, Any]) -> str:
        """Format the figures of a finished run."""
        scores = [] if figures["precision_at_1"] is None else [score_table(figures, self.baselines), ""]
        length = round(figures["epochs"], 3)
        epochs = f"{length:,.9g} epoch{'s' * (length != 1)}"
        speed = f"{figures['samples_per_second']:,.0f} samples/s with {numbered(figures['workers'], 'worker')}"
        pairs = [
            ("trained", f"{epochs} in {figures['seconds']:,.1f} s, {speed}"),
            ("memory", f"{size(figures['peak_memory_bytes'])} at the peak"),
            ("model", figures["model"]),
        ]
        if figures["index"] is not None:
            text = "{index_recall:.1%} of the best 5 among {index_candidates:,} labels"
            pairs.append(("index", text.format(**figures["index"])))
        if figures.get("stored") is not None:
            pairs.append(("stored", _stored_in_words(figures)))
        pairs += [] if figures["curves"] is None else [("curves", figures["curves"])]
        return "\n".join([*scores, aligned(pairs)])


def _stored_in_words(figures: Mapping[str, Any]) -> str:
    """Format P@k of the stored weights, next to P@k in training."""
    stored = figures["stored"]
    cells = (f"P@{k} {stored[f'precision_at_{k}']:.2%} (before {figures[f'precision_at_{k}']:.2%})" for k in RANKS)
    return f"in {stored['dtype']}: {', '.join(cells)}"


def counts_of(data: list[Dataset]) -> dict[str, int]:
    """Return the sizes of the training data, and of the test data if there are any."""
    counts = {"n_features": data[0].features.n_columns, "n_labels": data[0].labels.n_columns}
    for name, part in zip(("train", "test"), data, strict=False):
        unlabelled = int(np.count_nonzero(np.diff(part.labels.indptr) == 0))
        counts |= {f"n_{name}_samples": part.n_samples, f"n_{name}_unlabelled": unlabelled}
    return counts


def _outlook(config: Config, counts: Mapping[str, int]) -> str:
    """Describe the run that is about to start."""
    lines = []
    for name in ("train", "test"):
        if f"n_{name}_samples" in counts:
            unlabelled = counts[f"n_{name}_unlabelled"]
            left_out = f", {unlabelled:,} of them without labels" if unlabelled else ""
            lines.append((f"{name} data", f"{numbered(counts[f'n_{name}_samples'], 'sample')}{left_out}"))
    lines.append(("network", network_in_words(config, counts["n_features"], counts["n_labels"])))
    n_samples = counts["n_train_samples"]
    steps, epochs = total_steps(config, n_samples), n_epochs(config, n_samples)
    alone = in_batch_steps(config, steps)
    least = without_tables(config.lsh).min_active
    if alone and (config.lsh.L or least) and len(config.hidden) in config.sampled_layers(counts["n_labels"]):
        lines.append(("", f"up to step {alone:,} no tables: the labels of a micro-batch, at least {least:,} active"))
    length = f"{numbered(steps, 'step')}, {numbered(epochs, 'epoch')}"
    return aligned([*lines, ("learning rate", f"{largest_rate(config, steps):.3g} at most, over {length}")])


def _figures(last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a finished run from its last event of each kind; None if there was no such event."""
    start, end, epoch, scores = (last.get(kind, {}) for kind in ("start", "end", "epoch", "evaluation"))
    return {key: scores.get(key) for key in (*SCORES, "held_out_loss")} | {
        "samples_per_second": end["samples"] / max(end["seconds"], 1e-9),
        "seconds": end["seconds"],
        "epochs": end["epoch"],
        "steps": end["step"],
        "rebuilds": end["rebuilds"],
        "loss": epoch.get("loss"),
        "active_neurons": epoch.get("active_neurons"),
        "workers": start["n_workers"],
    }
