"""Rows of texts and labels from files: every format, the same rows; bad lines, each with its message."""

import csv
import gzip
import io
import json
import os
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_fast.readers.open_text import first_bytes
from slide_fast.text import lines as module
from slide_fast.text.sources import Columns, Row, TextFile
from slide_ref.common.errors import DataError

COLUMNS = Columns(("title",), "tags", "|")
ROWS = [
    ("Red apples, and green", ["fruit", "colour"]),
    ('They say "hi"', ["speech"]),
    ("été à Zürich", ["late summer"]),
]
PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).filter(str.strip)
TAGS = st.lists(PLAIN.map(str.strip).filter(lambda tag: "|" not in tag), min_size=1, max_size=3)


def tsv(rows):
    return "title\ttags\n" + "".join(f"{title}\t{'|'.join(tags)}\n" for title, tags in rows)


def comma(rows, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\r\n")
    writer.writerows([["title", "tags"], *([title, "|".join(tags)] for title, tags in rows)])
    return file.getvalue()


def json_lines(rows):
    return "".join(json.dumps({"title": title, "tags": tags}) + "\n" for title, tags in rows)


def read(path, columns=COLUMNS, **options):
    return [row for rows in TextFile(path, columns, **options) for row in rows]


def written(tmp_path, content, name="data"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "content",
    [
        tsv(ROWS), comma(ROWS), comma(ROWS, ";"), comma(ROWS, quoting=csv.QUOTE_ALL), json_lines(ROWS),
        tsv(ROWS).replace("\n", "\r\n"), tsv(ROWS).rstrip("\n"), "\ufeff" + tsv(ROWS), "\ufeff" + comma(ROWS),
        tsv(ROWS) + "\n\n", comma(ROWS) + "\r\n", json_lines(ROWS) + "\n",
        json_lines(ROWS).replace('["fruit", "colour"]', '"fruit|colour"'),
    ],
)  # fmt: skip
def test_every_format_has_the_same_rows(tmp_path, monkeypatch, content, at_once):
    monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
    assert read(written(tmp_path, content)) == [Row(*row) for row in ROWS]
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(content.encode("utf-8")))
    assert read(packed) == [Row(*row) for row in ROWS]


@given(st.lists(st.tuples(PLAIN, TAGS), min_size=1, max_size=5))
def test_rows_written_come_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    assert read(written(folder, json_lines(rows))) == [Row(*row) for row in rows]
    assert read(written(folder, comma(rows))) == [Row(*row) for row in rows]
    assert read(written(folder, tsv(rows))) == [Row(*row) for row in rows]


def test_texts_with_line_breaks_come_from_csv_and_json(tmp_path):
    rows = [("one\nand two, three", ["a"]), ("four", ["b"])]
    for content in (comma(rows), json_lines(rows)):
        assert read(written(tmp_path, content)) == [Row(*row) for row in rows]


def test_several_columns_are_joined_and_a_cell_is_one_label_without_a_separator(tmp_path):
    path = written(tmp_path, "b\tx\ttags\ta\ntwo\t0\tc|d\tone\n")
    assert read(path, Columns(("a", "b"), "tags")) == [Row("one two", ["c|d"])]
    assert read(path, Columns(("a",)), needs_labels=False) == [Row("one", [])]


def test_fasttext_needs_no_columns(tmp_path):
    path = written(tmp_path, "__label__a __label__b-c Some  text\n\n__label__d , more __label__e\n")
    assert read(path, None) == [Row("Some text", ["a", "b-c"]), Row(", more", ["d", "e"])]


def test_fasttext_is_known_by_its_beginning(tmp_path):
    path = written(tmp_path, "__label__a Some text\n")
    assert read(path, COLUMNS) == read(path, None, needs_labels=False) == [Row("Some text", ["a"])]
    (tmp_path / "packed").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("data", "packed"):
        assert first_bytes(tmp_path / name).startswith(b"__label__a")
    assert first_bytes(written(tmp_path, b"\x1f\x8bdamaged")) == b""


