"""Lines of a file as they arrive, and lines for a CSV reader."""

from __future__ import annotations

import select
from collections.abc import Iterator
from io import BufferedReader
from typing import BinaryIO

READ_AT_ONCE = 1 << 20
PAUSE = 0.005  # seconds: a pipe that is full holds 64 kB, and whoever fills it again takes a moment
READ_AGAIN, MOST_TIMES = 100_000, 4  # lines of CSV, at most, and times the lines read so far


class RecordLines:
    """Lines of text for a CSV reader; keeps track of ends of blocks and of lines that are not UTF-8."""

    def __init__(self, first: list[bytes], blocks: Iterator[list[bytes]], number: int = 1):
        self.number, self.damaged, self._blocks = number, False, blocks  # that of the header
        self._block, self._at = first, 0
        self._of_record: list[bytes] = []
        self._n_returned = 0

    @property
    def at_end_of_block(self) -> bool:
        return self._at == len(self._block)

    def begin_record(self) -> int:
        """Begin a record; return the number of its first line."""
        self._of_record = []
        return self.number + 1

    def return_all_but_one(self) -> int:
        """Return the lines of this record, but for the first, to be read again; else say how many they are."""
        again = self._of_record[1:]
        self._n_returned += len(again)
        if self._n_returned > READ_AGAIN + MOST_TIMES * self.number:  # else the time would grow with the square
            return len(again)
        self.number -= len(again)
        self._block, self._at = [*again, *self._block[self._at :]], 0
        return 0

    def __iter__(self) -> RecordLines:
        return self

    def __next__(self) -> str:
        while self._at == len(self._block):
            self._block, self._at = next(self._blocks), 0
        line = self._block[self._at]
        self._at += 1
        self.number += 1
        self._of_record.append(line)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.damaged = True
            return line.decode("utf-8", "replace")


def line_blocks(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield lists of whole lines, with line ends: what can be read without waiting, so that pipes do not stall."""
    rest: list[bytes] = []
    while block := _what_is_there(file):
        lines = block.split(b"\n")
        if len(lines) > 1:
            lines[0] = b"".join([*rest, lines[0]])
            yield [line + b"\n" for line in lines[:-1]]
            rest = []
        rest.append(lines[-1])
    if last := b"".join(rest):
        yield [last]


def with_lines(first: list[bytes], blocks: Iterator[list[bytes]], n_wanted: int) -> list[bytes]:
    """Return first lines with those of further blocks, until so many of them are not blank or the file ends."""
    lines, n_found = list(first), sum(1 for line in first if line.strip())
    while n_found < n_wanted and (block := next(blocks, None)) is not None:
        lines += block
        n_found += sum(1 for line in block if line.strip())
    return lines


def _what_is_there(file: BinaryIO) -> bytes:
    """Read what arrives without a pause, up to slightly more than `READ_AT_ONCE`; empty only at the end of the file."""
    parts, n_bytes = [], 0
    while part := file.read1(READ_AT_ONCE):  # type: ignore[attr-defined]  # files that `open_text` opens have it
        parts.append(part)
        n_bytes += len(part)
        if n_bytes >= READ_AT_ONCE or not _goes_on(file):
            break
    return b"".join(parts)


def _goes_on(file: BinaryIO) -> bool:
    """Tell whether a pipe has more to read within `PAUSE`; false if unknown."""
    try:
        return isinstance(file, BufferedReader) and bool(select.select([file], [], [], PAUSE)[0])
    except (OSError, ValueError):  # no descriptor, or Windows, which can only ask about sockets
        return False
