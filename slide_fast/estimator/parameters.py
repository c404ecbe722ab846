"""An estimator's parameters, checked and converted to settings and options of a training run."""

from __future__ import annotations

import inspect
import math
from typing import Any

from slide_ref.common.checks import plain
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError

from ..engine.option_checks import checked
from .sklearn_base import seed_from

SETTINGS = ("hidden", "epochs", "micro_batch", "learning_rate")
OTHERS = ("settings", "warm_start", "verbose", "validation_fraction", "class_weight")
RUN_OPTIONS = ("n_workers", "eval_every", "eval_samples", "max_seconds", "patience", "eval_metric")


def config_of(estimator: Any) -> Config:
    """Make the settings of a run from an estimator's parameters. Raises ConfigError."""
    named = {"seed": seed_from(estimator.random_state)} | {key: getattr(estimator, key) for key in SETTINGS}
    if estimator.hidden is None:
        del named["hidden"]
    defaults = inspect.signature(type(estimator)).parameters
    for key, setting in (*zip(SETTINGS, SETTINGS, strict=True), ("random_state", "seed")):
        is_given = key in defaults and repr(plain(getattr(estimator, key))) != repr(defaults[key].default)
        if is_given and setting in (estimator.settings or {}):
            raise ConfigError(f"{key} is given as a parameter and {setting} in settings; leave one of them out")
    return Config.from_dict({**named, **(estimator.settings or {})})


def names_given(estimator: Any) -> set[str]:
    """Return the names of the network settings that an estimator's parameters set."""
    return ({"hidden"} if estimator.hidden is not None else set()) | set(estimator.settings or {})


def options_of(estimator: Any, eval_set: Any = None, callback: Any = None, judged: bool = True) -> dict[str, Any]:
    """Make the options of a run for `fit_with_state`, and check all other parameters. Raises ConfigError.

    A run that is not `judged` has no samples to evaluate on, so that `patience` has no effect.
    """
    checked({"eval_set": eval_set, "callback": callback} | {name: getattr(estimator, name) for name in OTHERS})
    if eval_set is not None and estimator.validation_fraction is not None:
        raise ConfigError("eval_set and validation_fraction exclude each other; give only one")
    options = checked({name: getattr(estimator, name) for name in RUN_OPTIONS})
    if not judged:
        options["patience"] = math.inf
    if eval_set is None and estimator.validation_fraction is None and options["patience"] < math.inf:
        raise ConfigError("patience needs samples to evaluate on; set validation_fraction, or give fit an eval_set")
    return options
