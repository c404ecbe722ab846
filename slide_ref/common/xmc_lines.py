"""Lines of XMC text: this file defines what is accepted and what an error says (S17).

The first line is the header, ``n_samples n_features n_labels``. Every further line is one sample::

    3,17 0:0.25 42:1 99:-1.5e-3         two labels, three features
     7:1                                a line that begins with a space has no labels
    5                                   a sample may have no features

Words are separated by one or more spaces or tabs, which may also end a line. Counts and ids consist of at most 18
digits; values are decimal numbers, finite in float32. Lines end in LF or CR LF, optional after the last line. Empty
lines are allowed only after the last sample.
"""

from __future__ import annotations

import re

import numpy as np

from .diagnosis import not_xmc
from .errors import DataError
from .sparse_rows import TOO_LARGE

COUNT_LIMIT = 2**31  # ids are int32
WORD = re.compile(rb"[^ \t]+")
DECIMAL = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def parse_header(line: bytes) -> tuple[int, ...]:
    """Read ``n_samples n_features n_labels``.

    Raises
    ------
    DataError
        Unless the line consists of three whole numbers below 2**31.
    """
    counts = [_whole(word, COUNT_LIMIT) for word in WORD.findall(line)]
    if len(counts) != 3 or None in counts:
        wanted = f"the header 'n_samples n_features n_labels', three whole numbers below {COUNT_LIMIT}"
        raise DataError(not_xmc(line) or f"this line must be {wanted}; found {_show(line)}")
    return tuple(count for count in counts if count is not None)


def parse_sample(line: bytes, n_features: int, n_labels: int) -> tuple[list[int], list[tuple[int, np.float32]]]:
    """Read the line of one sample, given without its line end.

    Returns
    -------
    labels : list of int
        Ascending, distinct.
    features : list of (int, float32)
        Ids with their values; ids ascending and distinct, no value 0.

    Raises
    ------
    DataError
        At the first word that is malformed or out of range, with its column.
    """
    if not line:
        raise DataError("the line is empty; a sample without labels and features is a line with one space")
    words = list(WORD.finditer(line))
    has_labels = not line.startswith((b" ", b"\t"))
    labels = _parse_labels(words.pop(0).group(), n_labels) if has_labels else []
    sums: dict[int, float] = {}
    for word in words:
        feature, value = _parse_feature(word.group(), word.start() + 1, n_features)
        sums[feature] = sums.get(feature, 0.0) + value
    for feature, value in sums.items():
        if abs(value) >= TOO_LARGE:
            raise DataError(f"the values of feature {feature} add up to more than float32 can hold; rescale them")
    features = [(feature, np.float32(sums[feature])) for feature in sorted(sums)]
    return labels, [(feature, value) for feature, value in features if value != 0]


def _parse_labels(word: bytes, n_labels: int) -> list[int]:
    if b":" in word:
        message = f"{_show(word)} stands where labels belong; a line without labels begins with a space"
        raise DataError(message, column=1)
    labels, column = set(), 1
    for text in word.split(b","):
        label = _whole(text, n_labels)
        if label is None:
            raise DataError(f"label id {_show(text)} is not {_wanted(n_labels, 'labels')}", column=column)
        labels.add(label)
        column += len(text) + 1
    return sorted(labels)


def _parse_feature(word: bytes, column: int, n_features: int) -> tuple[int, float]:
    name, colon, text = word.partition(b":")
    if not colon:
        raise DataError(f"{_show(word)} is not of the form feature:value", column=column)
    feature = _whole(name, n_features)
    if feature is None:
        raise DataError(f"feature id {_show(name)} is not {_wanted(n_features, 'features')}", column=column)
    value = parse_decimal(text)
    if value is None:
        wanted = "a decimal number that is finite in float32"
        raise DataError(f"value {_show(text)} is not {wanted}", column=column + len(name) + 1)
    return feature, value


def parse_decimal(text: bytes) -> float | None:
    """Parse a decimal number; None if malformed or too large for float32."""
    value = float(text) if DECIMAL.fullmatch(text) else TOO_LARGE
    return value if abs(value) < TOO_LARGE else None


def _wanted(limit: int, what: str) -> str:
    """Describe the valid ids. No header counts as far as `COUNT_LIMIT`, which is the limit if there is no header."""
    return f"a whole number below {limit}" + (f", the number of {what} in the header" if limit < COUNT_LIMIT else "")


def _whole(text: bytes, limit: int) -> int | None:
    value = int(text) if text.isdigit() and len(text) <= 18 else limit
    return value if value < limit else None


def _show(text: bytes) -> str:
    """Quote the text in printable ASCII, cut after 40 bytes."""
    return repr(text if len(text) <= 40 else text[:40] + b"...")[1:]
