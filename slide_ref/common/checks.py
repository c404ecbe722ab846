"""Checks of single values: settings, options and parameters; errors are one line."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterable
from typing import Any

from .errors import ConfigError
from .suggestions import did_you_mean


def require(condition: bool, key: str, value: Any, wanted: str) -> None:
    """Raise ConfigError, with a one-line message, unless a setting is valid."""
    if not condition:
        text = " ".join(repr(value).split())
        raise ConfigError(f"{key} is {text if len(text) <= 100 else text[:99] + '…'}; it must be {wanted}")


def plain(value: Any) -> Any:
    """Convert a NumPy number, bool or string to plain Python; return anything else unchanged."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else value


def is_whole(value: Any) -> bool:
    """Tell whether a plain value is a whole number that fits in 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64


def is_number(value: Any) -> bool:
    """Tell whether a plain value is a number; infinity is one, NaN is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def whole(key: str, value: Any, least: int) -> int:
    """Return a whole number as a plain int. Raises ConfigError if it is something else or below `least`."""
    value = plain(value)
    require(is_whole(value), key, value, f"a whole number of {least} or more")
    require(value >= least, key, value, f"{least} or more")
    return value


def positive(key: str, value: Any) -> float:
    """Return a number above 0, possibly infinite, as a plain float. Raises ConfigError if it is something else."""
    value = plain(value)
    require(is_number(value), key, value, "a number above 0")
    require(value > 0, key, value, "above 0")
    return value


def share(key: str, value: Any) -> float:
    """Return a number above 0 and at most 1 as a plain float. Raises ConfigError if it is something else."""
    value = plain(value)
    require(is_number(value) and 0 < value <= 1, key, value, "above 0 and at most 1")
    return value


def true_or_false(key: str, value: Any) -> bool:
    """Return a truth value as a plain bool. Raises ConfigError if it is something else."""
    value = plain(value)
    require(isinstance(value, bool), key, value, "true or false")
    return value


def one_of(key: str, value: Any, names: tuple[str, ...]) -> str:
    """Return a value that is one of the given names. Raises ConfigError if it is something else."""
    value = plain(value)
    if isinstance(value, str) and value in names:
        return value
    meant = did_you_mean(value, names) if isinstance(value, str) else ""
    require(False, key, value, "; ".join(filter(None, [f"one of {', '.join(names)}", meant])))
    return value


def check_types(config: Any, prefix: str) -> None:
    """Convert the fields of a dataclass to plain values; raise ConfigError if one has a wrong type."""
    for f in dataclasses.fields(config):
        key, value = prefix + f.name, plain(getattr(config, f.name))
        if f.type == "int":
            require(is_whole(value), key, value, "a whole number below 2**64")
        elif f.type == "bool":
            true_or_false(key, value)
        elif f.type == "float":
            require(is_number(value) and abs(value) <= 1e300, key, value, "a finite number")
        object.__setattr__(config, f.name, value)


def layer_sizes(key: str, value: Any) -> tuple[int, ...]:
    """Return layer sizes as plain numbers; a single number means one layer. Raises ConfigError."""
    given = plain(value)
    given = given.tolist() if hasattr(given, "tolist") else given
    listed = isinstance(given, (list, tuple, range))
    require(listed or is_whole(given), key, value, "a list of layer sizes, or one size")
    sizes = tuple(map(plain, given if listed else [given]))
    fitting = len(sizes) >= 1 and all(is_whole(n) and n >= 1 for n in sizes)
    require(fitting, key, sizes, "one or more layer sizes of at least 1")
    return sizes


def known_names(settings: Iterable[Any], names: list[str], prefix: str, everywhere: list[str]) -> None:
    """Raise ConfigError at the first setting whose name is unknown; the message lists `names` and suggests the nearest.

    `prefix`, such as ``"lsh."``, stands before these names in messages; `everywhere` holds further names to suggest.
    """
    known = [prefix + name for name in names]
    for key in settings:
        if f"{prefix}{key}" not in known:
            meant = did_you_mean(str(key), known + everywhere)
            if not prefix and key in everywhere:
                group, _, name = str(key).rpartition(".")
                meant = f"give it as {{{group!r}: {{{name!r}: …}}}}"
            parts = [f"unknown setting {prefix}{key}", f"known are {', '.join(known)}", meant]
            raise ConfigError("; ".join(filter(None, parts)))
