"""Where a training run stands, and what it did since it was last asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .tasks import RangeReport

Event = dict[str, object]


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

    def summary(self) -> Event:
        """Mean loss and active neurons of the labelled samples, and samples a second."""
        n = max(self.n_labelled, 1)
        rate = self.n_samples / self.seconds if self.seconds else 0.0
        return {"loss": self.loss / n, "active_neurons": self.active / n, "samples_per_second": rate}


@dataclass
class Progress:
    """Where a run stands. `seconds` counts training and rebuilds, not evaluation."""

    epoch: int = 0
    step: int = 0
    rebuilds: int = 0
    seconds: float = 0.0
    n_samples: int = 0
    n_unlabelled: int = 0
    step_seconds: float = math.inf
    since_evaluation: Totals = field(default_factory=Totals)
    in_epoch: Totals = field(default_factory=Totals)
