"""An estimator's parameters, checked and turned into what a training run takes."""

from __future__ import annotations

import math
from typing import Any

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError

from ..engine.option_checks import checked
from .sklearn_base import seed_from

SETTINGS = ("hidden", "epochs", "micro_batch", "learning_rate")
RUN_OPTIONS = ("n_workers", "eval_every", "eval_samples", "max_seconds", "patience")


def config_of(estimator: Any, **changes: Any) -> Config:
    """Make the settings of a run from an estimator's parameters, some of them changed. Raises ConfigError."""
    named = {"seed": seed_from(estimator.random_state)} | {key: getattr(estimator, key) for key in SETTINGS}
    if estimator.hidden is None:
        del named["hidden"]
    return Config.from_dict({**named, **(estimator.settings or {})}).replace(**changes)


def names_given(estimator: Any) -> set[str]:
    """Return the names of settings that an estimator's parameters set; 0 epochs leave the choice open, and so on."""
    return {key for key in SETTINGS if getattr(estimator, key)} | set(estimator.settings or {})


def options_of(estimator: Any, eval_set: Any = None, callback: Any = None) -> dict[str, Any]:
    """Make the options of a run, for `fit_with_state`, and check all other parameters. Raises ConfigError."""
    checked({"eval_set": eval_set, "callback": callback})
    checked({name: getattr(estimator, name) for name in ("settings", "warm_start", "verbose")})
    options = checked({name: getattr(estimator, name) for name in RUN_OPTIONS})
    if eval_set is None and options["patience"] < math.inf:
        raise ConfigError("patience needs samples to evaluate on; call fit with eval_set=(X, y)")
    return options
