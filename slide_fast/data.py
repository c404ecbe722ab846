"""Reading and writing of data sets: XMC text (S17), as in `slide_ref.data`, ``.npz``, and svmlight text."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from slide_ref.common.checks import require
from slide_ref.common.diagnosis import EMPTY, unreadable
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import TOO_LARGE, Dataset, SparseRows, check_is_dataset
from slide_ref.common.storage.complete_file import complete_file, reason
from slide_ref.common.xmc_lines import COUNT_LIMIT, parse_header

from .readers.growing_rows import GrowingRows
from .readers.npz import NPZ_KEYS, read_npz
from .readers.open_text import open_text
from .readers.svmlight import svmlight_blocks
from .readers.xmc_blocks import parse_block

BLOCK_BYTES = 1 << 19
SVMLIGHT = (".svm", ".svmlight", ".libsvm")


def read_dataset(
    path: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    share: Callable[[int], range] | None = None,
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    path : path
        ``.npz`` as `write_npz` or SciPy's ``save_npz`` writes it; ``.svm``, ``.svmlight`` or ``.libsvm`` for svmlight
        text; every other file is XMC text. Text may be gzipped. ``-`` is standard input.
    labels : path, optional
        SciPy's ``.npz`` of an indicator matrix, with one row per sample and one column per label, that belongs to a
        ``.npz`` of features.
    share : callable, optional
        Given the number of samples, returns an ascending range of those to keep; default: all. For XMC text no others
        are held in memory.

    Returns
    -------
    Dataset
        Canonical rows; labels have no values. In svmlight text the largest ids decide the numbers of features and
        labels.

    Raises
    ------
    DataError
        If a file cannot be read or its content is malformed.
    ConfigError
        If `share` returns anything else.

    Examples
    --------
    Two samples, three features, two labels:

    >>> from pathlib import Path
    >>> from slide_fast.data import read_dataset
    >>> _ = Path("train.txt").write_text("2 3 2\\n0 0:1 2:0.5\\n0,1 1:2\\n")
    >>> data = read_dataset("train.txt")
    >>> data.n_samples, data.features.shape, data.labels.row(1)[0].tolist()
    (2, (2, 3), [0, 1])
    """
    kind = _kind(path)
    if kind != ".npz" and labels is not None:
        raise DataError("separate labels go only with a .npz of features; this file has its own", path)
    if kind == ".npz":
        data = read_npz(path, labels)
    else:
        with open_text(path) as file:
            if kind not in SVMLIGHT:
                return _read_blocks(path, file, BLOCK_BYTES, share)
            data = _read_svmlight(path, file)
    return data if share is None else data.take(np.array(_share_of(share, data.n_samples), dtype=np.int64))


def _share_of(share: Callable[[int], range], n_samples: int) -> range:
    kept = share(n_samples)
    fits = isinstance(kept, range) and kept.step > 0 and (not kept or (kept[0] >= 0 and kept[-1] < n_samples))
    require(fits, f"share({n_samples})", kept, f"an ascending range within range({n_samples})")
    return kept


def _kind(path: str | os.PathLike[str]) -> str:
    """Return the last suffix, ignoring that of gzip."""
    suffixes = [suffix for suffix in map(str.lower, Path(path).suffixes) if suffix != ".gz"]
    return suffixes[-1] if suffixes else ""


def without_unknown_features(data: Dataset, n_features: int, path: str | os.PathLike[str]) -> tuple[Dataset, int]:
    """Drop features that a model of `n_features` does not know, if the file names no sizes.

    Returns the data set, unchanged if nothing is dropped, and the number of values dropped.
    """
    if data.features.n_columns <= n_features or not names_no_sizes(path):
        return data, 0
    known = with_columns(data.features, n_features)
    return Dataset(known, data.labels), data.features.nnz - known.nnz


def with_columns(rows: SparseRows, n_columns: int) -> SparseRows:
    """Return rows with `n_columns` columns; entries beyond them are left out."""
    return dataclasses.replace(rows.where(rows.indices < n_columns), n_columns=n_columns)


