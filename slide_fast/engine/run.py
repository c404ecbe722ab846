"""One training run at work: its memory, its workers, epochs, rebuilds and evaluations."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.divergence import check_weights
from slide_ref.common.metrics import evaluate
from slide_ref.common.parameters import initialise, layers_of
from slide_ref.common.parts import parts_of
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.storage.array_files import Blocks
from slide_ref.common.storage.model_folder import Model

from ..hash_tables import HashTables
from ..parallel.pool import InProcess, Pool
from ..parallel.shared_arrays import SharedArrays
from ..schedule import in_batch_steps, rebuild_steps, sample_order, steps_per_epoch, total_steps, workers_at
from .checkpoints import Before, Checkpoints, State
from .data_summary import Facts
from .memory_estimate import layouts
from .progress import Event, Progress, Totals, evaluation_steps
from .training_info import KEPT_EVENTS, about_run, about_settings
from .worker import RangeReport, Setup, WorkerState, dataset_of, parts_asked, table_arrays, tables_of

SECONDS_PER_RANGE = 0.05  # long against handing out work, short against the wait for the last range of a segment
STEPS_PER_RANGE = 64
ROWS_PER_HASH_TASK = 32768


class Run:
    """One training run over shared memory and a pool; `fit` is its only user.

    Parameters
    ----------
    facts : Facts
        About the data; nothing of it is kept that holds on to them.
    config, eval_samples, max_seconds, patience, checkpoints, state, callback
        As `fit` takes them.
    stop : threading.Event
        Set to end early.
    label_names : list of str, optional
        Kept in models and checkpoints; by default those of `state`.
    """

    rows_of_prediction = 256  # of a task

    def __init__(
        self,
        config: Config,
        facts: Facts,
        eval_samples: int,
        max_seconds: float,
        patience: float,
        checkpoints: Checkpoints | None,
        state: State | None,
        callback: Callable[[Event], None],
        stop: threading.Event,
        label_names: list[str] | None = None,
    ):
        self.config, self.eval_samples, self.max_seconds = config, eval_samples, max_seconds
        self.callback, self.stop, self.patience, self.checkpoints = callback, stop, patience, checkpoints
        resumes = state is not None and state.progress is not None
        self.data = f"{facts.fingerprint():016x}" if resumes or checkpoints is not None else ""
        self.n_train, self.n_features, self.n_labels, self.label_counts, _, self.test_labels, _ = facts
        self.about_data = {"n_train_samples": self.n_train, **facts.about_labels()}
        if state is not None:
            state.check_fits(config, self.n_features, self.n_labels, self.data)
        self.before = Before() if state is None else state.before
        self.progress = Progress(rebuilds=self.before.rebuilds)
        if state is not None and state.progress is not None:
            self.progress = copy.deepcopy(state.progress)
        self.history = [] if state is None else list(state.history)
        self.label_names = state.label_names if label_names is None and state is not None else label_names
        self.measured: Event = {}
        self.best_arrays: dict[str, np.ndarray] = {}
        if checkpoints is not None and self.progress.best_step and math.isfinite(patience):
            self.load_best(checkpoints)
        self.parts = parts_of(config, self.n_labels)
        self.tables: dict[int, HashTables] = {}

    def move_data(self, stack: ExitStack, data: dict[str, np.ndarray]) -> None:
        """Put the arrays of the data into shared memory, one after the other, and drop each: `data` is emptied."""
        self.data_blocks, shared = [], {}
        for name in list(data):
            array = data.pop(name)
            block = stack.enter_context(SharedArrays.create({name: (array.shape, array.dtype)}))
            block.arrays[name][:] = array
            self.data_blocks.append(block)
            shared |= block.arrays
        if self.test_labels is not None:
            self.test_labels = dataset_of("test", shared, self.n_features, self.n_labels).labels

    def allocate(self, stack: ExitStack, begun: dict[str, np.ndarray] | None) -> None:
        """Put parameters, moments, and tables into a shared block each; fill them.

        Parameters outlive the run, in the model; the moments do where the state is kept. `begun` holds the arrays of a
        state to go on from, and is emptied.
        """
        n_test = None if self.test_labels is None else self.test_labels.n_rows
        parts = layouts(self.config, (self.n_features, self.n_labels), self.n_train, n_test)
        blocks = [stack.enter_context(SharedArrays.create(part)) for part in parts]
        self.parameters, self.moments, self.working = blocks
        arrays = {name: array for block in blocks for name, array in block.arrays.items()}
        if begun is None:
            initialise(layers_of(arrays), self.config.seed)
        for name in list(begun or ()):
            arrays[name][:] = begun.pop(name)  # moments that an earlier run did not keep begin at 0
        if n_test is not None:
            arrays["test_order"][:] = permutation(self.config.seed, Purpose.EVALUATION, n=n_test)
        self.tables = tables_of(self.parts, arrays)

    def start(self, stack: ExitStack, n_workers: int, max_restarts: int, worker_timeout: float) -> None:
        """Start the workers; one works in this process."""
        setup = Setup(self.config, self.n_features, self.n_labels, self.before.steps)
        shared = [self.parameters, self.moments, self.working, *self.data_blocks]
        if n_workers == 1:
            arrays = {name: array for block in shared for name, array in block.arrays.items()}
            self.pool = InProcess(WorkerState(setup, arrays))
        else:
            self.pool = Pool("slide_fast.engine.worker:WorkerState", setup, shared, n_workers, max_restarts, worker_timeout)
            stack.callback(self.pool.close)
        for _ in self.pool.run([("ready",)] * n_workers, self.stop.is_set):
            pass  # one for each: the time that workers take to start is not training

    def barrier(self, tasks: Iterator[tuple] | list[tuple]) -> list[object]:
        """Carry out tasks that follow no order among themselves; the results in the order of the tasks."""
        tasks = list(tasks)
        results = dict(self.pool.run(iter(tasks), self.stop.is_set))
        return [results[task] for task in tasks if task in results]

    def rebuild(self) -> None:
        """Hash all neurons of the layers that are asked next anew, in parallel, while nothing trains (S14, S32)."""
        started, progress = time.perf_counter(), self.progress
        self.build_tables(progress.rebuilds)
        if not self.stop.is_set():  # else the tables may be half done, and it is this rebuild that comes next
            progress.rebuilds += 1
            progress.rebuilt = progress.step
            if len(self.asked()) == len(self.parts):
                progress.all_rebuilt = progress.step
        self._spend(time.perf_counter() - started)

    def asked(self) -> list[int]:
        """The words of the tables that the next step asks (S32)."""
        return parts_asked(self.config, self.parts, self.progress.step, self.n_train)

    def build_tables(self, number: int) -> None:
        """All tasks of a rebuild, in two parts."""
        hashing, sorting = [], []
        for word in self.asked():
            L, n = self.tables[word].ids.shape
            edges = range(0, n, ROWS_PER_HASH_TASK)
            hashing.append(("order_insertion", word, number))
            hashing += [("hash_neurons", word, first, min(first + ROWS_PER_HASH_TASK, n)) for first in edges]
            sorting += [("sort_table", word, table, number) for table in range(L)]
        self.barrier(hashing)
        self.barrier(sorting)

    def _spend(self, seconds: float) -> None:
        progress = self.progress
        progress.seconds += seconds
        progress.since_evaluation.seconds += seconds
        progress.in_epoch.seconds += seconds

    def train_to(self, last_step: int) -> None:
        """Train on all steps up to `last_step`, in one epoch, between two rebuilds."""
        started = time.perf_counter()
        before, self.measured = self.progress.seconds, {}  # nothing was measured on what is learned from here on

        def ranges() -> Iterator[tuple]:
            progress = self.progress
            next_step = progress.step + 1
            while next_step <= last_step and before + time.perf_counter() - started < self.max_seconds:
                n_steps = self.steps_of_range(last_step - next_step + 1)
                first, next_step = next_step, next_step + n_steps
                progress.step = next_step - 1  # before it is handed out: after Ctrl-C nobody comes back here
                yield ("train", progress.epoch, first, n_steps)

        for (_, _, _, n_steps), report in self.pool.run(ranges(), self.stop.is_set, self.workers_now):
            self._account(report, n_steps, before + time.perf_counter() - started)
        self._spend(time.perf_counter() - started)

    @property
    def all_steps(self) -> int:
        """Steps begun, counted on from earlier runs (S12)."""
        return self.before.steps + self.progress.step

    def workers_now(self) -> int:
        """How many workers may train at the same time now (S33)."""
        return workers_at(self.all_steps, self.pool.n_workers)

    def steps_of_range(self, n_left: int) -> int:
        """How many of the steps that are left before a barrier are handed out next."""
        share = n_left // (2 * self.pool.n_workers)
        return max(1, min(share, int(SECONDS_PER_RANGE / self.progress.step_seconds), STEPS_PER_RANGE))

    def _account(self, report: RangeReport, n_steps: int, seconds: float) -> None:
        progress = self.progress
        progress.step_seconds = report.seconds / n_steps
        progress.n_samples += report.n_samples
        progress.n_unlabelled += report.n_samples - report.n_labelled
        progress.since_evaluation.add(report)
        progress.in_epoch.add(report)
        self.callback({
            "kind": "progress",
            "seconds": seconds,
            "step": progress.step,
            "samples": progress.n_samples,
            "rebuilds": progress.rebuilds,
            "n_new": report.n_samples,
            "loss": report.loss / max(report.n_labelled, 1),
            "active_neurons": report.active / max(report.n_labelled, 1),
        })  # fmt: skip

    def run_epochs(self, eval_every: float) -> None:
        """Train until the epochs, the time or the user's patience end; evaluate on the way."""
        config, progress = self.config, self.progress
        per_epoch = steps_per_epoch(self.n_train, config.micro_batch)
        total = total_steps(config, self.n_train)
        evaluations = evaluation_steps(min(max(eval_every * per_epoch, 1.0), 2.0**53))
        next_evaluation = next(step for step in evaluations if step > progress.evaluated)
        every = math.inf if self.checkpoints is None else self.checkpoints.every
        saves = evaluation_steps(min(max(every * per_epoch, 1.0), 2.0**53))
        next_save = next(step for step in saves if step > progress.step)
        rebuilds = rebuild_steps(config.rebuild_gap, config.rebuild_growth, in_batch_steps(config, total))
        is_behind = progress.all_rebuilt < progress.rebuilt and len(self.asked()) == len(self.parts)
        if progress.rebuilds == self.before.rebuilds or (is_behind and progress.step < total):
            self.rebuild()
        next_rebuild = max(progress.step, next(step for step in rebuilds if step > progress.rebuilt))
        for epoch in range(progress.step // per_epoch, total // per_epoch):
            progress.epoch = epoch + self.before.epochs
            started = time.perf_counter()
            self.order_samples()
            self._spend(time.perf_counter() - started)
            end = per_epoch * (epoch + 1)
            while progress.step < end and not self.finished():
                if progress.step == next_save:
                    next_save = next(saves)
                    self.save()
                if progress.step == next_rebuild:
                    self.rebuild()
                    next_rebuild = next(step for step in rebuilds if step > progress.step)
                self.train_to(min(end, next_rebuild, next_evaluation, next_save))
                if progress.step == next_evaluation and not self.finished():
                    scores = self.evaluate(self.eval_samples) if progress.step < total else {}
                    self.judge(scores)
                    if scores or not self.stop.is_set():
                        progress.evaluated, next_evaluation = progress.step, next(evaluations)
            if progress.in_epoch.n_samples:
                self.report("epoch", progress.in_epoch.summary() | self.occupancy())
                progress.in_epoch = Totals()
            if self.finished():
                return

    def order_samples(self) -> None:
        """Put the samples in the order of the epoch that begins (S13)."""
        order = sample_order(self.config.seed, self.progress.epoch, self.n_train)
        self.working.arrays["train_order"][:] = order

    def carry_out(self, eval_every: float) -> None:
        """Train to the end, or until the user stops the run, and evaluate what was learned."""
        self.run_epochs(eval_every)
        if self.stop.is_set() or (self.checkpoints is not None and math.isfinite(self.checkpoints.every)):
            self.save()
        if not self.stop.is_set():
            self.take_best()
            scores = self.evaluate()
            self.report("end", scores | {"n_train_unlabelled": self.progress.n_unlabelled})

    def finished(self) -> bool:
        """Whether the user, the clock or a lack of progress ended the run."""
        progress = self.progress
        return self.stop.is_set() or progress.seconds >= self.max_seconds or progress.n_worse >= self.patience

    def occupancy(self) -> Event:
        """How full the output's tables are: members of the mean non-empty bucket, share of neurons kept, fullest.

        Nothing until tables are asked.
        """
        tables = [self.tables[word] for word, part in self.parts.items() if part.layer == len(self.config.hidden)]
        if not tables or not self.config.lsh.L or self.progress.all_rebuilt < 0:
            return {}
        counts, n = [part.occupancy() for part in tables], sum(part.ids.shape[1] for part in tables)
        entries, buckets = (sum(part[key] for part in counts) for key in ("entries", "buckets"))
        return {
            "bucket_load": entries / max(buckets, 1),
            "buckets_used": buckets / (len(tables) * self.config.lsh.L << self.config.lsh.address_bits),
            "entries_kept": entries / (self.config.lsh.L * n),
            "fullest_bucket": max(part["fullest"] for part in counts),
        }

    def report(self, kind: str, facts: Event) -> None:
        """Send an event with the place of the run in it. Epochs count from 0, as a fraction."""
        progress = self.progress
        epoch = progress.step / steps_per_epoch(self.n_train, self.config.micro_batch)
        place = {"kind": kind, "seconds": progress.seconds, "epoch": epoch, "step": progress.step}
        event = place | {"samples": progress.n_samples, "rebuilds": progress.rebuilds} | facts
        if kind in KEPT_EVENTS:
            self.history.append(dict(event))
        self.callback(event)

    def evaluate(self, n_rows: int | None = None) -> Event:
        """P@k and its kin on the first `n_rows` test rows in their keyed order; None: all."""
        if self.test_labels is None:
            return {}
        order = self.working.arrays["test_order"][:n_rows]
        edges = range(0, len(order), self.rows_of_prediction)
        tasks = [("predict", first, min(first + self.rows_of_prediction, len(order))) for first in edges]
        parts = []
        for _, ids in self._in_order(tasks):
            parts.append(ids)
            place = {"done": len(parts), "of": len(tasks), "rows": len(order), "is_last": n_rows is None}
            self.callback({"kind": "evaluating", **place})
        if len(parts) < len(tasks):  # interrupted
            return {}
        scores = evaluate(np.concatenate(parts), self.test_labels.take(order))
        facts = self.progress.since_evaluation.summary() | scores
        self.progress.since_evaluation = Totals()
        self.report("evaluation", facts)
        self.measured = scores
        return scores

    def judge(self, scores: Event) -> None:
        """Keep the network if no evaluation before this one found it better."""
        progress, keeps = self.progress, math.isfinite(self.patience)
        saves = self.checkpoints is not None and (keeps or math.isfinite(self.checkpoints.every))
        if not scores or not (keeps or saves):
            return
        progress.n_worse += 1
        if scores["precision_at_1"] > progress.best_score:
            progress.best_score, progress.best_step, progress.n_worse = scores["precision_at_1"], progress.step, 0
            if keeps:
                self.keep_best()
            if saves:
                self.checkpoints.save_best(self.model())

    def take_best(self) -> None:
        """Go back to the best network there was, where a lack of progress is looked for."""
        if math.isfinite(self.patience):
            if self.progress.n_worse < self.patience:
                self.judge(self.evaluate(self.eval_samples))
            self.restore_best()

    def keep_best(self) -> None:
        """Remember the network as it is."""
        self.best_arrays = {}  # the last one goes before the next one comes
        self.best_arrays = {name: array.copy() for name, array in self.parameters.arrays.items()}

    def load_best(self, checkpoints: Checkpoints) -> None:
        """Remember the best network of a run that is resumed."""
        self.best_arrays = checkpoints.best_arrays()

    def restore_best(self) -> None:
        """Go back to the network that was remembered, if one was."""
        for name, array in self.best_arrays.items():
            self.parameters.arrays[name][:] = array

    def state(self, is_over: bool = False) -> State:
        """The network in training: with tables and progress to resume the run, or without them once it is over."""
        arrays, before = self.parameters.arrays | self.moments.arrays, self.before
        if is_over:
            steps, rebuilds = self.all_steps, self.progress.rebuilds
            before = Before(steps, self.progress.epoch + 1, rebuilds)
        else:
            arrays |= {name: self.working.arrays[name] for name in table_arrays(self.config, self.n_labels)}
        progress = None if is_over else self.progress
        kept = (tuple(self.history), self.label_names)
        return State(self.config, self.n_features, self.n_labels, arrays, before, progress, self.data, *kept)

    def save(self) -> None:
        """Write a checkpoint, if that is wanted."""
        if self.checkpoints is not None:
            self.checkpoints.save(self.state())

    def _in_order(self, tasks: list[tuple]) -> Iterator[tuple[tuple, np.ndarray]]:
        """Results of `tasks` in their order, each as soon as all before it are there."""
        waiting: dict[tuple, np.ndarray] = {}
        following = iter(tasks)
        task = next(following, None)
        for done, ids in self.pool.run(iter(tasks), self.stop.is_set):
            waiting[done] = ids
            while task in waiting:
                yield task, waiting.pop(task)
                task = next(following, None)

    def learned(self) -> dict[str, np.ndarray | Blocks]:
        """The parameters, in memory that stays when the run ends. Raises DivergedError (S29)."""
        check_weights(self.all_steps, self.parameters.arrays)
        return dict(self.parameters.arrays)

    def model(self) -> Model:
        """What has been learned. Raises DivergedError (S29)."""
        progress, before, arrays = self.progress, self.before, self.learned()
        facts = {
            "epochs": before.epochs + progress.step / steps_per_epoch(self.n_train, self.config.micro_batch),
            "steps": before.steps + progress.step,
            "rebuilds": progress.rebuilds,
        }
        facts |= self.about_data | about_settings(self.config, self.n_train) | about_run(self)
        return Model(self.config, self.n_features, self.n_labels, arrays, facts, self.label_names, self.label_counts)
