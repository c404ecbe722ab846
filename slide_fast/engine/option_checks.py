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
Check = Callable[[str, Any], Any]  # of an option, by name and value; returns the value to use


def _workers(key: str, value: Any) -> int | None:
    value = plain(value)
    fits = value is None or (is_whole(value) and (value >= 1 or value == -1))
    require(fits, key, value, "1 or more, -1 for all CPUs, or None for the default")
    return available_cpus() if value == -1 else value


def _or_endless(check: Check, key: str, value: Any) -> float:
    value = plain(value)
    is_endless = value is None or (isinstance(value, float) and value == math.inf)
    return math.inf if is_endless else check(key, value)


def _verbose(key: str, value: Any) -> bool:
    value = plain(value)
    require(isinstance(value, bool) or (is_whole(value) and value >= 0), key, value, "true or false")
    return bool(value)


def _that(fits: Callable[[Any], bool], wanted: str) -> Check:
    """Make a check that a value, as a plain one, fits, or is None."""

    def check(key: str, value: Any) -> Any:
        value = plain(value)
        require(value is None or fits(value), key, value, f"{wanted}, or None")
        return value

    return check


def _a(kind: type) -> Check:
    return _that(lambda value: isinstance(value, kind), f"a {kind.__name__}")


def _is_pair_or_path(value: Any) -> bool:
    return (isinstance(value, tuple) and len(value) == 2) or isinstance(value, (str, Path))


def _is_class_weight(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, str) and value in WEIGHTINGS)


def _label_names(key: str, value: Any) -> list[Any] | None:
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Set, Mapping))
    fits = value is None or (is_list and getattr(value, "ndim", 1) == 1)
    require(fits, key, value, "a list of str, one for each label, or None")
    return None if value is None else list(value)


CHECKS: dict[str, Check] = {
    "n_workers": _workers,
    "eval_every": positive,
    "eval_samples": partial(whole, least=1),
    "max_seconds": partial(_or_endless, positive),
    "patience": partial(_or_endless, partial(whole, least=1)),
    "checkpoints": _a(Checkpoints),
    "state": _a(TrainingState),
    "callback": _that(callable, "a function that takes an event"),
    "label_names": _label_names,
    "text": _a(TextColumns),
    "max_restarts": partial(whole, least=0),
    "worker_timeout": positive,
    "eval_set": _that(_is_pair_or_path, "a pair (X, y), a path"),
    "settings": _that(lambda value: isinstance(value, Mapping), "a dict of settings"),
    "verbose": _verbose,
    "eval_metric": lambda key, value: one_of(key, value, EVAL_METRICS),
    "validation_fraction": _that(lambda value: is_number(value) and 0 < value < 1, "above 0 and below 1"),
    "class_weight": _that(_is_class_weight, f"{', '.join(WEIGHTINGS)}, a dict of weights per label"),
    "warm_start": true_or_false,
}


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as plain values; ``max_seconds`` and ``patience`` become infinite if None.

    Raises ConfigError, with a one-line message, if a value is invalid.
    """
    return {key: CHECKS[key](key, value) if key in CHECKS else value for key, value in options.items()}
