"""A training run: the loop over epochs and steps, and what happens in between.

A run decides what to do next and tracks progress; an engine holds the network, the tables and the samples, and does the
work: `LocalEngine` with shared memory and a pool of processes, or an engine over several machines.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.metrics import evaluate, inverse_propensity
from slide_ref.common.schedule import (
    fresh_steps,
    in_batch_steps,
    learns_by_heart,
    repeated_steps,
    steps_per_epoch,
    total_steps,
    workers_at,
)
from slide_ref.common.storage.model_folder import Model

from ..hash_tables import Tables
from .callbacks import Callback, Checkpointing, Evaluating, Halfway, Rebuilding
from .checkpoints import BEST, PastRuns, TrainingState
from .data_summary import DataSummary
from .learner import parts_queried
from .local_engine import Engine
from .options import RunOptions
from .progress import Event, Progress, Totals, means
from .tasks import RangeReport, TrainRange
from .training_info import KEPT_EVENTS, about_run, about_settings


class Run:
    """One training run over an engine.

    Parameters
    ----------
    config : Config
    summary : DataSummary
    options : RunOptions
    state : TrainingState, optional
        The state that the run starts from.
    engine : Engine
        Already holds the arrays of `state`, if any.
    stop : threading.Event
        Set this event to end the run early.
    """

    def __init__(
        self,
        config: Config,
        summary: DataSummary,
        options: RunOptions,
        state: TrainingState | None,
        engine: Engine,
        stop: threading.Event,
    ):
        self.config, self.summary, self.options, self.engine, self.stop = config, summary, options, engine, stop
        self.past = PastRuns() if state is None else state.past
        self.progress = Progress(rebuilds=self.past.rebuilds)
        self.reported = [] if state is None else list(state.history)
        n_test = 0 if summary.test_labels is None else summary.test_labels.n_rows
        self.judged_on = f"{summary.test} {min(options.eval_samples, n_test)}"
        self.label_names = options.label_names
        if state is not None and self.label_names is None:
            self.label_names = state.label_names
        self.goes_on, self.resumes = state is not None, False
        if state is not None and state.progress is not None:
            self.resumes, self.progress = True, copy.deepcopy(state.progress)
            if state.has_early_tables(config, summary.n_train):
                self.progress.all_rebuilt = -1
            if state.label_names not in (None, self.label_names):
                raise DataError("training data: the names of labels differ from those of the run to resume")
            if state.judged_by != options.eval_metric:
                raise ConfigError(f"the run to resume uses eval_metric {state.judged_by}, not {options.eval_metric}")
            self._compare_test(state.judged_on)
        self.measured: Event = {}  # scores of the network as it is now
        if self.progress.best_step and options.keeps_best:
            if options.checkpoints is None:
                text = "the best network of the run to resume is kept with its checkpoints"
                raise ConfigError(f"{text}; give checkpoints")
            try:
                engine.load_best(options.checkpoints.folder / BEST)
            except ModelError as error:
                raise ModelError(f"{error}; or go on without patience") from error
        self.steps_per_epoch = steps_per_epoch(summary.n_train, config.micro_batch)
        self.n_steps = total_steps(config, summary.n_train)

    def _compare_test(self, before: str) -> None:
        """Forget the best score of the run to resume if this one judges by other test samples than those of `before`.

        Raises ConfigError if the best network is to be kept.
        """
        progress, options = self.progress, self.options
        if self.summary.test_labels is None or not options.judges:
            self.judged_on = before
        if self.judged_on == before or not (before and progress.best_step):
            return
        if options.keeps_best:
            raise ConfigError("the best network of the run to resume was found on other test samples, or with another "
                              "eval_samples; give the same, or go on without patience")  # fmt: skip
        progress.best_score, progress.best_step, progress.n_worse = -math.inf, 0, 0

    @property
    def all_steps(self) -> int:
        """Steps begun since the optimiser's moments were new, including those of earlier runs (S12)."""
        return self.past.steps + self.progress.step

    def carry_out(self, n_workers: int, pids: Callable[[], Iterable[int]]) -> None:
        """Report the start, train to the end, or until the user stops the run, and evaluate the network.

        `n_workers` and `pids`, which returns ids of processes, are for the report. Raises ConfigError if a new run is
        to write checkpoints to a folder that has those of another.
        """
        has_ended = self.progress.step >= self.n_steps or self.is_over()
        workers = {"n_workers": n_workers, "pids": pids, "n_samples": self.summary.n_train}
        self.report("start", workers | {"is_complete": self.resumes and has_ended and not self.stop.is_set()})
        if self.options.checkpoints is not None and not self.resumes:
            self.options.checkpoints.require_unused()  # the callback may have set others aside at the start
        self.train()
        if self.options.keeps_best and not self.stop.is_set() and self.progress.n_worse < self.options.patience:
            self.judge_last()  # before the checkpoint that is kept with the best network
        if self.progress.step and (self.stop.is_set() or self.options.saves_regularly or self.resumes):
            self.save()  # also a resumed run: the next one must not begin before what this one has trained
        if not self.stop.is_set():
            kept = self.take_best()
            scores = self.evaluate(of_step=kept)
            self.report("end", scores | self._kept(kept) | {"n_train_unlabelled": self.progress.n_unlabelled})

    def train(self) -> None:
        """Train until epochs, time or patience run out, with rebuilds, checkpoints and evaluations in between."""
        progress = self.progress
        if self.is_over():
            return
        if self.must_build():
            self.rebuild()
        before: list[Callback] = [Rebuilding(self)]
        if self.options.checkpoints is not None:
            before.insert(0, Checkpointing(self, self.options.checkpoints.every))
        after: list[Callback] = [Halfway(self), Evaluating(self)]
        for epoch in range(progress.step // self.steps_per_epoch, self.n_steps // self.steps_per_epoch):
            self.begin_epoch(epoch)
            end = self.steps_per_epoch * (epoch + 1)
            while progress.step < end and not self.is_over():
                self.call(before)
                self.train_to(min(end, *(callback.due for callback in before + after)))
                if not self.is_over():
                    self.call(after)
            self.end_epoch()
            if self.is_over():
                return

    def call(self, callbacks: list[Callback]) -> None:
        """Call the callbacks that are due."""
        for callback in callbacks:
            if callback.due == self.progress.step:
                callback(self)

    def is_over(self) -> bool:
        """Return whether the user, the clock or a lack of progress ended the run."""
        progress, options = self.progress, self.options
        return self.stop.is_set() or progress.seconds >= options.max_seconds or progress.n_worse >= options.patience

    def begin_epoch(self, epoch: int) -> None:
        """Put the samples in the order of an epoch (S13)."""
        started = time.perf_counter()
        self.progress.epoch = epoch + self.past.epochs
        self.engine.order_samples(self.progress.epoch)
        self._spend_since(started)

    def end_epoch(self) -> None:
        """Report the epoch, if any step was trained in it."""
        if self.progress.in_epoch.n_samples:
            self.report("epoch", self.progress.in_epoch.summary() | self.occupancy())
            self.progress.in_epoch = Totals()

    def train_to(self, last_step: int) -> None:
        """Train on all steps up to `last_step`, within one epoch and between rebuilds."""
        progress, started = self.progress, time.perf_counter()
        before, self.measured = progress.seconds, {}  # nothing was measured on what is learned from here on
        if not self.options.judges:
            progress.n_worse = 0  # nor will it be compared with the best network
        first_step = progress.step + 1

        def seconds() -> float:
            return before + time.perf_counter() - started

        def ranges() -> Iterator[TrainRange]:
            next_step = progress.step + 1
            while next_step <= last_step and seconds() < self.options.max_seconds:
                n_left = last_step - next_step + 1
                n_steps = self.engine.steps_of_range(n_left, progress.step_seconds, self.all_steps)
                first, next_step = next_step, next_step + n_steps
                progress.step = next_step - 1  # before it is handed out: after Ctrl-C nobody comes back here
                yield TrainRange(progress.epoch, first, n_steps)

        for task, report in self.engine.train(ranges(), self.workers_now):
            self._account(report, task.n_steps, seconds())
            if first_step in fresh_steps(self.config, self.summary.n_train):
                progress.fresh.add(report)
            elif first_step in repeated_steps(self.config, self.summary.n_train):
                progress.repeated.add(report)
        self.engine.end_stretch()
        self._spend_since(started)

    def workers_now(self) -> int:
        """Return how many workers may train at the same time now (S33)."""
        return workers_at(self.all_steps, self.engine.n_workers)

    def _account(self, report: RangeReport, n_steps: int, seconds: float) -> None:
        progress = self.progress
        progress.add(report, n_steps)
        self.options.callback({
            "kind": "progress",
            "seconds": seconds,
            "step": progress.step,
            "samples": progress.n_samples,
            "rebuilds": progress.rebuilds,
            "n_new": report.n_samples,
            **means(report),
        })  # fmt: skip

    def _spend_since(self, started: float) -> None:
        seconds = time.perf_counter() - started
        for clock in (self.progress, self.progress.since_evaluation, self.progress.in_epoch):
            clock.seconds += seconds

    def queried(self) -> list[int]:
        """Return the words of the parts whose tables the next step queries (S32)."""
        of_run = self.progress.step, self.summary.n_train, self.learns_by_heart
        return parts_queried(self.config, self.engine.parts, *of_run)

    @property
    def learns_by_heart(self) -> bool:
        """Whether the run memorises its samples, so that tables are not queried (S37)."""
        return learns_by_heart(self.config, self.progress.fresh.mean_loss, self.progress.repeated.mean_loss)

    def must_build(self) -> bool:
        """Return whether tables must be built before the first stretch: in a new run, or if they are stale."""
        progress = self.progress
        is_behind = progress.all_rebuilt < progress.rebuilt and len(self.queried()) == len(self.engine.parts)
        return progress.rebuilds == self.past.rebuilds or (is_behind and progress.step < self.n_steps)

    def rebuild(self) -> None:
        """Rebuild the tables that will be queried next, while no worker trains (S14, S32)."""
        started, progress = time.perf_counter(), self.progress
        self.engine.rebuild(self.queried(), progress.rebuilds)
        if not self.stop.is_set():  # else the tables may be half done, and it is this rebuild that comes next
            progress.rebuilds += 1
            progress.rebuilt = progress.step
            if len(self.queried()) == len(self.engine.parts):
                progress.all_rebuilt = progress.step
        self._spend_since(started)
        if self.learns_by_heart and progress.step == in_batch_steps(self.config, self.n_steps) and self.output_tables:
            losses = {"fresh_loss": progress.fresh.mean_loss, "repeated_loss": progress.repeated.mean_loss}
            self.report("by_heart", losses)

    @property
    def output_tables(self) -> list[Tables]:
        """Tables of the output layer, if it has any."""
        parts = self.engine.parts.items() if self.config.lsh.L else ()
        return [self.engine.tables[word] for word, part in parts if part.layer == len(self.config.hidden)]

    def occupancy(self) -> Event:
        """Return the occupancy of the output's tables: mean size of non-empty buckets, fraction of neurons kept.

        Empty until tables are queried.
        """
        lsh, tables = self.config.lsh, self.output_tables
        if not tables or self.progress.all_rebuilt < 0:
            return {}
        counts, n = [part.occupancy() for part in tables], sum(part.n_neurons for part in tables)
        entries, neurons, buckets = (sum(part[key] for part in counts) for key in ("entries", "neurons", "buckets"))
        n_tables = 1 if lsh.family == "centroid" else lsh.L
        return {
            "bucket_load": entries / max(buckets, 1),
            "buckets_used": buckets / (len(tables) * n_tables << lsh.address_bits),
            "entries_kept": neurons / (n_tables * n),
            "fullest_bucket": max(part["fullest"] for part in counts),
        }

    def report(self, kind: str, figures: Event) -> None:
        """Send an event with the progress of the run. Epochs are fractional and counted from 0."""
        progress = self.progress
        epoch = progress.step / self.steps_per_epoch
        place = {"kind": kind, "seconds": progress.seconds, "epoch": epoch, "step": progress.step}
        event = place | {"samples": progress.n_samples, "rebuilds": progress.rebuilds} | figures
        if kind in KEPT_EVENTS:
            self.reported.append(dict(event))
        self.options.callback(event)

    def _kept(self, step: int | None) -> Event:
        """Return the epoch of a network, known by its step, that was restored; nothing if it is the last one."""
        return {} if step in (None, self.progress.step) else {"kept_epoch": step / self.steps_per_epoch}

    def evaluate(self, n_rows: int | None = None, of_step: int | None = None) -> Event:
        """Measure P@k and other metrics on the first `n_rows` test rows in keyed order; None: all.

        `of_step` is the step of a network that was restored; None: it is the current one.
        """
        if self.summary.test_labels is None:
            return {}
        order, parts, n_done = self.engine.test_order[:n_rows], [], 0
        for ids in self.engine.predict(len(order)):
            parts.append(ids)
            n_done += len(ids)
            place = {"done": n_done, "of": len(order), "rows": len(order), "is_last": n_rows is None}
            self.options.callback({"kind": "evaluating", **place})
        if n_done < len(order):  # interrupted
            return {}
        rarity = inverse_propensity(self.summary.label_counts, self.summary.n_train)
        scores: Event = evaluate(np.concatenate(parts), self.summary.test_labels.take(order), rarity)
        if self.options.eval_metric == "loss":
            scores["held_out_loss"] = self.engine.held_out_loss(len(order))
            if self.stop.is_set():
                return {}
        since = self.progress.since_evaluation
        kept = self._kept(of_step)
        figures = (since.summary() if since.n_samples and not kept else {}) | scores | kept
        self.progress.since_evaluation, self.measured = Totals(), scores
        self.report("evaluation", figures)
        return scores

    def judge(self, scores: Event) -> None:
        """Keep the network as the best if no earlier evaluation had a better score."""
        progress, options = self.progress, self.options
        if not scores or not options.judges:
            return
        progress.n_worse += 1
        metric = options.eval_metric
        score = -scores["held_out_loss"] if metric == "loss" else scores[metric]
        if score > progress.best_score:
            progress.best_score, progress.best_step, progress.n_worse = score, progress.step, 0
            if options.keeps_best:
                self.engine.keep_best()
            if options.checkpoints is not None:
                options.checkpoints.save_best(self.model())

    def judge_last(self) -> None:
        """Judge the last network, unless it has been judged.

        It counts as one without improvement only if an evaluation was due, since the run may be resumed.
        """
        progress = self.progress
        n_worse, was_due = progress.n_worse, progress.evaluated == progress.step
        if progress.since_evaluation.n_samples:
            self.judge(self.evaluate(self.options.eval_samples))
        if progress.n_worse and not was_due:
            progress.n_worse = n_worse

    def take_best(self) -> int:
        """Restore the best network, if early stopping is used; return the step of the network that is kept."""
        progress = self.progress
        if not self.options.keeps_best:
            return progress.step
        self.engine.restore_best()
        return progress.best_step or progress.step

    def state(self, is_over: bool = False) -> TrainingState:
        """Return the training state: with tables and progress to resume the run, or without them once it is over."""
        summary, past, progress = self.summary, self.past, None if is_over else self.progress
        if is_over:
            past = PastRuns(self.all_steps, self.progress.epoch + 1, self.progress.rebuilds, self.past.older_steps)
        arrays = self.engine.arrays(with_tables=not is_over)
        sizes, kept = (summary.n_features, summary.n_labels), (tuple(self.reported), self.label_names)
        judged = self.options.eval_metric, self.judged_on
        return TrainingState(self.config, *sizes, arrays, past, progress, summary.data, *kept, *judged)

    def save(self) -> None:
        """Write a checkpoint, if checkpoints are enabled."""
        if self.options.checkpoints is not None:
            self.options.checkpoints.save(self.state())

    def model(self) -> Model:
        """Return the trained model. Raises DivergedError (S29)."""
        progress, summary = self.progress, self.summary
        arrays = self.engine.weights(self.all_steps)
        info = {
            "epochs": self.past.epochs + progress.step / self.steps_per_epoch,
            "steps": self.past.all_steps + progress.step,
            "rebuilds": progress.rebuilds,
            "n_train_samples": summary.n_train if self.goes_on or progress.step else 0,
        }
        info |= summary.about_labels() | about_settings(self.config, summary.n_train) | about_run(self)
        info["planned_epochs"] += self.past.epochs
        sizes = summary.n_features, summary.n_labels
        counts = summary.label_counts if self.goes_on or progress.step else None  # without a step none was trained
        return Model(self.config, *sizes, arrays, info, self.label_names, counts, text=self.options.text)
