"""S17: the two readers of XMC text accept the same files, give the same arrays, and name the same errors."""

import os
from pathlib import Path

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from slide_fast import data as fast
from slide_fast import xmc_blocks
from slide_ref import data as ref
from slide_ref.common.errors import DataError

N_IDS = 13
TOO_LARGE = 2**128 - 2**103


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


def words(text):
    return st.sampled_from(text.encode("latin-1").split(b" "))


def mixture(*parts):
    """One of the parts, each twice as likely as the next one, so that most of most files is plain."""
    return st.integers(1, 2 ** len(parts) - 1).flatmap(lambda i: parts[len(parts) - i.bit_length()])


def in_rows(item, separator, max_size):
    return st.lists(item, max_size=max_size).map(separator.join)


def texts(ids, values, labels, features, lines, headers, ends):
    """Whole files; each argument holds what may stand in the place of the plain parts now and then."""
    small = st.integers(0, N_IDS - 1).map(lambda i: b"%d" % i)
    digits = st.text("0123456789", min_size=1, max_size=18).map(str.encode)
    decimals = st.builds(lambda sign, whole, part: sign + whole + b"." + part, words(" -"), small, digits)
    ties = st.integers(2**20, 2**24).map(lambda n: b"%.4f" % (n + 1 / 16))  # half between two values of float32
    floats = st.floats(-3e37, 3e37) | st.floats(-2, 2, width=32)
    id_ = mixture(small, small, ids)
    value = mixture(small, decimals, ties | digits, floats.map(lambda x: repr(x).encode()), values)
    feature = mixture(st.builds(lambda i, v: i + b":" + v, id_, value), features)
    gap = mixture(st.just(b" "), st.sampled_from([b"  ", b"\t", b" \t "]))
    label_list = mixture(in_rows(id_, b",", 4), labels)
    feature_list = st.lists(st.builds(bytes.__add__, gap, feature), max_size=5).map(b"".join)
    ordinary = st.builds(lambda *parts: b"".join(parts) or b" ", label_list, feature_list, mixture(st.just(b""), gap))
    line = mixture(ordinary, ordinary, st.sampled_from([b" ", b" \t"]), lines)

    @st.composite
    def whole_files(draw):
        samples = draw(st.lists(line, max_size=8))
        plain_header = b"%d %d %d" % (len(samples), N_IDS, N_IDS)
        header = draw(mixture(*[st.just(plain_header)] * 3, headers(len(samples))))
        end = draw(mixture(st.just(b"\n"), st.just(b"\r\n"), ends))
        last = draw(mixture(st.just(end), st.sampled_from([b"\n\n", b"\r\n\n\r\n", b"", b"\r"])))
        return end.join([header, *samples]) + last

    return whole_files()


good = {
    "ids": words("007 000000000000012"),
    "values": words("5. .5 +5 +.5e+1 -0 0 0.0 -0.e5 1e-400 1e-50 3e37 -3e+37 1E5 9007199254740993 900719925474099.3")
    | st.sampled_from([b"0." + b"1" * 30, b"1" * 30, b"0" * 50])
    | st.sampled_from([b"1.000000059604644775390625", b"1.00000005960464477539062500000000000000001"]),
    "labels": st.just(b""),
    "features": st.just(b"5:0"),
    "lines": st.just(b" 3:1 3:-1 3:0.1"),
    "headers": lambda n: st.sampled_from([b"\t%d  0%d\t%d " % (n, N_IDS, N_IDS)]),
    "ends": st.just(b"\n"),
}
good_texts = texts(**good)
bad = {
    "ids": words(" -1 +5 1_0 0x1 1.0 1e0 \xb2 13 123456789 99999999999999999999 0000000000000000005 a \xff")
    | st.just(b"9" * 5000),
    "values": words(
        " . - --1 1_0 0x1 inf -Infinity nan 1e400 1e39 3.4028235677973366e38 1:2 1,2 1.2.3 1e \xb2 1\0 \x0b1"
    )
    | st.sampled_from(
        [
            b"%d" % TOO_LARGE,
            b"%d" % (TOO_LARGE - 1),
            b"%d" % (TOO_LARGE - 2**75),
            b"1\r",
            "١".encode(),
            b"z" * 41,
            b"'\"",
        ]
    ),
    "labels": words(", 1, ,1 3:1 # 1.5 -"),
    "features": words("5 : a:b :: #comment 3:1,4:1 \xa0"),
    "lines": words(" \r 1,\t2 3:2e38\t3:2e38\t4:x 3:3e38\t3:3e38"),
    "headers": lambda n: (
        words("1 1\t2 1\t2\t3\t4 -1\t2\t3 1\t0\t0 1\t2147483648\t5 1e1\t5\t5 a\tb\tc \xef\xbb\xbf1\t13\t13")
        | st.sampled_from([b"", b"x" * 40, b"x" * 41, b"%d 2147483647 2147483647" % n])
        | st.integers(0, 9).map(lambda m: b"%d %d %d" % (m, N_IDS, N_IDS))
    ),
    "ends": st.sampled_from([b"\r", b"\n\r", b"\r\r\n", b"\n\n"]),
}


@st.composite
def damaged_texts(draw):
    """Good files in which a few bytes were replaced."""
    text = draw(good_texts)
    place, n = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    new = draw(st.text("0123456789 ,:.-e\n\r\t\0\xff", max_size=3)).encode("latin-1")
    return text[:place] + new + text[place + n :]


@settings(max_examples=150, deadline=None, derandomize=True)
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


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    text=texts(**{key: bad[key] if key == "headers" else good[key] | bad[key] for key in good}) | damaged_texts(),
    block_bytes=st.integers(1, 64),
)
@example(text=b"", block_bytes=1)
@example(text=b"1 5 5\n\n1 2:3", block_bytes=1)
def test_s17_any_text_gives_the_same_arrays_or_the_same_error(file, text, block_bytes):
    expected = assert_agree(file, text, 1, block_bytes, fast.BLOCK_BYTES)
    event("refused" if isinstance(expected, str) else "accepted")


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
