"""Options of a run, apart from the settings of the network and its training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slide_ref.common.config import EVAL_METRICS
from slide_ref.common.errors import ConfigError
from slide_ref.common.storage.model_folder import TextColumns

from .checkpoints import Checkpoints
from .option_checks import checked
from .progress import Event, log_event


@dataclass(frozen=True)
class RunOptions:
    """How a run is monitored and when it ends; the fields are options of `slide_fast.training.fit_with_state`."""

    eval_every: float = 1.0
    eval_samples: int = 10_000
    max_seconds: float = math.inf
    patience: float = math.inf
    checkpoints: Checkpoints | None = None
    callback: Callable[[Event], None] = lambda event: None
    label_names: list[str] | None = None
    text: TextColumns | None = None
    eval_metric: str = EVAL_METRICS[0]

    @classmethod
    def checked(cls, **options: Any) -> RunOptions:
        """Make checked options, whose events also go to Python's logging. Raises ConfigError."""
        found = checked(options)
        return cls(**found | {"callback": log_event(found.get("callback") or (lambda event: None))})

    def require_test(self, test: object) -> None:
        """Raise ConfigError if the best network is to be kept, but there are no samples to evaluate on."""
        if test is None and self.keeps_best:
            raise ConfigError("patience needs samples to evaluate on; give some as test")

    @property
    def keeps_best(self) -> bool:
        """Whether the run returns the best network evaluated instead of the last one."""
        return math.isfinite(self.patience)

    @property
    def judges(self) -> bool:
        """Whether evaluations look for the best network, to keep or to save it."""
        return self.keeps_best or self.saves_regularly

    @property
    def saves_regularly(self) -> bool:
        """Whether checkpoints are written during the run, not only after Ctrl-C."""
        return self.checkpoints is not None and math.isfinite(self.checkpoints.every)
