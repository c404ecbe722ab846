"""Settings of a run from a TOML file and from the command line, and back to TOML."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

from slide_ref.common.config import WIDE, Config
from slide_ref.common.diagnosis import not_text
from slide_ref.common.errors import ConfigError, DataError

ALL = "all"
OPTIONS = ("epochs", "seed", "hidden", "micro_batch", "learning_rate")  # settings that are options of their own
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "scope": "sample",
        "in_batch": 0.0,
        "lsh": {"family": "simhash", "K": 9, "L": 50, "budget": 3000, "min_active": 0},
    },
    "fast": {"hidden": list(Config().hidden)},
    "wide": WIDE,
}
ZEROS = {
    "epochs": "0: chosen by the number of samples",
    "learning_rate": "0: chosen by the number of steps and the width of the layers",
    "bucket_bits": "0: 16, or fewer if codes are shorter",
}
_PLACE = re.compile(r"(?P<message>.*) \(at (line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_WORD = re.compile(r"[A-Za-z][\w-]*")


def settings_of(options: Namespace, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the settings given, of a preset or from a file, overridden by separate options and --set.

    `settings` are those of the run to resume; with a preset or a file only its number of shards is kept.

    Raises
    ------
    ConfigError, DataError
        If a setting is unknown or invalid. `config_of` takes the result.
    """
    shards = (settings or {}).get("shards")
    if options.config is not None:
        settings = read_settings(options.config)
    elif options.preset is not None:
        settings = copy.deepcopy(PRESETS[options.preset])
    settings = settings or {}
    for key in OPTIONS:
        if getattr(options, key, None) is not None:
            assign(settings, key, getattr(options, key))
    for key, text in options.set:
        assign(settings, key, parse_value(key, text))
    if shards is not None:
        settings.setdefault("shards", shards)
    if options.n_ranks:
        settings.setdefault("shards", options.n_ranks)
    config_of(settings)
    return settings


def names_in(settings: dict[str, Any]) -> set[str]:
    """Return the settings that are present, by their names in `assign`."""
    inner = {key: value for key, value in settings.items() if isinstance(value, dict)}
    return set(settings) | {f"{key}.{name}" for key, table in inner.items() for name in table}


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a TOML file of settings, such as a run's config.toml.

    Returns
    -------
    dict
        For `config_of`; keys left out are missing.

    Raises
    ------
    DataError
        If the file cannot be read, is not TOML, or holds an unknown key or an invalid value.
    """
    raw, text = b"", ""
    try:
        raw = Path(path).read_bytes()
        text = raw.decode("utf-8").replace("\r\n", "\n")
        settings = tomllib.loads(text)
        config_of(settings)
    except OSError as error:
        advice = "give a TOML file of settings, such as a run's config.toml"
        raise DataError(f"cannot be read ({error.strerror or error}); {advice}", path) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(not_text(raw) or "not UTF-8 text; convert the file to UTF-8", path, line) from error
    except tomllib.TOMLDecodeError as error:
        if message := not_text(raw):
            raise DataError(message, path, 1) from error
        raise _located(str(error), text, path) from error
    except RecursionError as error:
        raise DataError("values are nested too deeply", path) from error
    except ValueError as error:  # also of numbers with thousands of digits
        raise DataError(str(error), path) from error
    return settings


def _located(message: str, text: str, path: str | Path) -> DataError:
    """Return a DataError with the message of tomllib, its position moved to line and column."""
    found = _PLACE.fullmatch(message)
    if not found:
        return DataError(message, path)
    if not found["line"]:
        return DataError(f"{found['message']} at the end of the file", path, text.rstrip("\n").count("\n") + 1)
    return DataError(found["message"], path, int(found["line"]), int(found["column"]))


def assign(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set a setting by its name, such as ``epochs``, ``lsh.K`` or ``hidden_lsh.1.K``."""
    *tables, name = key.split(".")
    inner = settings
    for depth, table in enumerate(tables, start=1):
        inner = inner.setdefault(table, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(tables[:depth])} is {inner!r}; it must be a table of settings")
    inner[name] = value


def parse_value(key: str, text: str) -> Any:
    """Parse a value in TOML syntax; a one-word string needs no quotes. Raises ConfigError with the key."""
    try:
        value = tomllib.loads(f"value = {text}")
        if value.keys() == {"value"}:
            return value["value"]
    except (ValueError, RecursionError):  # of tomllib, or of numbers with thousands of digits
        if _WORD.fullmatch(text):
            return text
    raise ConfigError(f"{key}: {text!r} is not a value; give a number, a word or a list such as [256, 128]")


def config_of(settings: dict[str, Any], n_labels: int = 1) -> Config:
    """Make a Config from settings in which ``lsh.min_active`` may be "all", the number of labels.

    Raises
    ------
    ConfigError
        If a key is unknown or a value is invalid.
    """
    lsh = settings.get("lsh")
    if isinstance(lsh, dict) and lsh.get("min_active") == ALL:
        settings = settings | {"lsh": lsh | {"min_active": n_labels}}
    return Config.from_dict(settings)


def to_toml(settings: dict[str, Any]) -> str:
    """Format the output of `Config.to_dict` as TOML, for `read_settings`."""
    settings = dict(settings)
    hidden_lsh = settings.pop("hidden_lsh")
    tables = {"lsh": settings.pop("lsh")} | {f"hidden_lsh.{layer}": table for layer, table in hidden_lsh.items()}
    parts = [_lines(settings)]
    parts += [f"\n[{name}]\n{_lines(table)}" for name, table in tables.items()]
    return "".join(parts)


def _lines(table: dict[str, Any]) -> str:
    """Format keys with strings, finite numbers and lists of these, which JSON and TOML spell alike."""
    notes = {key: f"  # {ZEROS[key]}" for key, value in table.items() if key in ZEROS and value == 0}
    return "".join(f"{key} = {json.dumps(value)}{notes.get(key, '')}\n" for key, value in table.items())
