"""Progress of a training run, and totals since its last evaluation."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .tasks import RangeReport

Event = dict[str, Any]
LOGGER = logging.getLogger("slide_fast")


def means(sums: Totals | RangeReport) -> Event:
    """Return mean loss and active neurons of the labelled samples; empty if there are none."""
    n = sums.n_labelled
    return {"loss": sums.loss / n, "active_neurons": sums.active / n} if n else {}


@dataclass
class Totals:
    """Sums over finished steps, between two reports."""

    n_samples: int = 0
    n_labelled: int = 0
    loss: float = 0.0
    active: float = 0.0
    seconds: float = 0.0

    def add(self, report: RangeReport) -> None:
        self.n_samples += report.n_samples
        self.n_labelled += report.n_labelled
        self.loss += report.loss
        self.active += report.active

    @property
    def mean_loss(self) -> float:
        """Mean loss of the labelled samples; nan if there are none."""
        return self.loss / self.n_labelled if self.n_labelled else math.nan

    def summary(self) -> Event:
        """Return what `means` does, and samples/s."""
        return means(self) | {"samples_per_second": self.n_samples / self.seconds if self.seconds else 0.0}


@dataclass
class Progress:
    """Progress of a run. `seconds` counts training and rebuilds, not evaluation.

    `best_score` is the best score of an evaluation during training, larger for a better network, `best_step` its step,
    and `n_worse` the number of evaluations since. `evaluated` is the last step whose evaluation was due and is
    complete, `rebuilt` the last step after which tables were built, and `all_rebuilt` the last after which the output
    layer's tables were built too. `fresh` and `repeated` are sums over the steps that tell whether a run memorises its
    samples (S37).
    """

    epoch: int = 0
    step: int = 0
    rebuilds: int = 0
    seconds: float = 0.0
    n_samples: int = 0
    n_unlabelled: int = 0
    step_seconds: float = math.inf
    best_score: float = -math.inf
    best_step: int = 0
    n_worse: int = 0
    evaluated: int = 0
    rebuilt: int = 0
    all_rebuilt: int = -1
    since_evaluation: Totals = field(default_factory=Totals)
    in_epoch: Totals = field(default_factory=Totals)
    fresh: Totals = field(default_factory=Totals)
    repeated: Totals = field(default_factory=Totals)

    def add(self, report: RangeReport, n_steps: int) -> None:
        """Add the totals of a range of steps."""
        self.step_seconds = report.seconds / n_steps
        self.n_samples += report.n_samples
        self.n_unlabelled += report.n_samples - report.n_labelled
        self.since_evaluation.add(report)
        self.in_epoch.add(report)


def tell_all(listeners: list[Callable[[Event], None]]) -> Callable[[Event], None]:
    """Make a callback that passes each event on to all listeners, in order; what one changes in it, later ones see."""

    def tell(event: Event) -> None:
        for listen in listeners:
            listen(event)

    return tell


def log_event(callback: Callable[[Event], None]) -> Callable[[Event], None]:
    """Make a callback that logs starts, epochs, evaluations and ends at level INFO."""

    def logged(event: Event) -> None:
        if event["kind"] in ("start", "epoch", "evaluation", "end") and LOGGER.isEnabledFor(logging.INFO):
            numbers = ((key, value) for key, value in event.items() if isinstance(value, (int, float)))
            LOGGER.info("%s: %s", event["kind"], ", ".join(f"{key} {value:.6g}" for key, value in numbers))
        callback(event)

    return logged
