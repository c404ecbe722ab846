"""Data sets in ``.npz``: our own arrays, or SciPy's sparse matrices. Nothing is ever unpickled."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from slide_ref.common.diagnosis import LOOKED_AT, not_npz, unreadable
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.xmc_lines import COUNT_LIMIT

from ..parallel.machine import require_memory

SCIPY_NAMES = ("format", "shape", "data", "indices", "indptr", "row", "col")
SCIPY_KEYS = {
    b"csr": ("shape", "data", "indices", "indptr"),
    b"csc": ("shape", "data", "indices", "indptr"),
    b"coo": ("shape", "data", "row", "col"),
}
LABELS = "labels must be one SciPy sparse matrix in .npz, which scipy.sparse.save_npz writes"
NPZ_KEYS = ("X_indptr", "X_indices", "X_data", "X_shape", "Y_indptr", "Y_indices", "Y_shape")


def read_npz(path: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a data set from ``.npz``: the arrays `NPZ_KEYS`, of any integer and float types. Nothing is unpickled.

    A SciPy ``.npz`` of one sparse matrix holds the features. Where there are no labels, they may be in another file,
    `labels`.

    Returns
    -------
    Dataset
        Canonical.

    Raises
    ------
    DataError
        If the file cannot be read, an array is missing, or the arrays do not describe samples and their labels.
    """
    with _about(path):
        with open(path, "rb") as file:
            arrays = _load_arrays(file)
        if "format" not in arrays:
            features, rows = _rows_from_arrays(arrays, "X").canonical(), _rows_from_arrays(arrays, "Y").indicator("Y")
        else:
            features = _rows_of_matrix(arrays, "X").canonical()
            rows = SparseRows(np.zeros(features.n_rows + 1, dtype=np.int64), np.empty(0, dtype=np.int32), None, 0)
        if labels is not None:
            if rows.nnz:
                raise DataError("already contains labels; give no separate ones")
            rows = _read_indicator(labels)
        if features.n_rows != rows.n_rows:
            raise DataError(f"X has {features.n_rows} rows, but Y has {rows.n_rows}; the numbers must be equal")
        return Dataset(features, rows)


@contextmanager
def _about(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in errors, unless they name another."""
    try:
        yield
    except DataError as error:
        raise DataError(error.message, error.path or path) from None
    except OSError as error:
        raise unreadable(path, error) from error


def _read_indicator(path: str | os.PathLike[str]) -> SparseRows:
    """Read labels from a SciPy ``.npz`` of an indicator matrix."""
    with _about(path), open(path, "rb") as file:
        try:
            arrays = _load_arrays(file)
        except DataError as error:
            raise DataError(f"{error.message.partition(';')[0]}; {LABELS}") from None
        if "format" not in arrays:
            raise DataError(f"contains a whole data set; {LABELS}")
        return _rows_of_matrix(arrays, "Y").indicator("Y")


def _rows_of_matrix(arrays: dict[str, np.ndarray], letter: str) -> SparseRows:
    """Return the checked rows of one of SciPy's matrices; ids in a row may be unordered and repeated."""
    kind = _kind_of_scipy(arrays)
    for key, array in arrays.items():
        fits = key == "format" or (np.can_cast(array.dtype, np.float64) if key == "data" else array.dtype.kind in "iu")
        if key == "data" and array.ndim == 1 and array.dtype.kind in "cf" and not fits:
            raise DataError(f"data holds {array.dtype}, which does not fit float64; save X.astype('float64')")
        if not fits or (key != "format" and array.ndim != 1):
            raise DataError(f"{key} must be one-dimensional and hold numbers; save the matrix again")
    if len(arrays["shape"]) != 2 or not all(0 <= n < COUNT_LIMIT for n in arrays["shape"].tolist()):
        raise DataError(f"shape must be two numbers below {COUNT_LIMIT}; save the matrix again")
    rows = _rows_of_scipy(kind, arrays)
    if rows.n_rows != int(arrays["shape"][0]):
        raise DataError(f"there are {rows.n_rows} rows, but shape says {arrays['shape'][0]}; save the matrix again")
    rows.check(letter)
    return rows


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
    """Read one array, after checking its header against the number of bytes in the archive."""
    with archive.open(name) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError("unknown version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != archive.getinfo(name).file_size - member.tell():
            raise ValueError("the header does not match the size")
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
    if not len(indptr):
        raise DataError(f"{letter}_indptr is empty; write the file again")
    if len(shape) != 2 or shape[0] != len(indptr) - 1 or not 0 <= shape[1] < COUNT_LIMIT:
        wanted = f"[{len(indptr) - 1}, columns], columns below {COUNT_LIMIT}"
        raise DataError(f"{letter}_shape is {shape[:2]}; to match {letter}_indptr it must be {wanted}")
    rows = SparseRows(indptr, own["indices"], own.get("data"), shape[1])
    rows.check(letter)
    return rows


def _kind_of_scipy(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the format that ``scipy.sparse.save_npz`` wrote. Raises DataError if it is not CSR, CSC or COO."""
    kind = np.asarray(arrays["format"]).astype("S").tobytes().rstrip(b"\0")
    if kind not in SCIPY_KEYS:
        raise DataError(f"format {kind.decode('ascii', 'replace')!r} is not one of csr, csc, coo; save X.tocsr()")
    if "shape" in arrays and arrays["shape"].size == 1:
        raise DataError("the array has one dimension; save a matrix, with a row for each sample")
    missing = [key for key in SCIPY_KEYS[kind] if key not in arrays]
    if missing:
        raise DataError(f"the file lacks the arrays {', '.join(missing)}; save the matrix again")
    return kind


def _rows_of_scipy(kind: bytes, arrays: dict[str, np.ndarray]) -> SparseRows:
    """Convert a matrix that ``scipy.sparse.save_npz`` wrote to rows. Raises DataError if they are inconsistent."""
    n_rows, n_columns = (int(n) for n in arrays["shape"])
    data = arrays["data"]
    if kind == b"csr":
        return SparseRows(arrays["indptr"].astype(np.int64), arrays["indices"], data, n_columns)
    if kind == b"coo":
        row, column = arrays["row"].astype(np.int64), arrays["col"]
    else:
        starts = arrays["indptr"].astype(np.int64)
        counts: np.ndarray = np.diff(starts)
        is_whole = len(starts) == n_columns + 1 and starts[0] == 0 and starts[-1] == len(data)
        if not is_whole or counts.min(initial=0) < 0:
            raise DataError("indptr does not describe the columns; save the matrix again")
        row, column = arrays["indices"].astype(np.int64), np.repeat(np.arange(n_columns), counts)
    if not len(row) == len(column) == len(data):
        raise DataError("rows, columns and data differ in number; save the matrix again")
    if len(row) and not 0 <= row.min() <= row.max() < n_rows:
        raise DataError(f"a row lies outside 0..{n_rows - 1}; save the matrix again")
    require_memory(3 * 8 * n_rows, f"{n_rows} rows need", "save the matrix with fewer rows")
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))]).astype(np.int64)
    return SparseRows(indptr, column[order], data[order], n_columns)