@pytest.mark.parametrize("columns", [None, COLUMNS])
@pytest.mark.parametrize("at_once", [4, 1 << 20])
def test_the_first_line_of_fasttext_may_lack_a_label(tmp_path, monkeypatch, columns, at_once):
    monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
    path = written(tmp_path, "no label\n\n__label__a Some text\n")
    with pytest.raises(DataError, match="line 1: the label is missing"):
        read(path, columns)
    assert [row for row in read(path, columns, skips=True) if row.text is not None] == [Row("Some text", ["a"])]


def test_a_column_that_is_not_there_is_told_before_more_lines_arrive(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    is_told = threading.Event()

    def write():
        with open(tmp_path / "pipe", "wb", 0) as pipe:
            pipe.write(b"titel\ttags\n")
            assert is_told.wait(30)

    thread = threading.Thread(target=write)
    thread.start()
    with pytest.raises(DataError, match="did you mean titel"):
        next(iter(TextFile(tmp_path / "pipe", COLUMNS, needs_labels=False)))
    is_told.set()
    thread.join()


def test_labels_in_the_cells_of_a_table_do_not_make_it_fasttext(tmp_path):
    for content in (tsv([("x", ["__label__a"])]), json_lines([("x __label__b", ["__label__a"])])):
        assert read(written(tmp_path, content))[0].labels == ["__label__a"]
    with pytest.raises(DataError, match="'title' is missing"):
        read(written(tmp_path, '{"text": "x"}\n{"text": "y __label__a"}\n'))


def test_the_beginning_of_gzip_is_that_of_the_first_member_that_holds_anything(tmp_path):
    packed = gzip.compress(b"") + gzip.compress(b"one\n") + gzip.compress(b"two\n")
    assert first_bytes(written(tmp_path, packed)) == b"one\ntwo\n"
    assert first_bytes(written(tmp_path, packed[:-8])).startswith(b"one\n")


def test_plain_lines_that_end_in_cr_alone_are_refused(tmp_path):
    with pytest.raises(DataError, match="line 1: the file has lines that end in CR alone"):
        read(written(tmp_path, "one\rtwo\rthree"), None, needs_labels=False)
    rows = [Row("one\rtwo", []), Row("three", [])]
    assert read(written(tmp_path, "one\rtwo\nthree\r\n"), None, needs_labels=False) == rows


def test_plain_lines_are_texts(tmp_path):
    path = written(tmp_path, "one text\n\nanother\ttext\r\nlast")
    assert read(path, None, needs_labels=False) == [Row(text, []) for text in ("one text", "", "another\ttext", "last")]
    assert read(written(tmp_path, ""), None, needs_labels=False) == []


def test_the_first_line_with_words_tells_the_format(tmp_path):
    path = written(tmp_path, "\n  \nball goal __label__a\n__label__b bread\n")
    assert read(path, None) == [Row("ball goal", ["a"]), Row("bread", ["b"])]
    assert read(written(tmp_path, '\n{"title": "a", "tags": "b"}\n')) == [Row("a", ["b"])]


def test_labels_of_json_may_be_numbers(tmp_path):
    path = written(tmp_path, '{"title": "a", "tags": [3, "x"]}\n{"title": "b", "tags": 4}\n')
    assert read(path) == [Row("a", ["3", "x"]), Row("b", ["4"])]


BAD = [
    (tsv(ROWS) + "no tab\n", 5, "1 field, but the first line names 2 columns; separate them as there"),
    (tsv(ROWS) + "a\tb\tc\n", 5, "3 fields, but the first line names 2 columns"),
    (comma(ROWS) + "no comma\n", 5, "1 field, but the first line names 2 columns"),
    (tsv(ROWS) + "text\t | \n", 5, "the label is missing in 'tags'; add one, or remove the line"),
    (tsv(ROWS) + " \ta\n", 5, "the text is empty; add one, or remove the line"),
    (comma(ROWS) + '"one" two,a\n', 5, "wrong quotes"),
    (comma(ROWS) + 'one,"a\n', 5, "wrong quotes"),
    ("title,tags\n" + '"' + "x" * 200_000 + ",a\n", 2, "wrong quotes: one is never closed; put a field"),
    (
        json_lines(ROWS) + '{"title": "a", "tags": ["x\\ud800"]}\n',
        4,
        "a label name cannot contain a line break or half a surrogate pair: 'x\\ud800'",
    ),
    (tsv(ROWS) + "\t\n", 5, "the label is missing"),
    ('title,tags\none,"a\nb"\n', 2, "a label name cannot contain a line break or half a surrogate pair: 'a\\nb'"),
    (tsv(ROWS).encode() + b"\xff\ta\n", 5, "not UTF-8 text; convert the file to UTF-8"),
    (comma(ROWS).encode() + b"\xff,a\n", 5, "not UTF-8 text; convert the file to UTF-8"),
    (json_lines(ROWS) + '{"title": \n', 4, "not valid JSON"),
    (json_lines(ROWS) + "[1]\n", 4, "not a JSON object; write one per line"),
    (json_lines(ROWS) + '{"tags": "a"}\n', 4, "'title' is missing; give a string"),
    (json_lines(ROWS) + '{"title": null, "tags": "a"}\n', 4, "'title' holds null, not a text; give a string"),
    (json_lines(ROWS) + '{"title": "a"}\n', 4, "the label is missing"),
    (json_lines(ROWS) + '{"title": "a", "tags": [1.5]}\n', 4, "'tags' is not a label"),
]


def test_quotes_within_the_name_of_another_column_do_not_matter(tmp_path):
    path = written(tmp_path, 'title,tags,"size" (cm),5"\nx,a,1,2\n')
    assert read(path) == [Row("x", ["a"])]


def test_labels_may_be_separated_by_line_breaks(tmp_path):
    path = written(tmp_path, 'title,tags\nx,"a\r\nb c\n"\n')
    assert read(path, Columns(("title",), "tags", "\n")) == [Row("x", ["a", "b c"])]


@pytest.mark.parametrize("at_once", [16, 1 << 20])
@pytest.mark.parametrize(("content", "line", "message"), BAD)
def test_bad_lines_are_named_or_skipped(tmp_path, monkeypatch, content, line, message, at_once):
    monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
    path = written(tmp_path, content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}, line {line}: {message}")
    file = TextFile(path, COLUMNS, skips=True)
    kept = [row for rows in file for row in rows if row.text is not None]
    assert kept == ([Row(*row) for row in ROWS] if line > 2 else [])
    assert file.n_skipped == 1 and file.first_skipped == str(error.value)


def test_lines_after_a_bad_one_are_read(tmp_path):
    for good, bad in ((comma(ROWS), '"one" two,a\r\n'), (tsv(ROWS), "no tab\n"), (json_lines(ROWS), "{\n")):
        lines = good.splitlines(keepends=True)
        file = TextFile(written(tmp_path, "".join([*lines[:-2], bad, *lines[-2:]])), COLUMNS, skips=True)
        texts = [row.text for rows in file for row in rows]
        assert texts == [ROWS[0][0], None, ROWS[1][0], ROWS[2][0]] and file.n_skipped == 1


@pytest.mark.parametrize("at_once", [16, 1 << 20])
@pytest.mark.parametrize("end", ["", 'closed" here,a\n'])
def test_an_open_quote_costs_its_own_line_only(tmp_path, monkeypatch, end, at_once):
    monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
    good = [f"text {i},a\n" for i in range(200)]
    file = TextFile(
        written(tmp_path, "".join(["title,tags\n", *good[:10], '"open,a\n', *good[10:], end])), COLUMNS, skips=True
    )
    rows = [row for rows in file for row in rows]
    texts = [f"text {i}" for i in range(200)]
    assert [row.text for row in rows][:201] == [*texts[:10], None, *texts[10:]]
    assert file.n_skipped == 1 and "line 12: wrong quotes" in file.first_skipped


@pytest.mark.parametrize(("end", "bad"), [('topic tv,5" high', 1), ('topic \xff tv,5"', 2)])
def test_a_record_that_closes_later_costs_its_first_line_only(tmp_path, end, bad):
    good = [f"text {i},a\n" for i in range(50)]
    lines = ["title,tags\n", *good[:10], '"open quote,a\n', *good[10:], f"{end}\n", *good]
    content = "".join(lines).encode("latin-1")
    file = TextFile(written(tmp_path, content), COLUMNS, skips=True)
    rows = [row for rows in file for row in rows]
    texts = [f"text {i}" for i in range(50)]
    assert [row.text for row in rows if row.text in texts] == texts * 2
    assert sum(row.text is None for row in rows) == file.n_skipped == bad


def test_quotes_open_in_each_line_take_no_more_than_a_few_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_AGAIN", 1000)
    file = TextFile(
        written(tmp_path, "title,tags\n" + 'text about","lab\n' * 0 + '"text","lab\n' * 3001), COLUMNS, skips=True
    )
    rows = [row for rows in file for row in rows]
    assert len(rows) == 3001 and sum(row.text is None for row in rows) == file.n_skipped


def test_long_texts_are_read(tmp_path):
    text = "a word, " * 30_000
    assert read(written(tmp_path, f'title,tags\n"{text}",a\n')) == [Row(text, ["a"])]


def test_every_row_without_labels_has_a_place(tmp_path):
    only = Columns(("title",))
    for content, texts in (
        ("title\none\n\nthree\n", ["one", "", "three"]),
        ("title\tother\none\tx\n\t\nthree\tx\n", ["one", "", "three"]),
        ("title,other\none,x\n,\n\nthree,x\n", ["one", "", "", "three"]),
        ('{"title": "one"}\n\n{"title": "three"}\n', ["one", "", "three"]),
        ("__label__a one\n\n__label__a three\n", ["one", "", "three"]),
    ):
        assert [row.text for row in read(written(tmp_path, content), only, needs_labels=False)] == texts


def test_a_single_column_of_csv_has_quotes(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('title\n"one, with\na break"\n"two"\n')
    assert [row.text for row in read(path, Columns(("title",)), needs_labels=False)] == ["one, with\na break", "two"]
    path = written(tmp_path, 'title\none, "two"\n')
    assert [row.text for row in read(path, Columns(("title",)), needs_labels=False)] == ['one, "two"']


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (
            "title\ttags\nx\ta\n".encode("utf-16-le"),
            COLUMNS,
            "line 1: the first line contains NUL bytes, as UTF-16 text does",
        ),
        ("", COLUMNS, "line 1: the file is empty"),
        ("tags,title,tags\na,b,c\n", COLUMNS, "line 1: the column 'tags' is there twice; rename one"),
        ("title,tags\rx,a\ry,b\r", COLUMNS, "line 1: the first line does not name columns (new-line character"),
        ("titel\ttags\nx\ta\n", COLUMNS, "line 1: there is no column 'title' among titel, tags; did you mean titel?"),
        ("title,tag\nx,a\n", COLUMNS, "line 1: there is no column 'tags' among title, tag; did you mean tag?"),
        ("title\ttags\nx\ta\n", None, "line 1: no word of the first 10 lines begins with __label__, as in fastText's"),
        (b"PAR1\x15abc", COLUMNS, "line 1: the file is a Parquet file"),
        (b"\xff\xfea\0", COLUMNS, "line 1: the file begins with a byte order mark of UTF-16"),
        (b"titl\xe9,tags\n", COLUMNS, "line 1: not UTF-8 text"),
        (
            'title,tags,"of a\nbook"\nx,a,b\n',
            COLUMNS,
            "line 1: the name of a column has a line break",
        ),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path, content, columns, message):
    path = written(tmp_path, content)
    with pytest.raises(DataError) as error:
        read(path, columns)
    assert str(error.value).startswith(f"{path}, {message}")


def test_rows_come_as_they_are_written_to_a_pipe(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(source))
        writer = threading.Thread(target=sink.write, args=(b"one\ntwo\nthr",))
        writer.start()
        blocks = iter(TextFile("-", None, needs_labels=False))
        assert next(blocks) == [Row("one", []), Row("two", [])]
        writer.join()
        sink.write(b"ee\n")
        assert next(blocks) == [Row("three", [])]
        sink.close()
        assert list(blocks) == []


@pytest.mark.parametrize(
    "content", [tsv(ROWS), comma(ROWS), json_lines(ROWS), "__label__a red apple\n__label__b green\n", "plain\nlines\n"]
)
def test_blank_lines_that_arrive_first_change_nothing(tmp_path, content):
    columns = None if content[0] in "_p" else COLUMNS
    options = {"needs_labels": content[0] != "p"}
    (tmp_path / "file").write_bytes(content.encode())
    wanted = [row for row in read(tmp_path / "file", columns, **options)]
    os.mkfifo(tmp_path / "pipe")

    def write():
        with open(tmp_path / "pipe", "wb", 0) as pipe:
            pipe.write(b"\n \n")
            time.sleep(0.1)
            pipe.write(content.encode())

    thread = threading.Thread(target=write)
    thread.start()
    found = read(tmp_path / "pipe", columns, **options)
    thread.join()
    assert [row for row in found if row.text.strip()] == wanted


def test_utf_16_after_a_blank_line_is_refused(tmp_path):
    (tmp_path / "file").write_bytes("\napple\n".encode("utf-16-le"))
    with pytest.raises(DataError, match="the first line contains NUL bytes"):
        read(tmp_path / "file", None, needs_labels=False)


def test_the_keys_of_an_object_may_be_escaped(tmp_path):
    lines = json.dumps({"größe": "__label__x red", "tags": "a"}) + "\n"
    (tmp_path / "file").write_text(lines)
    assert "\\u" in lines and read(tmp_path / "file", Columns(("größe",), "tags")) == [Row("__label__x red", ["a"])]


def test_a_blank_plain_line_does_not_wait_for_the_next(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    may_go_on = threading.Event()

    def write():
        with open(tmp_path / "pipe", "wb", 0) as pipe:
            pipe.write(b"\n")
            assert may_go_on.wait(30)
            pipe.write(b"text\n")

    thread = threading.Thread(target=write)
    thread.start()
    rows = iter(TextFile(tmp_path / "pipe", None, needs_labels=False))
    assert next(rows) == [Row("", [])]
    may_go_on.set()
    assert [row for some in rows for row in some] == [Row("text", [])]
    thread.join()


@pytest.mark.parametrize(
    "content", ["\n  \n__label__a red\nblue\n", "no label\n__label__a red\n", "title,tags\r__label__b c\n"]
)
@pytest.mark.parametrize("columns", [None, Columns(("title",))])
def test_the_format_does_not_depend_on_where_blocks_end(tmp_path, monkeypatch, content, columns):
    def outcome(at_once):
        monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
        try:
            return read(written(tmp_path, content), columns, needs_labels=False)
        except DataError as error:
            return str(error)

    assert outcome(1) == outcome(1 << 20)


def test_labels_of_fasttext_end_at_ascii_spaces_only(tmp_path):
    (tmp_path / "t.ft").write_text("__label__a\u00a0b\tred\u3000apple\n__label__c blue\n", encoding="utf-8")
    rows = [row for block in TextFile(tmp_path / "t.ft", None) for row in block]
    assert [tuple(row) for row in rows] == [("red\u3000apple", ["a\u00a0b"]), ("blue", ["c"])]