def names_no_sizes(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file gives no numbers of features and labels, only ids: svmlight text."""
    return _kind(path) in SVMLIGHT


def read_xmc(path: str | os.PathLike[str], block_bytes: int = BLOCK_BYTES) -> Dataset:
    """Read a data set from XMC text, as `slide_ref.data.read_xmc` does. Implements S17.

    Reads `block_bytes` at once, which does not affect the result; memory beyond the result is a small multiple of it.
    """
    try:
        with open(path, "rb") as file:
            return _read_blocks(path, file, block_bytes)
    except OSError as error:
        raise unreadable(path, error) from error


def _read_blocks(
    path: str | os.PathLike[str], file: BinaryIO, block_bytes: int, share: Callable[[int], range] | None = None
) -> Dataset:
    lines_before = n_read = 0
    try:
        header = _whole_lines(file.readline())
        if not header:
            raise DataError(EMPTY, line=1)
        lines_before = 1
        n_samples, n_features, n_labels = parse_header(header[:-1])
        features, labels = GrowingRows(n_features, has_values=True), GrowingRows(n_labels, has_values=False)
        kept = range(n_samples) if share is None else _share_of(share, n_samples)
        while block := _whole_lines(file.read(block_bytes) + file.readline()):
            n_lines = block.count(b"\n")
            missing = n_samples - n_read
            extra = block.split(b"\n", missing)[-1] if n_lines > missing else b""
            samples = block[: len(block) - len(extra)]
            if samples:
                parsed = parse_block(samples, n_features, n_labels)
                rows = np.arange(n_read, n_read + parsed.n_samples)
                n_read += parsed.n_samples
                if share is not None:
                    is_kept = (rows >= kept.start) & (rows < kept.stop) & ((rows - kept.start) % kept.step == 0)
                    parsed = parsed.take(np.flatnonzero(is_kept))
                features.extend(parsed.features)
                labels.extend(parsed.labels)
            if extra.strip(b"\n"):
                line = n_lines - extra.lstrip(b"\n").count(b"\n") + 1
                message = f"the header says {n_samples} samples, but there are more; correct the header"
                raise DataError(message, line=line)
            lines_before += n_lines
        if n_read < n_samples:
            found = f"the file ends here with {n_read} samples, but the header says {n_samples}"
            raise DataError(f"{found}; correct the header or complete the file", line=0)
    except DataError as error:
        raise DataError(error.message, path, lines_before + (error.line or 0), error.column) from None
    return Dataset(features.finish(), labels.finish())


def _read_svmlight(path: str | os.PathLike[str], file: BinaryIO) -> Dataset:
    features, labels = GrowingRows(COUNT_LIMIT, has_values=True), GrowingRows(COUNT_LIMIT, has_values=False)
    try:
        for parts in svmlight_blocks(file, BLOCK_BYTES):
            features.extend(parts[0])
            labels.extend(parts[1])
    except DataError as error:
        raise DataError(error.message, path, error.line, error.column) from None
    parts = features.finish(), labels.finish()
    return Dataset(*(dataclasses.replace(rows, n_columns=int(rows.indices.max(initial=-1)) + 1) for rows in parts))


def _whole_lines(text: bytes) -> bytes:
    """Return the text with LF as the only line end."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text


def write_xmc(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write a data set as XMC text that reads back as the same numbers. Implements S17.

    The file appears under its name when it is complete; what was there before is replaced.

    Raises
    ------
    DataError
        If an array is inconsistent, or the file cannot be written.
    """
    _check(dataset, path)
    with _replacing(path) as file:
        file.write(b"%d %d %d\n" % (dataset.n_samples, dataset.features.n_columns, dataset.labels.n_columns))
        for start in range(0, dataset.n_samples, 1000):
            rows = np.arange(start, min(start + 1000, dataset.n_samples))
            file.writelines(xmc_lines(dataset.take(rows)))


def xmc_lines(dataset: Dataset) -> Iterator[bytes]:
    """Yield the lines of samples in XMC text, with line ends. Nine digits distinguish all float32 values."""
    features, labels = dataset
    values = _shortened(features.data) if features.data is not None else np.ones(features.nnz)
    pairs: list[float] = [0] * (2 * features.nnz)
    pairs[::2], pairs[1::2] = features.indices.tolist(), values.tolist()
    ids, feature_ends, label_ends = labels.indices.tolist(), features.indptr.tolist(), labels.indptr.tolist()
    for i in range(dataset.n_samples):
        sample_labels = ids[label_ends[i] : label_ends[i + 1]]
        sample_pairs = pairs[2 * feature_ends[i] : 2 * feature_ends[i + 1]]
        text = ",".join(map(str, sample_labels)) + " %d:%.9g" * (len(sample_pairs) // 2) % tuple(sample_pairs)
        yield (text or " ").encode("ascii") + b"\n"


def _shortened(values: np.ndarray) -> np.ndarray:
    """Return values in float64, rounded to six decimal places where that gives the same float32."""
    exact = values.astype(np.float64)
    short = np.round(exact, 6)
    return np.where((short.astype(np.float32) == values) & (np.abs(exact) < 1000), short, exact)


def write_npz(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write a data set as an uncompressed ``.npz``: rows of features X and labels Y.

    Its arrays are ``X_indptr``, ``X_indices``, ``X_data``, ``X_shape``, ``Y_indptr``, ``Y_indices`` and ``Y_shape``.

    The file appears under its name when it is complete; what was there before is replaced.

    Raises
    ------
    DataError
        If an array is inconsistent, or the file cannot be written.
    """
    _check(dataset, path)
    features, labels = dataset
    values = features.data if features.data is not None else np.ones(features.nnz, dtype=np.float32)
    shapes = [np.array(rows.shape, dtype=np.int64) for rows in dataset]
    arrays = (features.indptr, features.indices, values, shapes[0], labels.indptr, labels.indices, shapes[1])
    named: dict[str, Any] = dict(zip(NPZ_KEYS, arrays, strict=True))
    with _replacing(path) as file:
        np.savez(file, **named)  # NumPy 2.0 takes allow_pickle for an array's name


def _check(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    try:
        check_is_dataset("samples", dataset)
        dataset.features.check("X")
        dataset.labels.check("Y")
        if dataset.features.n_rows != dataset.labels.n_rows:
            raise DataError(f"{dataset.features.n_rows} samples, but labels for {dataset.labels.n_rows}")
        values = dataset.features.data
        if values is not None and values.dtype != np.float32 and (np.abs(values) >= TOO_LARGE).any():
            raise DataError("X: a value is too large for float32; rescale the data")
    except DataError as error:
        raise DataError(error.message, path) from None


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file as `complete_file` does, but raise DataError if it cannot be written."""
    try:
        with complete_file(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"the file cannot be written: {reason(error, path)}", path) from error
