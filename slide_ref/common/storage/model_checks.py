"""Checks of what a model folder holds: before it is written, so that it can be read, and after it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import WEIGHT_DTYPES, Config
from ..errors import ModelError
from ..parameters import array_shapes
from .array_files import Arrays
from .array_folder import is_count


def check_count(name: str, number: Any) -> None:
    """Raise ModelError if a number of features or labels is no int, or below 0."""
    if not is_count(number):
        raise ModelError(f"{name} is {number!r}; give an int of 0 or more")


def check_table(name: str, table: Any) -> None:
    """Raise ModelError unless a table is a dict of values that JSON has."""
    if not isinstance(table, dict):
        raise ModelError(f"{name}: found {type(table).__name__}; give a dict")
    json_of(name, table)


def json_of(what: str, values: Any, **options: Any) -> str:
    """Return values as JSON. Raises ModelError if they cannot be stored, such as a NumPy number or NaN."""
    try:
        return json.dumps(values, allow_nan=False, **options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{what}: {error}; give values that JSON has, such as those of tolist()") from error


def check_shapes(arrays: Arrays, config: Config, n_features: int, n_labels: int, path: Path) -> None:
    """Raise ModelError unless the weights, biases and label counts are those that the settings require."""
    shapes = array_shapes(config, n_features, n_labels)
    first = arrays["W0"].dtype.name if "W0" in arrays else ""
    weights = first if first in WEIGHT_DTYPES else WEIGHT_DTYPES[0]
    dtypes = {"W": weights, "b": "float32"}
    wanted = {name: (shape, dtypes[name[0]]) for name, shape in shapes.items() if "_" not in name}  # no moments
    if "label_counts" in arrays:
        wanted["label_counts"] = ((n_labels,), "int64")
    found = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            held, needed = _in_words(found.get(name)), _in_words(wanted.get(name))
            raise ModelError(f"{path}: array {name}: found {held}, but the settings require {needed}")


def _in_words(entry: tuple[tuple[int, ...], str] | None) -> str:
    return "nothing" if entry is None else f"{entry[1]} of shape {entry[0]}"
