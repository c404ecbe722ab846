"""Reading of texts and labels: tables with named columns, JSON lines, fastText format, plain lines."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from slide_ref.common.diagnosis import EMPTY, not_text, not_texts
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.storage.label_names import NO_NAME
from slide_ref.common.suggestions import did_you_mean

from ..parallel.units import numbered
from ..readers.open_text import open_text
from .lines import RecordLines, line_blocks, with_lines

LONGEST_FIELD = 1 << 24  # characters in a field of CSV; the csv module's own limit is that of short articles
LABEL = "__label__"  # begins each label in fastText's format
SPACES = re.compile(r"[ \t\r\n\v\f\0]+")  # between the words of fastText's format, which other spaces do not end
DELIMITERS = "\t,;|"
NOT_UTF8 = "not UTF-8 text; convert the file to UTF-8"
BOM = b"\xef\xbb\xbf"
OF_TEXTS = "texts are expected: save them as CSV in UTF-8, or as JSON lines"
CR_ALONE = "the file has lines that end in CR alone; save it with LF or CR LF at the ends of lines"
LOOKED_AT = 10  # lines that are not blank, by which fastText's format is known: the first of them may lack a label


class Columns(NamedTuple):
    """Columns of a table, or keys of JSON objects, that hold texts and labels.

    Attributes
    ----------
    texts : tuple of str
        Names of columns whose texts are joined by spaces.
    labels : str or None
        Name of the column of labels.
    separator : str or None
        Separates the labels of a sample; None: a cell holds one label.
    """

    texts: tuple[str, ...]
    labels: str | None = None
    separator: str | None = None


class Row(NamedTuple):
    """A text and its label names; the text of a skipped line, which could not be read, is None."""

    text: str | None
    labels: list[str]


class _Bad(Exception):
    """An error in a row: what is wrong, and what to do."""


class _Malformed(_Bad):
    """An error in what a row is made of, such as its number of fields; its lines may belong to other rows."""


Parser = Callable[[str], Row]  # of a line


@dataclass
class TextFile:
    """A file of texts; iterating over it yields lists of rows as they arrive.

    Parameters
    ----------
    path : path
        A file, gzipped or not, or ``-`` for standard input.
    columns : Columns or None
        Columns of a table whose first line names them (TSV without quotes, CSV), or keys of JSON objects, one per line.
        None: each line is a text without labels. A file with a word that begins with ``__label__`` in its first lines
        is read as fastText's format, unless the first names the columns. Without `needs_labels` the first line decides.
    needs_labels : bool
        Whether a row without labels, or with an empty text, is an error.
    skips : bool
        Skip rows with errors and count them, instead of raising DataError at the first.
    option : str
        The option that names columns, if the file must have them: ConfigError is raised for fastText's format.

    Attributes
    ----------
    n_skipped : int
    first_skipped : str
        Error in the first skipped row, with its position.
    n_listed : int
        Rows whose labels are a JSON list, which no separator splits.
    """

    path: str | os.PathLike[str]
    columns: Columns | None
    needs_labels: bool = True
    skips: bool = False
    option: str = ""
    n_skipped: int = 0
    first_skipped: str = ""
    n_listed: int = 0

    def __iter__(self) -> Iterator[list[Row]]:
        with open_text(self.path) as file:
            blocks = line_blocks(file)
            first = next(blocks, None)
            if first is None:
                if self.needs_labels:
                    raise DataError(EMPTY, self.path, 1)
                return
            yield from self._rows(first, blocks)

    def _rows(self, first: list[bytes], blocks: Iterator[list[bytes]]) -> Iterator[list[Row]]:
        first[0] = first[0].removeprefix(BOM)
        if kind := not_text(first[0], OF_TEXTS):
            raise DataError(kind, self.path, 1)
        number, is_plain = 1, self.columns is None and not self.needs_labels  # each line is answered as it comes
        while is_plain and not any(map(bytes.strip, first)):  # nor do blank lines tell the format
            yield [Row(line.decode().rstrip("\r\n"), []) for line in first]
            number += len(first)
            if not (first := next(blocks, [])):
                return
        first = with_lines(first, blocks, 1)
        head = first_lines(b"".join(first), 1)[0]
        if b"\0" in head:
            text = "the first line contains NUL bytes, as UTF-16 text does; convert it to UTF-8"
            raise DataError(text, self.path, 1)
        is_header = self.columns is not None and names_columns(head.decode(errors="replace"), self.columns)
        if self.needs_labels and not is_header and not head.startswith(b"{"):  # else a pipe may wait for an answer
            first = with_lines(first, blocks, LOOKED_AT)
        if not is_plain and not is_header and (numbers := not_texts(first)):
            raise DataError(f"the file is {numbers}; {OF_TEXTS}", self.path, 1)
        if not is_header and has_labels(first_lines(b"".join(first)) if self.needs_labels else [head]):
            if self.option:
                text = f"{self.path} is in fastText's format, which has no columns; leave out {self.option}"
                raise ConfigError(text)
            if b"\r" in head:
                raise DataError(CR_ALONE, self.path, 1)
            yield from self._by_line(_fasttext, first, blocks, number)
        elif self.columns is None:
            if self.needs_labels:
                text = f"no word of the first {LOOKED_AT} lines begins with {LABEL}, as in fastText's format"
                advice = "name the columns of a table with --text-column and --label-column"
                raise DataError(f"{text}; {advice}", self.path, 1)
            if b"\r" in head and not first[-1].endswith(b"\n") and b"".join(first).strip() == head:
                raise DataError(CR_ALONE, self.path, 1)
            yield from self._by_line(lambda line: Row(line, []), first, blocks, number)
        elif head.startswith(b"[") and not is_header:
            raise DataError("the file looks like a JSON array; write one object per line, without [ ]", self.path, 1)
        elif head.startswith(b"{"):
            yield from self._by_line(_json_parser(self.columns, self), first, blocks, 1)
        else:
            if not head:
                raise DataError(EMPTY, self.path, 1)
            number = 1 + next(i for i, line in enumerate(first) if line.strip())
            first = first[number - 1 :]
            delimiter, names = header_of(self._decoded(first[0], number), self.columns, self.path, number)
            parse = _fields_parser(self.columns, names, delimiter)
            if delimiter == "\t":
                yield from self._by_line(lambda line: parse(line.split("\t")), first[1:], blocks, number + 1, blank="")
            else:
                yield from self._by_record(parse, delimiter, RecordLines(first[1:], blocks, number))

    def _by_line(
        self, parse: Parser, first: list[bytes], blocks: Iterator[list[bytes]], number: int, blank: str | None = None
    ) -> Iterator[list[Row]]:
        """Convert lines to rows; `number` is that of the first line.

        A line of nothing but characters of `blank`, by default spaces and tabs, is an empty text, or passed over where
        labels are needed.
        """
        block: list[bytes] | None = first
        needs_labels = self.needs_labels
        while block is not None:
            rows = []
            for at, line in enumerate(block, number):
                try:
                    text = line.decode("utf-8").rstrip("\r\n")
                    if text.strip(blank):
                        row = parse(text)
                        rows.append(self._checked(row) if needs_labels else row)
                    elif not needs_labels:
                        rows.append(Row(text, []))
                except UnicodeDecodeError:
                    rows.append(self._bad(NOT_UTF8, at))
                except _Bad as error:
                    rows.append(self._bad(str(error), at))
            number += len(block)
            yield rows
            block = next(blocks, None)

    def _by_record(self, parse: Callable[[list[str]], Row], delimiter: str, lines: RecordLines) -> Iterator[list[Row]]:
        """Convert CSV to rows; quoted fields may hold line breaks.

        After a record with wrong quotes or a wrong number of fields, reading continues with the line after its first,
        whatever the quotes seemed to enclose; in a file where this happens over and over, with the line after its last.
        """
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        rows: list[Row] = []
        while True:
            start = lines.begin_record()
            try:
                fields = next(reader)
                if lines.damaged:
                    raise _Malformed(NOT_UTF8)
                if fields:
                    row = parse(fields)
                    rows.append(self._checked(row) if self.needs_labels else row)
                elif not self.needs_labels:
                    rows.append(Row("", []))
            except StopIteration:
                break
            except (csv.Error, _Malformed) as error:
                message = _about_quotes(error) if isinstance(error, csv.Error) else str(error)
                rows.append(self._bad(message, start))
                for _ in range(lines.return_all_but_one()):
                    rows.append(self._bad(message, start))
            except _Bad as error:
                rows.append(self._bad(str(error), start))
            lines.damaged = False
            if lines.at_end_of_block:
                yield rows
                rows = []
        yield rows

    def _checked(self, row: Row) -> Row:
        if not row.labels:
            where = f" in {self.columns.labels!r}" if self.columns is not None else ""
            raise _Bad(f"the label is missing{where}; add one, or remove the line")
        if row.text is None or not row.text.strip():
            raise _Bad("the text is empty; add one, or remove the line")
        return row

    def _bad(self, message: str, line: int) -> Row:
        error = DataError(message, self.path, line)
        if not self.skips:
            raise error
        self.n_skipped += 1
        self.first_skipped = self.first_skipped or str(error)
        return Row(None, [])

    def _decoded(self, line: bytes, number: int) -> str:
        try:
            return line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(NOT_UTF8, self.path, number) from error


def first_lines(content: bytes, most: int = LOOKED_AT) -> list[bytes]:
    """Return the first lines that are not blank, without spaces around them; an empty one if there are none."""
    return list(islice(filter(None, map(bytes.strip, content.split(b"\n"))), most)) or [b""]


def has_labels(lines: list[bytes]) -> bool:
    """Tell whether first lines are of fastText's format: a word of them is a label; in JSON, of the very first."""
    looked_at = lines[:1] if lines[0].startswith(b"{") else lines
    return any(word.startswith(LABEL.encode()) for line in looked_at for word in line.split())


