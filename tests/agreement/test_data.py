"""S17: the two readers of XMC text accept the same files, give the same arrays, and name the same errors."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

import slide_fast.data
import slide_ref.data
from slide_ref.common.errors import DataError

EXACTLY_HALF_BETWEEN_FLOAT32 = b"1.000000059604644775390625"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "some.txt"


def outcome(read, path, **options):
    """What a reader makes of a file: its arrays with their dtypes as bytes, or its error."""
    try:
        dataset = read(path, **options)
    except DataError as error:
        return str(error)
    arrays = [a for rows in dataset for a in (rows.indptr, rows.indices, rows.data)]
    shapes = [rows.shape for rows in dataset]
    return shapes, [(None, None) if a is None else (a.dtype.str, a.tobytes()) for a in arrays]


def assert_agree(path, text, *block_sizes):
    path.write_bytes(text)
    expected = outcome(slide_ref.data.read_xmc, path)
    for block_bytes in block_sizes:
        assert outcome(slide_fast.data.read_xmc, path, block_bytes=block_bytes) == expected
    return expected


def joined(strategy, separator, **sizes):
    return st.lists(strategy, **sizes).map(separator.join)


def in_mixture(*parts):
    """One of the parts, the first ones likelier, so that most lines of most files are plain."""
    return st.integers(0, 2 ** len(parts) - 2).flatmap(lambda i: parts[len(parts) - (i + 1).bit_length()])


digits = st.text("0123456789", min_size=1, max_size=20).map(str.encode)
small = st.integers(0, 12).map(lambda i: b"%d" % i)
odd_ids = st.sampled_from([b"", b"007", b"000000000000000007", b"0000000000000000007", b"-1", b"+5", b"1_0", b"0x1"])
odd_ids |= st.sampled_from([b"1.0", b"1e0", "٣".encode(), b"123456789", b"99999999999999999999", b"9" * 5000])
ids = in_mixture(small, small, small, digits, odd_ids)

plain_values = st.builds(b"%s%s.%s".__mod__, st.tuples(st.sampled_from([b"", b"-"]), small, digits))
number_values = st.floats(width=64).map(repr).map(str.encode) | st.floats(width=32).map(repr).map(str.encode)
odd_values = st.sampled_from([b"", b".", b"5.", b".5", b"-", b"--1", b"+5", b"+.5e+1", b"-0", b"0", b"0.0", b"1_0", b"0x1"])
odd_values |= st.sampled_from([b"inf", b"-Infinity", b"nan", b"1e400", b"1e-400", b"1e-50", b"1e39", b"1:2", b"1,2", b"1.2.3"])
odd_values |= st.sampled_from([b"3.4e38", b"-3e38", b"340282356779733642748073463979561713664", b"3.4028235677973366e38"])
odd_values |= st.sampled_from([b"9007199254740993", b"900719925474099.3", b"0." + b"1" * 30, b"1" * 30])
odd_values |= st.sampled_from([EXACTLY_HALF_BETWEEN_FLOAT32, EXACTLY_HALF_BETWEEN_FLOAT32 + b"0" * 20 + b"1", b"1e", b"1e5"])
odd_values |= st.sampled_from(["١".encode(), b"\xff", b"1\x00", b"\x0b1", b"1\r", b"0" * 50, b"1/2", b"1;2"])
values = in_mixture(small, plain_values, number_values, digits, odd_values)

features = in_mixture(st.builds(b"%s:%s".__mod__, st.tuples(ids, values)), st.sampled_from([b"5", b":", b"a:b", b"::"]))
gaps = in_mixture(st.just(b" "), st.sampled_from([b"  ", b"\t", b" \t "]))
labels = in_mixture(joined(ids, b",", min_size=0, max_size=4), st.sampled_from([b",", b"1,", b",1", b"3:1", b"#"]))
ordinary_lines = st.builds(
    lambda labels, features, end: labels + b"".join(gap + feature for gap, feature in features) + end,
    labels,
    st.lists(st.tuples(gaps, features), max_size=5),
    in_mixture(st.just(b""), st.sampled_from([b" ", b"\t", b"  "])),
)
lines = in_mixture(ordinary_lines, st.sampled_from([b"", b" ", b"  \t", b"\r", b"1 2 3"]))
line_ends = in_mixture(st.just(b"\n"), st.just(b"\r\n"), st.sampled_from([b"\r", b"\n\r", b"\r\r\n", b"\n\n"]))
headers = st.sampled_from([b"", b"1 2", b"1 2 3 4", b"-1 2 3", b"\xef\xbb\xbf1 13 13", b"\t1 13  13 ", b"1 0 0"])
headers |= st.sampled_from([b"1 2147483648 5", b"1 2147483647 2147483647", b"1e1 5 5", b"x" * 41, b"x" * 40])


@st.composite
def texts(draw):
    samples = draw(st.lists(lines, max_size=8))
    usual = b"%d 13 13" % max(0, len(samples) + draw(in_mixture(st.just(0), st.integers(-2, 2))))
    header = draw(in_mixture(st.just(usual), st.just(usual), headers))
    end = draw(line_ends)
    text = end.join([header, *samples]) + draw(in_mixture(st.just(end), st.sampled_from([b"", b"\n\n", b" \n", b"\r"])))
    return draw(mutations(text)) if draw(st.integers(0, 9)) == 9 else text


def mutations(text):
    """The text with one stretch replaced by a few other bytes."""
    place = st.integers(0, len(text))
    others = st.text("0123456789 ,:.-e\n\r\t\0\xff", max_size=3).map(lambda s: s.encode("latin-1"))
    return st.builds(lambda i, n, new: text[:i] + new + text[i + n :], place, st.integers(0, 3), others)


@settings(max_examples=800, deadline=None, derandomize=True)
@given(text=texts(), block_bytes=st.integers(1, 64))
@example(text=b"", block_bytes=1)
@example(text=b"1 5 5\n1 2:3", block_bytes=1)
def test_s17_any_text_gives_the_same_arrays_or_the_same_error(file, text, block_bytes):
    expected = assert_agree(file, text, 1, block_bytes, slide_fast.data.BLOCK_BYTES)
    event("refused" if isinstance(expected, str) else "accepted")
