"""Data sets from files and to files: XMC text (S17), the mirror of `slide_ref.data`, ``.npz``, and svmlight text."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from slide_ref.common.diagnosis import EMPTY, LOOKED_AT, not_npz, unreadable
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.common.storage.complete_file import complete_file, reason

from .readers.formats import check_kind_of_scipy, open_text, rows_of_scipy, svmlight_blocks, with_columns_found
from .readers.xmc_blocks import COUNT_LIMIT, parse_block, parse_header

BLOCK_BYTES = 1 << 19
SVMLIGHT = (".svm", ".svmlight", ".libsvm")
SCIPY_NAMES = ("format", "shape", "data", "indices", "indptr", "row", "col")
NPZ_KEYS = ("X_indptr", "X_indices", "X_data", "X_shape", "Y_indptr", "Y_indices", "Y_shape")


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
        text; every other file is XMC text. Text may be packed by gzip. ``-`` is standard input.
    labels : path, optional
        SciPy's ``.npz`` of an indicator with a row a sample and a column a label, to go with one of features.
    share : callable, optional
        Which samples to keep, of so many; by default all. Of XMC text no others are ever held.

    Raises
    ------
    DataError
        If a file cannot be read or its content is malformed.
    """
    kind = _kind(path)
    if kind != ".npz" and labels is not None:
        raise DataError("labels of their own go with a .npz of features alone; here they are in the file itself", path)
    if kind == ".npz":
        data = read_npz(path, labels)
    else:
        with open_text(path) as file:
            if kind not in SVMLIGHT:
                return _read_blocks(path, file, BLOCK_BYTES, share)
            data = _read_svmlight(path, file)
    return data if share is None else data.take(np.array(share(data.n_samples), dtype=np.int64))


def _kind(path: str | os.PathLike[str]) -> str:
    """Return the last suffix but that of gzip."""
    suffixes = [suffix for suffix in map(str.lower, Path(path).suffixes) if suffix != ".gz"]
    return suffixes[-1] if suffixes else ""


def names_no_sizes(path: str | os.PathLike[str]) -> bool:
    """Tell whether the numbers of features and labels are only what the largest ids in the file say: svmlight text."""
    return _kind(path) in SVMLIGHT


def read_xmc(path: str | os.PathLike[str], block_bytes: int = BLOCK_BYTES) -> Dataset:
    """Read a data set from XMC text, as `slide_ref.data.read_xmc` does. Implements S17.

    At once `block_bytes` are read, on which the result does not depend; memory beyond the result is a small multiple.
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
        n_samples, n_features, n_labels = parse_header(header[:-1])
        features, labels = _GrowingRows(n_features, has_values=True), _GrowingRows(n_labels, has_values=False)
        lines_before, kept = 1, range(n_samples) if share is None else share(n_samples)
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
                    parsed = parsed.take(np.flatnonzero((rows >= kept.start) & (rows < kept.stop)))
                features.extend(parsed.features)
                labels.extend(parsed.labels)
            if extra.strip(b"\n"):
                line = n_lines - extra.lstrip(b"\n").count(b"\n") + 1
                message = f"the header says {n_samples} samples, but here is one more; correct the header"
                raise DataError(message, line=line)
            lines_before += n_lines
        if n_read < n_samples:
            found = f"the file ends here with {n_read} samples, but the header says {n_samples}"
            raise DataError(f"{found}; correct the header or complete the file", line=0)
    except DataError as error:
        raise DataError(error.message, path, lines_before + (error.line or 0), error.column) from None
    return Dataset(features.finish(), labels.finish())


def _read_svmlight(path: str | os.PathLike[str], file: BinaryIO) -> Dataset:
    features, labels = _GrowingRows(COUNT_LIMIT, has_values=True), _GrowingRows(COUNT_LIMIT, has_values=False)
    try:
        for parts in svmlight_blocks(file, BLOCK_BYTES):
            features.extend(parts[0])
            labels.extend(parts[1])
    except DataError as error:
        raise DataError(error.message, path, error.line, error.column) from None
    return Dataset(with_columns_found(features.finish()), with_columns_found(labels.finish()))


def _whole_lines(text: bytes) -> bytes:
    """Return the text with every line ended by LF alone."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text


