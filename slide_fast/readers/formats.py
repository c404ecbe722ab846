"""Data that others write: gzip of any text, svmlight text, and SciPy's ``.npz`` of one sparse matrix."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from typing import BinaryIO, cast

import numpy as np

from slide_ref.common.diagnosis import EMPTY, advice, not_svmlight, unreadable
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows

from .xmc_blocks import COUNT_LIMIT, WORD, parse_block

STANDARD_INPUT = "-"
GZIP = b"\x1f\x8b"
SCIPY_KEYS = {
    b"csr": ("shape", "data", "indices", "indptr"),
    b"csc": ("shape", "data", "indices", "indptr"),
    b"coo": ("shape", "data", "row", "col"),
}
_UNUSUAL = re.compile(rb"^(?!\d+(,\d+)*( [^#\n]*)?$)|qid:", re.MULTILINE)
_LABEL = re.compile(rb"\+?(\d+)(\.0*)?")


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to read, or standard input for ``-``. What is gzip inside is unpacked, whatever its name.

    Raises
    ------
    DataError
        If it cannot be read, also in the course of the block.
    """
    try:
        with _standard_input() if os.fspath(path) == STANDARD_INPUT else open(path, "rb") as file:
            if cast(BufferedReader, file).peek(2)[:2] != GZIP:
                yield file
                return
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError("the file is not intact gzip; pack or copy it again", path) from error
    except OSError as error:
        raise unreadable(path, error) from error


@contextmanager
def _standard_input() -> Iterator[BinaryIO]:
    if not hasattr(sys.stdin, "buffer"):
        raise DataError("standard input is closed, or is not a stream of bytes; give a file", STANDARD_INPUT)
    yield sys.stdin.buffer


def svmlight_blocks(file: BinaryIO, block_bytes: int) -> Iterator[tuple[SparseRows, SparseRows]]:
    """Yield features and labels of svmlight text, some lines at a time.

    A line is ``label,label feature:value feature:value … # comment``; ids are taken as they are. A line may have no
    labels; ``qid:`` is passed over, and so are empty lines.

    Raises
    ------
    DataError
        At the first malformed line; with its number.
    """
    before = 0
    while block := file.read(block_bytes) + file.readline():
        block = (block if block.endswith(b"\n") else block + b"\n").replace(b"\r\n", b"\n")
        try:
            parsed = _parse_svmlight(block)
        except DataError as error:
            line = before + (error.line or 1)
            other = not_svmlight(block.partition(b"\n")[0]) if line == 1 else None
            raise DataError(other or error.message, line=line) from None
        yield parsed
        before += block.count(b"\n")
    if not before:
        raise DataError(EMPTY, line=1)


def _parse_svmlight(block: bytes) -> Dataset:
    """Read lines of svmlight text that all end in LF. Raises DataError with a line counted from 1 in the block."""
    if not _UNUSUAL.search(block[:-1]):
        return parse_block(block, COUNT_LIMIT, COUNT_LIMIT)
    numbers, cleaned, bad_labels = [], [], None
    for number, line in enumerate(block.split(b"\n")[:-1], start=1):
        try:
            text = _plain(line, number)
        except DataError as error:  # told unless an earlier line has bad features
            bad_labels = error
            break
        if text:
            numbers.append(number)
            cleaned.append(text + b"\n")
    try:
        parsed = parse_block(b"".join(cleaned), COUNT_LIMIT, COUNT_LIMIT)
    except DataError as error:
        raise DataError(error.message, line=numbers[(error.line or 1) - 1]) from None
    if bad_labels is not None:
        raise bad_labels
    return parsed


def _plain(line: bytes, number: int) -> bytes:
    """Spell a line of svmlight text as XMC text; empty if there is nothing in it."""
    words = [word for word in WORD.findall(line.partition(b"#")[0]) if not word.startswith(b"qid:")]
    if not words or b":" in words[0]:
        return b" " + b" ".join(words) if words else b""
    labels, column = [], 1
    for word in words[0].split(b","):
        found = _LABEL.fullmatch(word)
        if not found:
            remedy = advice(line.lstrip(), column) or "; number the classes from 0"
            text = word.decode("utf-8", "backslashreplace")
            raise DataError(f"label {text!r} is no whole number of 0 or more{remedy}", line=number)
        labels.append(found[1])
        column += len(word) + 1
    return b" ".join([b",".join(labels), *words[1:]])


def with_columns_found(rows: SparseRows) -> SparseRows:
    """Count one column more than the largest id of the rows."""
    return dataclasses.replace(rows, n_columns=int(rows.indices.max()) + 1 if rows.nnz else 0)


def with_columns(rows: SparseRows, n_columns: int) -> SparseRows:
    """Return rows of so many columns; what lies beyond them is left out."""
    kept = rows.indices < n_columns
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return SparseRows(indptr, rows.indices[kept], None if rows.data is None else rows.data[kept], n_columns)


def check_kind_of_scipy(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Check what ``scipy.sparse.save_npz`` wrote. Raises DataError if it is not CSR, CSC or COO."""
    kind = np.asarray(arrays["format"]).astype("S").tobytes().rstrip(b"\0")
    missing = [key for key in SCIPY_KEYS.get(kind, ("format",)) if key not in arrays]
    if kind not in SCIPY_KEYS or missing:
        raise DataError(f"format {kind.decode('ascii', 'replace')!r} is not one of csr, csc, coo; save X.tocsr()")
    return kind


def rows_of_scipy(arrays: Mapping[str, np.ndarray]) -> SparseRows:
    """Convert a matrix that ``scipy.sparse.save_npz`` wrote as CSR, CSC or COO to rows."""
    kind = check_kind_of_scipy(arrays)
    n_rows, n_columns = (int(n) for n in arrays["shape"])
    data = arrays["data"]
    if kind == b"csr":
        return SparseRows(arrays["indptr"].astype(np.int64), arrays["indices"], data, n_columns)
    if kind == b"coo":
        row, column = arrays["row"], arrays["col"]
    else:
        row, column = arrays["indices"], np.repeat(np.arange(n_columns), np.diff(arrays["indptr"]))
    if len(row) and not 0 <= row.min() <= row.max() < n_rows:
        raise DataError(f"a row lies outside 0..{n_rows - 1}; save the matrix again")
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))]).astype(np.int64)
    return SparseRows(indptr, column[order], data[order], n_columns)
