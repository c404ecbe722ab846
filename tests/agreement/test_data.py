"""S17: the two readers of XMC text accept the same files, give the same arrays, and name the same errors."""

import os
from pathlib import Path

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from slide_fast import data as fast
from slide_fast.readers import xmc_blocks
from slide_ref import data as ref
from slide_ref.common.errors import DataError

N_IDS = 13
TOO_LARGE = 2**128 - 2**103  # half between the largest float32 and the next power of two


def words(text):
    return text.encode("latin-1").split(b" ")


GOOD = {
    "ids": words("007 000000000000012"),
    "values": [
        *words("5. .5 +5 +.5e+1 -0 0 0.0 -0.e5 1e-400 1e-50 3e37 -3e+37 1E5 9007199254740993 900719925474099.3"),
        *(b"0." + b"1" * 30, b"1" * 30, b"0" * 50, b"1234567890123456.1234567890123456"),
        *(b"9999999999999999.9999999999999999", b"1.00000005960464477539062500000000000000001"),
    ],
    "labels": [b""],
    "features": [b"5:0"],
    "lines": [b" ", b" \t", b" 3:1 3:-1 3:0.1"],
    "ends": [b"\r\n"],
}
BAD = {
    "ids": [
        *words(" -1 +5 1_0 0x1 1.0 1e0 \xb2 13 123456789 99999999999999999999 a \xff x00000001 "),
        *(b"0" * 17 + b"5", b"0" * 18 + b"5", b"9" * 5000),
    ],
    "values": [
        *words(
            " . - -. --1 1_0 0x1 inf -Infinity nan 1e400 1e39 3.4028235677973366e38 1:2 1,2 1.2.3 1e \xb2 1\0 \x0b1"
        ),
        *(b"%d" % n for n in (TOO_LARGE, TOO_LARGE - 1, TOO_LARGE - 2**75)),
        *(b"x00000001", b"0.x00000001", b"1\r", "١".encode(), b"z" * 40, b"z" * 41, b"'\""),
    ],
    "labels": words(", 1, ,1 3:1 # 1.5 -"),
    "features": words("5 : a:b :: #comment 3:1,4:1 \xa0"),
    "lines": [
        *(
            b"",
            b"\r",
            b"1, 2",
            b" 3:2e38 3:2e38 4:x",
            b" 3:3e38 3:3e38",
            b"1, 2 3:1",
            b"1 2 3:1",
            b"1 ,2 3:1",
            b"1;2 3:1",
        ),
        *(b"1 3 :1", b"1 3: 1", b"1 3:0,5", b"1 3:1,4:1", b"1 3:1, 4:1", b"1 3:1\r2 4:1", b"1\0 3:1", b"1\xc2\xa03:1"),
    ],
    "ends": [b"\r", b"\n\r", b"\r\r\n", b"\n\n"],
}
HEADERS = [
    *(b"", b"1", b"1 2", b"1 2 3 4", b"-1 2 3", b"1 0 0", b"1 2147483648 5", b"1 2147483647 2147483647", b"1e1 5 5"),
    *(b"\xef\xbb\xbf1 13 13", b"x" * 40, b"x" * 41, b"\t3\t 13 13  ", b"2 13 13", b"4 13 13", b"3 12 13", b"3 13 12"),
    *(
        b"1 3:1",
        b"a,b,c",
        b"a\tb",
        b"{",
        b"<html>",
        b"BZh9",
        b"\xff\xfe1\0",
        b"1\0 \x001\0",
        b"3 13 13\r1 3:1",
        b" " * 2000,
    ),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "some.txt"


def outcome(read, path, **options):
    """What a reader makes of a file: its arrays as bytes, with their types and shapes, or its error."""
    try:
        dataset = read(path, **options)
    except DataError as error:
        return str(error)
    arrays = [a for rows in dataset for a in (rows.indptr, rows.indices, rows.data) if a is not None]
    return [rows.shape for rows in dataset], [(a.dtype.str, a.shape, a.tobytes()) for a in arrays]


def assert_agree(path, text, *block_sizes):
    path.write_bytes(text)
    expected = outcome(ref.read_xmc, path)
    for block_bytes in block_sizes:
        assert outcome(fast.read_xmc, path, block_bytes=block_bytes) == expected
    return expected


def mixture(*parts):
    """One of the parts, each twice as likely as the next one, so that most of most files is plain."""
    return st.integers(1, 2 ** len(parts) - 1).flatmap(lambda i: parts[len(parts) - i.bit_length()])


def texts(ids, values, labels, features, lines, ends, headers):
    """Whole files; each argument lists what may stand in the place of a plain part now and then."""
    small = st.integers(0, N_IDS - 1).map(lambda i: b"%d" % i)
    digits = st.text("0123456789", min_size=1, max_size=18).map(str.encode)
    decimals = st.builds(lambda *parts: b"".join(parts), st.sampled_from([b"", b"-"]), small, st.just(b"."), digits)
    floats = (st.floats(-3e37, 3e37) | st.floats(-2, 2, width=32)).map(lambda x: repr(x).encode())
    id_ = mixture(small, small, st.sampled_from(ids))
    value = mixture(small, decimals, near_ties() | digits, floats, st.sampled_from(values))
    feature = mixture(st.builds(lambda i, v: i + b":" + v, id_, value), st.sampled_from(features))
    gap = mixture(st.just(b" "), st.sampled_from([b"  ", b"\t", b" \t "]))
    label_list = mixture(st.lists(id_, max_size=4).map(b",".join), st.sampled_from(labels))
    feature_list = st.lists(st.builds(bytes.__add__, gap, feature), max_size=5).map(b"".join)
    ordinary = st.builds(lambda *parts: b"".join(parts) or b" ", label_list, feature_list, mixture(st.just(b""), gap))
    line = mixture(ordinary, ordinary, st.sampled_from(lines))

    @st.composite
    def whole_files(draw):
        samples = draw(st.lists(line, max_size=8))
        plain_header = b"%d %d %d" % (len(samples), N_IDS, N_IDS)
        header = draw(mixture(*[st.just(plain_header)] * 3, st.sampled_from([b"\t" + plain_header + b" ", *headers])))
        end = draw(mixture(st.just(b"\n"), st.sampled_from(ends)))
        last = draw(mixture(st.just(end), st.sampled_from([b"\n\n", b"\r\n\n\r\n", b"", b"\r"])))
        return end.join([header, *samples]) + last

    return whole_files()


def near_ties():
    """Decimals so near the middle between two values of float32 that the last bit of float64 decides."""
    return st.builds(lambda n, k: b"%d.%011d" % (n, 6250000000 + k), st.integers(2**20, 2**21 - 1), st.integers(0, 30))


good_texts = texts(**GOOD, headers=[])
all_texts = texts(**{part: GOOD[part] + BAD[part] for part in GOOD}, headers=HEADERS)


@st.composite
def damaged_texts(draw):
    """Good files in which a few bytes were replaced."""
    text = draw(good_texts)
    place, n = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    new = draw(st.text("0123456789 ,:.-e\n\r\t\0\xff", max_size=3)).encode("latin-1")
    return text[:place] + new + text[place + n :]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=good_texts, block_bytes=st.integers(1, 64))
