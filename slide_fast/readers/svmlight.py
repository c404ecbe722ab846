"""svmlight text, block by block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from slide_ref.common.diagnosis import EMPTY, advice, not_svmlight
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.xmc_lines import COUNT_LIMIT, WORD

from .xmc_blocks import parse_block

_UNUSUAL = re.compile(rb"^(?!\d+(,\d+)*( [^#\n]*)?$)|qid:", re.MULTILINE)
_LABEL = re.compile(rb"\+?(\d+)(\.0*)?")


def svmlight_blocks(file: BinaryIO, block_bytes: int) -> Iterator[tuple[SparseRows, SparseRows]]:
    """Yield features and labels of svmlight text in blocks of lines.

    A line is ``label,label feature:value feature:value … # comment``; ids are used unchanged. A line may have no
    labels; ``qid:`` and empty lines are ignored.

    Raises
    ------
    DataError
        At the first malformed line, with its number and, where one word is to blame, the column.
    """
    before = 0
    while block := file.read(block_bytes) + file.readline():
        block = (block if block.endswith(b"\n") else block + b"\n").replace(b"\r\n", b"\n")
        try:
            parsed = _parse_svmlight(block)
        except DataError as error:
            line = before + (error.line or 1)
            other = not_svmlight(block.partition(b"\n")[0]) if line == 1 else None
            column = None if other else error.column
            raise DataError(other or error.message, line=line, column=column) from None
        yield parsed
        before += block.count(b"\n")
    if not before:
        raise DataError(EMPTY, line=1)


def _parse_svmlight(block: bytes) -> Dataset:
    """Read lines of svmlight text that all end in LF. Raises DataError with a line counted from 1 in the block."""
    if not _UNUSUAL.search(block[:-1]):
        return parse_block(block, COUNT_LIMIT, COUNT_LIMIT)
    numbers, cleaned, bad_labels = [], [], None
    lines = block.split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
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
        at = (error.line or 1) - 1
        line, column = lines[numbers[at] - 1], error.column
        column = None if column is None else _column_in(line, cleaned[at][: column - 1])
        raise DataError(error.message, line=numbers[at], column=column) from None
    if bad_labels is not None:
        raise bad_labels
    return parsed


def _plain(line: bytes, number: int) -> bytes:
    """Convert a line of svmlight text to XMC text; empty if the line holds nothing."""
    words = [word[0] for word in _words(line)]
    if not words or b":" in words[0]:
        return b" " + b" ".join(words) if words else b""
    labels, column = [], 1
    for word in words[0].split(b","):
        found = _LABEL.fullmatch(word)
        if not found:
            start = _words(line)[0].start()
            remedy = advice(line[start:], column) or "; number the classes from 0"
            text = word.decode("utf-8", "backslashreplace")
            raise DataError(
                f"label {text!r} is not a whole number of 0 or more{remedy}", line=number, column=start + column
            )
        labels.append(found[1])
        column += len(word) + 1
    return b" ".join([b",".join(labels), *words[1:]])


def _words(line: bytes) -> list[re.Match[bytes]]:
    """Find the words of a line with labels and features."""
    return [word for word in WORD.finditer(line.partition(b"#")[0]) if not word[0].startswith(b"qid:")]


def _column_in(line: bytes, before: bytes) -> int:
    """Return the column in a line of what follows `before` in its XMC text, whose labels may be shorter."""
    n_spaces, has_labels = before.count(b" "), not before.startswith(b" ")
    word = _words(line)[n_spaces if has_labels else n_spaces - 1]
    if has_labels and not n_spaces:
        passed = word[0].split(b",")[: before.count(b",")]
        return word.start() + sum(len(label) + 1 for label in passed) + 1
    return word.start() + len(before) - before.rfind(b" ")
