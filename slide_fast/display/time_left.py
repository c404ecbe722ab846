"""Estimate of the remaining time of a training run, from its progress so far."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import islice
from typing import Any

from slide_ref.common.config import Config
from slide_ref.common.schedule import in_batch_steps, n_epochs, rebuild_steps, steps_per_epoch, total_steps

HALF_LIFE = 10.0  # seconds after which a measured pace counts half
SLOWDOWN = 2.0  # of steps that query tables, before one was taken; it was 1.6 to 2.3 on three data sets
MOST_REBUILDS = 100_000  # that are counted


class TimeLeft:
    """Estimates the remaining seconds of a run from the events of `slide_fast.training.fit`.

    Steps before and after the first that queries the output's tables (S32), rebuilds, and rows of evaluations are
    measured separately. What has not been measured yet counts as 0, except steps that query tables: `SLOWDOWN`.

    Parameters
    ----------
    config : Config
    n_labels : int
    n_test : int
        Number of test rows; 0 if there are none.
    max_seconds, eval_every, eval_samples, patience
        See `fit_with_state`.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(
        self,
        config: Config,
        n_labels: int,
        n_test: int = 0,
        max_seconds: float = math.inf,
        eval_every: float = 1.0,
        eval_samples: int = 10_000,
        patience: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.config, self.n_test, self.max_seconds, self.eval_every = config, n_test, max_seconds, eval_every
        self.eval_rows, self.clock = min(eval_samples, n_test), clock
        self.n_at_the_end = 1 if math.isinf(patience) else 2  # evaluations once the last step is done
        self.is_sampled = len(config.hidden) in config.sampled_layers(n_labels)
        self.paces = [_Pace(), _Pace()]  # of steps before and after the first that queries tables
        self.rebuilding = [(0.0, 0), (0.0, 0)]  # seconds of the last rebuild and some steps, and their samples
        self.row_seconds, self.evaluated = 0.0, 0
        self.evaluation_left = math.nan  # seconds; not a number while none is going on
        self.is_last_evaluation = False

    def tell(self, event: dict[str, Any]) -> None:
        """Update the estimate with an event."""
        note = getattr(self, f"_{event['kind']}", None)
        if note is not None:
            note(event)

    def _start(self, event: dict[str, Any]) -> None:
        self.started = self.busy_until = self.clock()
        self._place(event)
        self.n_samples, micro_batch = event["n_samples"], self.config.micro_batch
        self.n_steps = total_steps(self.config, self.n_samples)
        self.per_epoch = steps_per_epoch(self.n_samples, micro_batch)
        alone = in_batch_steps(self.config, self.n_steps)
        self.rebuilds_after = list(islice(rebuild_steps(self.config, self.n_steps), MOST_REBUILDS))
        self.alone = alone if self.is_sampled else 0
        epochs, steps = divmod(self.alone, self.per_epoch)
        self.alone_samples = epochs * self.n_samples + steps * micro_batch

    def _place(self, event: dict[str, Any]) -> None:
        self.step, self.seconds = event.get("step", 0), event.get("seconds", 0.0)
        self.samples, self.rebuilds = event.get("samples", 0), event.get("rebuilds", 0)

    def _progress(self, event: dict[str, Any]) -> None:
        phase, seconds = int(event["step"] > self.alone), event["seconds"] - self.seconds
        if event.get("rebuilds", 0) == self.rebuilds:
            self.paces[phase].add(seconds, event["n_new"])
        else:
            self.rebuilding[phase] = (seconds, event["n_new"])
        self._place(event)
        self.busy_until = self.clock()

    def _evaluating(self, event: dict[str, Any]) -> None:
        elapsed, done = self.clock() - self.busy_until, event["done"] / event["of"]
        self.row_seconds = elapsed / (done * event["rows"])
        self.evaluation_left = elapsed * (1 - done) / done
        self.evaluated, self.is_last_evaluation = self.step, event["is_last"]

    def _evaluation(self, event: dict[str, Any]) -> None:
        self.evaluation_left = 0.0 if self.is_last_evaluation else math.nan
        self.busy_until = self.clock()

    def _pace(self, phase: int) -> float:
        """Return the seconds per sample of steps that query tables, or of those that do not; 0 if none was measured."""
        own, other = self.paces[phase], self.paces[1 - phase]
        if own.samples:
            return own.seconds / own.samples
        return (SLOWDOWN if phase else 1 / SLOWDOWN) * other.seconds / other.samples if other.samples else 0.0

    def _rebuild(self, phase: int) -> float:
        seconds, samples = self.rebuilding[phase]
        return max(0.0, seconds - samples * self._pace(phase))

    def _to_come(self) -> tuple[int, int]:
        """Count the remaining samples, before and after the first step that queries tables."""
        n = n_epochs(self.config, self.n_samples) * self.n_samples - self.samples
        before = min(n, max(0, self.alone_samples - self.samples))
        return before, n - before

    def _training_left(self) -> float:
        """Return the seconds of steps and rebuilds until the last epoch ends."""
        before, after = self._to_come()
        rebuilds = self.rebuilds_after[bisect_left(self.rebuilds_after, self.step) :]
        n_before = bisect_left(rebuilds, self.alone)
        seconds = before * self._pace(0) + after * self._pace(1)
        return seconds + n_before * self._rebuild(0) + (len(rebuilds) - n_before) * self._rebuild(1)

    def _last_step(self, seconds: float) -> float:
        """Return the step that is reached after so many seconds of training."""
        before, _ = self._to_come()
        first = min(seconds, before * self._pace(0))
        samples = (first / self._pace(0) if first else 0.0) + (seconds - first) / self._pace(1)
        return min(self.n_steps, self.step + samples / self.config.micro_batch)

    def _evaluations_left(self, last_step: float) -> float:
        """Return the seconds of the evaluations still to come in a run that ends at a step."""
        gap = max(self.eval_every * self.per_epoch, 1.0)
        n_over = math.floor((self.step + (0.5 if self.evaluated == self.step else -0.5)) / gap)
        n = max(0, math.ceil(last_step / gap) - 1 - n_over) + self.n_at_the_end - 1
        return (n * self.eval_rows + self.n_test) * self.row_seconds

    def left(self) -> float:
        """Return the seconds until the end of the run; NaN before anything was measured."""
        if self.is_last_evaluation:
            return self.evaluation_left
        if not any(pace.samples for pace in self.paces):
            return math.nan
        training = min(self._training_left(), max(0.0, self.max_seconds - self.seconds))
        now = 0.0 if math.isnan(self.evaluation_left) else self.evaluation_left
        return training + now + self._evaluations_left(self._last_step(training))

    def counts_evaluations(self) -> bool:
        """Tell whether the estimate includes evaluations: their time is known, or there are none."""
        return not self.n_test or self.row_seconds > 0

    def fraction(self) -> float:
        """Return the fraction of the run's time that has passed."""
        elapsed, left = self.clock() - self.started, self.left()
        return elapsed / (elapsed + left) if elapsed + left > 0 else 0.0


class _Pace:
    """Seconds and samples; recent ones have the largest weight."""

    def __init__(self) -> None:
        self.seconds = self.samples = 0.0

    def add(self, seconds: float, samples: int) -> None:
        kept = 0.5 ** (seconds / HALF_LIFE)
        self.seconds, self.samples = kept * self.seconds + seconds, kept * self.samples + samples