@example(text=b"0 0 0", block_bytes=1)
def test_s17_good_text_gives_the_same_arrays_and_no_block_needs_the_line_by_line_reader(file, text, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xmc_blocks, "_parse_lines", None)
        expected = assert_agree(file, text, 1, block_bytes, fast.BLOCK_BYTES)
    assert not isinstance(expected, str)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=good_texts, block_bytes=st.integers(1, 64))
def test_s17_good_text_gives_the_same_arrays_line_by_line(file, text, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xmc_blocks, "_parse_at_once", lambda *block: None)
        expected = assert_agree(file, text, 1, block_bytes, fast.BLOCK_BYTES)
    assert not isinstance(expected, str)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=all_texts | damaged_texts(), block_bytes=st.integers(1, 64))
@example(text=b"", block_bytes=1)
@example(text=b"1 5 5\n\n1 2:3", block_bytes=1)
def test_s17_any_text_gives_the_same_arrays_or_the_same_error(file, text, block_bytes):
    expected = assert_agree(file, text, 1, block_bytes, fast.BLOCK_BYTES)
    event("refused" if isinstance(expected, str) else "accepted")


PLACES = {
    "ids": [b"%s 3:1", b"1,%s", b"1,%s,2 3:1", b" 3:1 %s:1 5:0.5"],
    "values": [b" 3:%s", b"1 3:%s 4:1"],
    "labels": [b"%s 3:1"],
    "features": [b" %s", b"1 3:1 %s 5:0.5"],
    "lines": [b"%s"],
    "ends": [b"1 3:1%s2 4:1", b"1 3:1%s"],
}


@pytest.mark.parametrize("part", PLACES)
def test_s17_each_odd_word_in_plain_text_gives_the_same_arrays_or_the_same_error(file, part):
    for word in GOOD[part] + BAD[part]:
        for place in PLACES[part]:
            line = place.replace(b"%s", word)
            assert_agree(file, b"3 13 13\n1 2:1\n" + line + b"\n12 12:0.5\n", 1, fast.BLOCK_BYTES)


def test_s17_each_odd_header_gives_the_same_arrays_or_the_same_error(file):
    for header in HEADERS:
        for text in (header, header + b"\n12 12:1\n 0:1\n \n"):
            assert_agree(file, text, 1, fast.BLOCK_BYTES)


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_s17_what_is_no_file_gives_the_same_error(tmp_path, name):
    message = outcome(ref.read_xmc, tmp_path / name)
    assert "cannot be read" in message
    assert outcome(fast.read_xmc, tmp_path / name) == message


@pytest.mark.slow
@pytest.mark.skipif("SLIDE_DATA" not in os.environ, reason="SLIDE_DATA names no folder of data sets")
@pytest.mark.parametrize("name", ["bibtex", "delicious"])
@pytest.mark.parametrize("part", ["train.txt", "test.txt"])
def test_s17_real_files_give_the_same_arrays(name, part):
    path = Path(os.environ["SLIDE_DATA"]) / name / part
    expected = outcome(ref.read_xmc, path)
    assert outcome(fast.read_xmc, path) == expected
    assert outcome(fast.read_xmc, path, block_bytes=1000) == expected