class _GrowingArray:
    """An array that parts are added to. Growing moves pages rather than bytes where the system can (Linux)."""

    def __init__(self, dtype: type):
        self._array: np.ndarray = np.empty(0, dtype)
        self._size = 0

    def extend(self, part: np.ndarray) -> None:
        end = self._size + len(part)
        if end > len(self._array):
            self._array.resize(end + end // 8, refcheck=False)
        self._array[self._size : end] = part
        self._size = end

    def finish(self) -> np.ndarray:
        self._array.resize(self._size, refcheck=False)
        return self._array


class _GrowingRows:
    """Sparse rows that more rows are added to."""

    def __init__(self, n_columns: int, has_values: bool):
        self.n_rows, self._nnz, self._n_columns = 0, 0, n_columns
        self._indptr, self._indices = _GrowingArray(np.int64), _GrowingArray(np.int32)
        self._data = _GrowingArray(np.float32) if has_values else None
        self._indptr.extend(np.zeros(1, dtype=np.int64))

    def extend(self, rows: SparseRows) -> None:
        self._indptr.extend(rows.indptr[1:] + self._nnz)
        self._indices.extend(rows.indices)
        if self._data is not None and rows.data is not None:
            self._data.extend(rows.data)
        self.n_rows, self._nnz = self.n_rows + rows.n_rows, self._nnz + rows.nnz

    def finish(self) -> SparseRows:
        data = None if self._data is None else self._data.finish()
        return SparseRows(self._indptr.finish(), self._indices.finish(), data, self._n_columns)


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
    """Yield the lines of samples in XMC text, with their ends. Nine digits tell all values of float32 apart."""
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
    """Return values in float64, with at most six decimal places where float32 does not see the difference."""
    exact = values.astype(np.float64)
    short = np.round(exact, 6)
    return np.where((short.astype(np.float32) == values) & (np.abs(exact) < 1000), short, exact)


def write_npz(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write a data set as an uncompressed ``.npz`` of the arrays `NPZ_KEYS`: rows of features X and of labels Y.

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
        dataset.features.check("X")
        dataset.labels.check("Y")
    except DataError as error:
        raise DataError(error.message, path) from None


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file as `complete_file` does, with a DataError if it cannot be written."""
    try:
        with complete_file(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"the file cannot be written: {reason(error, path)}", path) from error


def read_npz(path: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a data set from ``.npz``: the arrays `NPZ_KEYS`, of any integer and floating types. Nothing is unpickled.

    SciPy's ``.npz`` of one sparse matrix holds the features; its labels are in another, `labels`, or are missing.

    Returns
    -------
    Dataset
        Canonical.

    Raises
    ------
    DataError
        If the file cannot be read, an array is missing, or the arrays do not describe samples and their labels.
    """
    try:
        with open(path, "rb") as file:
            arrays = _load_arrays(file)
        if "format" not in arrays:
            if labels is not None:
                raise DataError("holds labels already; give no others beside them")
            features, rows = (_rows_from_arrays(arrays, letter) for letter in "XY")
        else:
            features, rows = _rows_from_scipy(arrays, "X"), rows_from_lists([[]] * int(arrays["shape"][0]), 0)
            rows = rows if labels is None else _read_indicator(labels)
        if features.n_rows != rows.n_rows:
            raise DataError(f"X has {features.n_rows} rows, but Y has {rows.n_rows}; they must be as many")
        return Dataset(features, rows)
    except DataError as error:
        raise DataError(error.message, error.path or path) from None
    except OSError as error:
        raise unreadable(path, error) from error


def _read_indicator(path: str | os.PathLike[str]) -> SparseRows:
    """Read labels from SciPy's ``.npz`` of an indicator."""
    try:
        with open(path, "rb") as file:
            arrays = _load_arrays(file)
        if "format" not in arrays:
            raise DataError("holds a whole data set; labels must be one sparse matrix of SciPy")
        rows = _rows_from_scipy(arrays, "Y")
        return SparseRows(rows.indptr, rows.indices, None, rows.n_columns)
    except DataError as error:
        raise DataError(error.message, path) from None
    except OSError as error:
        raise unreadable(path, error) from error


def _rows_from_scipy(arrays: dict[str, np.ndarray], letter: str) -> SparseRows:
    check_kind_of_scipy(arrays)
    for key, array in arrays.items():
        fits = key == "format" or (np.can_cast(array.dtype, np.float64) if key == "data" else array.dtype.kind in "iu")
        if not fits or (key != "format" and array.ndim != 1):
            raise DataError(f"{key} must be one-dimensional and hold numbers; save the matrix again")
    if len(arrays.get("shape", ())) != 2 or not all(0 <= n < COUNT_LIMIT for n in arrays["shape"].tolist()):
        raise DataError(f"shape must be two numbers below {COUNT_LIMIT}; save the matrix again")
    rows = rows_of_scipy(arrays)
    if rows.n_rows != int(arrays["shape"][0]):
        raise DataError(f"there are {rows.n_rows} rows, but shape says {arrays['shape'][0]}; save the matrix again")
    rows.check(letter)
    return rows.canonical()


def _load_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            keys = NPZ_KEYS if "format.npy" not in names else [key for key in SCIPY_NAMES if f"{key}.npy" in names]
            missing = [key for key in keys if f"{key}.npy" not in names]
            for key in keys if not missing else ():
                arrays[key] = _load_array(archive, f"{key}.npy")
    except MemoryError:
        raise
    except Exception as error:  # zipfile, the codecs and NumPy raise a dozen kinds for damaged files
        file.seek(0)
        found = not_npz(file.read(LOOKED_AT)) or "the file is not an intact .npz file of plain arrays; write it again"
        raise DataError(found) from error
    if missing:
        raise DataError(f"the file lacks the arrays {', '.join(missing)}; it must hold {', '.join(NPZ_KEYS)}")
    return arrays


def _load_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read one array; its header is not believed before the archive says that there are so many bytes."""
    with archive.open(name) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError("unknown version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != archive.getinfo(name).file_size - member.tell():
            raise ValueError("the header does not fit the size")
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _rows_from_arrays(arrays: dict[str, np.ndarray], letter: str) -> SparseRows:
    own = {key.removeprefix(f"{letter}_"): array for key, array in arrays.items() if key.startswith(letter)}
    for key, array in own.items():
        fits = np.can_cast(array.dtype, np.float64) if key == "data" else array.dtype.kind in "iu"
        if array.ndim != 1 or not fits:
            wanted = "numbers" if key == "data" else "whole numbers"
            raise DataError(f"{letter}_{key} must be one-dimensional and hold {wanted}; write the file again")
    shape, indptr = own["shape"].tolist(), own["indptr"].astype(np.int64, copy=False)
    if len(shape) != 2 or shape[0] != len(indptr) - 1 or not 0 <= shape[1] < COUNT_LIMIT:
        wanted = f"[{len(indptr) - 1}, columns], columns below {COUNT_LIMIT}"
        raise DataError(f"{letter}_shape is {shape[:2]}; to go with {letter}_indptr it must be {wanted}")
    rows = SparseRows(indptr, own["indices"], own.get("data"), shape[1])
    rows.check(letter)
    return rows.canonical()
