"""Checks of the options of training runs and estimators (not the settings of the network), before any work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any

from slide_ref.common.checks import is_number, is_whole, one_of, plain, positive, require, true_or_false, whole
from slide_ref.common.config import EVAL_METRICS
from slide_ref.common.storage.model_folder import TextColumns

from ..parallel.machine import available_cpus
from .checkpoints import Checkpoints, TrainingState

WEIGHTINGS = ("balanced", "propensity")  # of classes


def _workers(key: str, value: Any) -> int | None:
    value = plain(value)
    fits = value is None or (is_whole(value) and (value >= 1 or value == -1))
    require(fits, key, value, "1 or more, -1 for all CPUs, or None for the default")
    return available_cpus() if value == -1 else value


def _or_endless(check: Callable[[str, Any], float], key: str, value: Any) -> float:
    value = plain(value)
    is_endless = value is None or (isinstance(value, float) and value == math.inf)
    return math.inf if is_endless else check(key, value)


def _pair_or_path(key: str, value: Any) -> Any:
    is_pair = isinstance(value, tuple) and len(value) == 2
    require(value is None or is_pair or isinstance(value, (str, Path)), key, value, "a pair (X, y), a path, or None")
    return value


def _settings(key: str, value: Any) -> Any:
    require(value is None or isinstance(value, Mapping), key, value, "a dict of settings, or None")
    return value


def _verbose(key: str, value: Any) -> bool:
    value = plain(value)
    require(isinstance(value, bool) or (is_whole(value) and value >= 0), key, value, "true or false")
    return bool(value)


def _function(key: str, value: Any) -> Any:
    require(value is None or callable(value), key, value, "a function that takes an event, or None")
    return value


def _metric(key: str, value: Any) -> Any:
    return one_of(key, plain(value), EVAL_METRICS)


def _fraction(key: str, value: Any) -> float | None:
    value = plain(value)
    fits = value is None or (is_number(value) and 0 < value < 1)
    require(fits, key, value, "above 0 and below 1, or None")
    return value


def _class_weight(key: str, value: Any) -> Any:
    fits = value is None or isinstance(value, Mapping) or (isinstance(value, str) and value in WEIGHTINGS)
    require(fits, key, value, f"{', '.join(WEIGHTINGS)}, a dict of weights per label, or None")
    return value


def _label_names(key: str, value: Any) -> list[Any] | None:
    fits = value is None or (isinstance(value, Iterable) and not isinstance(value, (str, bytes, Set, Mapping)))
    require(fits, key, value, "a list of str, one for each label, or None")
    return None if value is None else list(value)


def _or_none(kind: type, key: str, value: Any) -> Any:
    require(value is None or isinstance(value, kind), key, value, f"a {kind.__name__}, or None")
    return value


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "n_workers": _workers,
    "eval_every": positive,
    "eval_samples": partial(whole, least=1),
    "max_seconds": partial(_or_endless, positive),
    "patience": partial(_or_endless, partial(whole, least=1)),
    "checkpoints": partial(_or_none, Checkpoints),
    "state": partial(_or_none, TrainingState),
    "callback": _function,
    "label_names": _label_names,
    "text": partial(_or_none, TextColumns),
    "max_restarts": partial(whole, least=0),
    "worker_timeout": positive,
    "eval_set": _pair_or_path,
    "settings": _settings,
    "verbose": _verbose,
    "eval_metric": _metric,
    "validation_fraction": _fraction,
    "class_weight": _class_weight,
    "warm_start": true_or_false,
}


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as plain values; ``max_seconds`` and ``patience`` become infinite if None.

    Raises ConfigError, with a one-line message, if a value is invalid.
    """
    return {key: CHECKS[key](key, value) if key in CHECKS else value for key, value in options.items()}
