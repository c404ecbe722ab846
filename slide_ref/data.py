"""XMC text, read line by line (S17)."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike

import numpy as np

from .common.diagnosis import EMPTY, advice, unreadable
from .common.errors import DataError
from .common.sparse_rows import Dataset, SparseRows, rows_from_lists
from .common.xmc_lines import parse_header, parse_sample


def read_xmc(path: str | PathLike[str]) -> Dataset:
    """Read a data set from XMC text. Implements S17.

    Returns
    -------
    Dataset
        Canonical: ids ascending and distinct; values of a feature that occurs more than once in a line summed in
        float64, in line order; sums rounded to float32; zeros dropped.

    Raises
    ------
    DataError
        If the file cannot be read, or at the first malformed line; names the line and, if a single word is wrong, the
        column (in bytes, from 1).
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
                raise DataError(f"the header says {n_samples} samples, but there are more; correct the header")
        if len(labels) < n_samples:
            found = f"the file ends here with {len(labels)} samples, but the header says {n_samples}"
            raise DataError(f"{found}; correct the header or complete the file")
    except DataError as error:
        raise DataError(error.message + advice(line or b"", error.column), path, number, error.column) from None
    ids = rows_from_lists([[feature for feature, _ in row] for row in features], n_features)
    values = np.array([value for row in features for _, value in row], dtype=np.float32)
    return Dataset(SparseRows(ids.indptr, ids.indices, values, n_features), rows_from_lists(labels, n_labels))
