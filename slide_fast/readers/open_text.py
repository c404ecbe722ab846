"""Opening of text input: a file or standard input, gzipped or not."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from slide_ref.common.diagnosis import unreadable
from slide_ref.common.errors import DataError

STANDARD_INPUT = "-"
BYTES_AT_ONCE = 1 << 20
GZIP = b"\x1f\x8b"


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to read, or standard input for ``-``. Gzip content is unpacked, whatever the file's name.

    Raises
    ------
    DataError
        If it cannot be read, on opening or within the block.
    """
    try:
        with _standard_input() if os.fspath(path) == STANDARD_INPUT else open(path, "rb") as file:
            head = cast(BufferedReader, file).peek(2)[:2]  # a slow pipe may have sent one byte
            if not head or not GZIP.startswith(head):
                yield file
                return
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError("the file is not intact gzip; compress or copy it again", path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def first_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the beginning of a file, unpacked, without consuming it. Raises DataError.

    Of standard input it is what has arrived, at most what its buffer holds: 8 kB.
    """
    is_standard = os.fspath(path) == STANDARD_INPUT
    try:
        if not is_standard and Path(path).is_fifo():
            raise DataError("a pipe, whose beginning cannot be read twice; give a file, or - for standard input", path)
        with _standard_input() if is_standard else open(path, "rb", BYTES_AT_ONCE) as file:
            head = cast(BufferedReader, file).peek(BYTES_AT_ONCE)
    except OSError as error:
        raise unreadable(path, error) from error
    return _unpacked(head) if head.startswith(GZIP) else head


def _unpacked(head: bytes) -> bytes:
    """Return what the beginning of a gzip file, which may have several members, unpacks to, up to `BYTES_AT_ONCE`."""
    found = bytearray()
    with suppress(EOFError, zlib.error, gzip.BadGzipFile), gzip.GzipFile(fileobj=BytesIO(head)) as file:
        while len(found) < BYTES_AT_ONCE and (part := file.read1(BYTES_AT_ONCE)):
            found += part
    return bytes(found)  # of a damaged file `open_text` will say what is wrong


@contextmanager
def _standard_input() -> Iterator[BinaryIO]:
    if not hasattr(sys.stdin, "buffer"):
        raise DataError("standard input is closed, or is not a stream of bytes; give a file", STANDARD_INPUT)
    yield sys.stdin.buffer
