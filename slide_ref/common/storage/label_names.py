"""Names and values of labels and columns as files: text, one name per line, or a JSON list."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..diagnosis import not_text
from ..errors import DataError, ModelError
from .array_files import SAVE_AGAIN

NO_NAME = re.compile("[\n\r\ud800-\udfff]")  # occurs in no label name


def read_label_names(path: str | Path, n_labels: int) -> list[str]:
    """Read label names from a UTF-8 text file, one per line, in the order of the ids.

    Raises
    ------
    DataError
        If the file cannot be read or decoded, or does not have `n_labels` lines. The message names the file and line.
    """
    try:
        raw = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", str(path)) from error
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(not_text(raw) or "not UTF-8 text; convert the file to UTF-8", str(path), line) from error
    if lines[-1] == "":
        lines.pop()
    if len(lines) != n_labels:
        line = min(len(lines), n_labels) + 1
        raise DataError(f"{len(lines)} names, but there are {n_labels} labels; write one per line", str(path), line)
    names = [line.removesuffix("\r") for line in lines]
    for i, name in enumerate(names):
        if "\r" in name:
            raise DataError("a carriage return within a name; end lines in LF or CR LF", str(path), i + 1)
    return names


def join_names(names: list[str], n_labels: int) -> str:
    """Return the content of the file. Raises ModelError if a name does not fit in a line, or their number is wrong."""
    names = names.tolist() if hasattr(names, "tolist") else names  # of NumPy or pandas
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ModelError("label_names is no list of str; give a name for each label, or None")
    if len(names) != n_labels:
        raise ModelError(f"{len(names)} label names, but the model has {n_labels} labels")
    for i, name in enumerate(names):
        if NO_NAME.search(name):
            raise ModelError(f"label {i}: a name cannot contain a line break or half a surrogate pair: {name!r}")
    text = "".join(name + "\n" for name in names)
    return "\ufeff" + text if text.startswith("\ufeff") else text  # readers take the first for a mark of UTF-8


def read_list(path: Path, n: int, kind: type) -> list[Any]:
    """Read a JSON list of `n` values of type `kind`. Raises ModelError."""
    try:
        values = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); {SAVE_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}); {SAVE_AGAIN}") from error
    if not (isinstance(values, list) and len(values) == n and all(isinstance(value, kind) for value in values)):
        raise ModelError(f"{path}: not a list of {n} {'names' if kind is str else 'values'}; {SAVE_AGAIN}")
    return values