def names_columns(line: str, columns: Columns) -> bool:
    """Tell whether a first line names the columns of texts, as the header of a table or the keys of a JSON object."""
    try:
        if line.startswith("{"):
            return set(columns.texts) <= set(json.loads(line))
        return bool(header_of(line, Columns(columns.texts), ""))
    except (DataError, ValueError, RecursionError):
        return False


def header_of(line: str, columns: Columns, path: str | os.PathLike[str], number: int = 1) -> tuple[str, list[str]]:
    """Find the delimiter by which a table's first line names the wanted columns. Raises DataError if none does."""
    wanted = [*columns.texts, *([] if columns.labels is None else [columns.labels])]
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    is_csv = os.fspath(path).lower().removesuffix(".gz").endswith(".csv")  # decides where there is a single column
    found: list[tuple[int, str, list[str]]] = []
    for delimiter in sorted(DELIMITERS, key=lambda one: is_csv and one != ","):
        try:
            names = line.split("\t") if delimiter == "\t" else next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error as error:
            text = f"the first line does not name columns ({error}); end lines in LF or CR LF"
            raise DataError(text, path, number) from error
        names = [name.strip() for name in names]
        found.append((sum(name in names for name in wanted), delimiter, names))
    n_found, delimiter, names = max(found, key=lambda one: (one[0], len(one[2])))
    if n_found < len(wanted):
        missing = next(name for name in wanted if name not in names)
        if f'"{missing}"' in names:
            text = "the first line has quotes around names, which tab-separated files do not have; save it as CSV"
            if delimiter != "\t":
                text = f"the first line has a space between {delimiter!r} and a quote; remove it"
            raise DataError(text, path, number)
        parts = [f"there is no column {missing!r} among {', '.join(names)[:200]}", did_you_mean(missing, names)]
        raise DataError("; ".join(filter(None, parts)), path, number)
    twice = next((name for name in wanted if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"the column {twice!r} is there twice; rename one", path, number)
    if delimiter != "\t" and _leaves_open(line, delimiter):
        text = "the name of a column has a line break, or a quote that is never closed; write all names in one line"
        raise DataError(text, path, number)
    return delimiter, names


def _leaves_open(line: str, delimiter: str) -> bool:
    """Tell whether a line of CSV ends between quotes."""
    try:
        next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _fields_parser(columns: Columns, names: list[str], delimiter: str) -> Callable[[list[str]], Row]:
    pick, several = itemgetter(*(names.index(name) for name in columns.texts)), len(columns.texts) > 1
    place = None if columns.labels is None else names.index(columns.labels)

    def parse(fields: list[str]) -> Row:
        if len(fields) != len(names):
            quotes = f"put a field that holds {delimiter!r} between quotes"
            advice = "separate them as there" if delimiter == "\t" else quotes
            found = numbered(len(fields), "field")
            raise _Malformed(f"{found}, but the first line names {len(names)} columns; {advice}")
        labels = [] if place is None else _labels(fields[place], columns.separator)
        texts = pick(fields)
        return Row(" ".join(texts) if several else texts, labels)

    return parse


def _labels(cell: str, separator: str | None) -> list[str]:
    """Split a cell into label names, stripped of spaces."""
    parts = [cell] if separator is None else cell.split(separator)
    names = list(filter(None, map(str.strip, parts)))
    if NO_NAME.search(cell) and (wrong := next(filter(NO_NAME.search, names), None)):  # a separator may be a line break
        raise _Bad(f"a label name cannot contain a line break or half a surrogate pair: {wrong[:60]!r}")
    return names


def _json_parser(columns: Columns, file: TextFile) -> Parser:
    def parse(line: str) -> Row:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            at = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise _Bad(f"not valid JSON ({at}); write one object per line") from error
        if not isinstance(values, dict):
            raise _Bad("not a JSON object; write one per line")
        value = None if columns.labels is None else values.get(columns.labels)
        file.n_listed += isinstance(value, list)
        labels = _json_labels(value, columns)
        return Row(" ".join([_json_text(values, name) for name in columns.texts]), labels)

    return parse


def _json_text(values: dict[str, Any], name: str) -> str:
    text = values.get(name)
    if not isinstance(text, str):
        held = "null" if text is None else type(text).__name__
        what = f"holds {held}, not a text" if name in values else "is missing"
        raise _Bad(f"{name!r} {what}; give a string")
    return text


def _json_labels(value: Any, columns: Columns) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return _labels(value, columns.separator)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, (str, int)) and not isinstance(one, bool) for one in values):
        raise _Bad(f"{columns.labels!r} is not a label; give a string or a list of strings")
    return [name for one in values for name in _labels(str(one), None)]


def _fasttext(line: str) -> Row:
    words = list(filter(None, SPACES.split(line)))
    names = [word.removeprefix(LABEL) for word in words if word.startswith(LABEL)]
    text = " ".join([word for word in words if not word.startswith(LABEL)])
    return Row(text, [name for name in names if name])


def _about_quotes(error: csv.Error) -> str:
    if "field limit" in str(error):
        what = f"a field of more than {csv.field_size_limit():,} characters: most likely a quote is never closed"
    elif "unexpected end" in str(error):
        what = "wrong quotes: one is never closed"
    else:
        what = f"wrong quotes ({error})"
    return f'{what}; put a field that holds quotes between quotes, and double those inside: "say ""yes"""'
