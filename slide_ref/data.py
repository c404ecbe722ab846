"""XMC text, read line by line: this file defines what is accepted and what an error says (S17).

The first line is the header, ``n_samples n_features n_labels``. Every further line is one sample::

    3,17 0:0.25 42:1 99:-1.5e-3         two labels, three features
     7:1                                a line that begins with a space has no labels
    5                                   a sample may have no features

Words are separated by one or more spaces or tabs, which may also end a line. Counts and ids are written in at most 18
digits and nothing else; values are decimal numbers, finite in float32. Lines end in LF or CR LF, the last one may
lack its end. Empty lines may follow the last sample and stand nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike

import numpy as np

from .common.diagnosis import EMPTY, advice, not_xmc, unreadable
from .common.errors import DataError
from .common.sparse_rows import TOO_LARGE, Dataset, SparseRows, rows_from_lists

COUNT_LIMIT = 2**31  # ids are int32
WORD = re.compile(rb"[^ \t]+")
DECIMAL = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def read_xmc(path: str | PathLike[str]) -> Dataset:
    """Read a data set from XMC text. Implements S17.

    Returns
    -------
    Dataset
        Canonical: ids ascending and distinct; the values of a feature that a line names more than once summed in
        float64, in the order of the line; sums rounded to float32; zeros dropped.

    Raises
    ------
    DataError
        If the file cannot be read, or at the first malformed line; names the line and, where one word of it is to
        blame, the column (in bytes, from 1).
    """
    try:
        with open(path, "rb") as file:
            return _read_lines(path, (line.removesuffix(b"\n").removesuffix(b"\r") for line in file))
    except OSError as error:
        raise unreadable(path, error) from error


def _read_lines(path: str | PathLike[str], lines: Iterator[bytes]) -> Dataset:
    labels: list[list[int]] = []
    features: list[list[tuple[int, np.float32]]] = []
    number, line = 1, next(lines, None)
    try:
        if line is None:
            raise DataError(EMPTY)
        n_samples, n_features, n_labels = parse_header(line)
        for line in lines:
            number += 1
            if len(labels) < n_samples:
                sample_labels, sample_features = parse_sample(line, n_features, n_labels)
                labels.append(sample_labels)
                features.append(sample_features)
            elif line:
                raise DataError(f"the header says {n_samples} samples, but here is one more; correct the header")
        if len(labels) < n_samples:
            found = f"the file ends here with {len(labels)} samples, but the header says {n_samples}"
            raise DataError(f"{found}; correct the header or complete the file")
    except DataError as error:
        raise DataError(error.message + advice(line or b"", error.column), path, number, error.column) from None
    ids = rows_from_lists([[feature for feature, _ in row] for row in features], n_features)
    values = np.array([value for row in features for _, value in row], dtype=np.float32)
    return Dataset(SparseRows(ids.indptr, ids.indices, values, n_features), rows_from_lists(labels, n_labels))


def parse_header(line: bytes) -> tuple[int, ...]:
    """Read ``n_samples n_features n_labels``.

    Raises
    ------
    DataError
        Unless these are three whole numbers below 2**31.
    """
    counts = [_whole(word, COUNT_LIMIT) for word in WORD.findall(line)]
    if len(counts) != 3 or None in counts:
        wanted = "the header 'n_samples n_features n_labels', three whole numbers below 2147483648"
        raise DataError(not_xmc(line) or f"this line must be {wanted}; found {_show(line)}")
    return tuple(count for count in counts if count is not None)


def parse_sample(line: bytes, n_features: int, n_labels: int) -> tuple[list[int], list[tuple[int, np.float32]]]:
    """Read the line of one sample, without its end.

    Returns
    -------
    labels : list of int
        Ascending, distinct.
    features : list of (int, float32)
        Ids with their values, ids ascending and distinct, values not 0.

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
            wanted = f"a whole number below {n_labels}, the number of labels in the header"
            raise DataError(f"label id {_show(text)} is not {wanted}", column=column)
        labels.add(label)
        column += len(text) + 1
    return sorted(labels)


def _parse_feature(word: bytes, column: int, n_features: int) -> tuple[int, float]:
    name, colon, text = word.partition(b":")
    if not colon:
        raise DataError(f"{_show(word)} is not of the form feature:value", column=column)
    feature = _whole(name, n_features)
    if feature is None:
        wanted = f"a whole number below {n_features}, the number of features in the header"
        raise DataError(f"feature id {_show(name)} is not {wanted}", column=column)
    value = float(text) if DECIMAL.fullmatch(text) else TOO_LARGE
    if abs(value) >= TOO_LARGE:
        wanted = "a decimal number that is finite in float32"
        raise DataError(f"value {_show(text)} is not {wanted}", column=column + len(name) + 1)
    return feature, value


def _whole(text: bytes, limit: int) -> int | None:
    value = int(text) if text.isdigit() and len(text) <= 18 else limit
    return value if value < limit else None


def _show(text: bytes) -> str:
    """Quote the text in printable ASCII, cut after 40 bytes."""
    return repr(text if len(text) <= 40 else text[:40] + b"...")[1:]
