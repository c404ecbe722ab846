"""S17 by example: what the reader of XMC text accepts, and what it says of what it refuses."""

import numpy as np
import pytest

from slide_ref.common.errors import DataError
from slide_ref.data import read_xmc

NO_LABEL = "is not a whole number below 4, the number of labels in the header"
NO_FEATURE = "is not a whole number below 9, the number of features in the header"
NO_VALUE = "is not a decimal number that is finite in float32"
JOINED = "save the files that were joined as UTF-8 without one"
APART = "labels are separated by ',' without spaces"
NO_HEADER = "this line must be the header 'n_samples n_features n_labels', three whole numbers below 2147483648; found "


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "x.txt"
        path.write_bytes(text)
        return read_xmc(path)

    return read_text


@pytest.fixture
def refuse(read, tmp_path):
    def error_of(text):
        with pytest.raises(DataError) as caught:
            read(text)
        assert str(caught.value).startswith(f"{tmp_path / 'x.txt'}, line {caught.value.line}")
        assert "\n" not in str(caught.value)
        return caught.value.line, caught.value.column, caught.value.message

    return error_of


def rows_of(dataset):
    features = [
        dict(zip(*(a.tolist() for a in dataset.features.row(i)), strict=True)) for i in range(dataset.n_samples)
    ]
    return [dataset.labels.row(i)[0].tolist() for i in range(dataset.n_samples)], features


def test_s17_shapes_and_dtypes(read):
    features, labels = read(b"2 9 4\n1,3 0:0.5 8:2\n2 1:1\n")
    assert (features.shape, labels.shape) == ((2, 9), (2, 4))
    assert features.indptr.tolist() == [0, 2, 3] and labels.indptr.tolist() == [0, 2, 3]
    assert [a.dtype for a in (features.indptr, features.indices, features.data)] == [np.int64, np.int32, np.float32]
    assert [labels.indptr.dtype, labels.indices.dtype, labels.data] == [np.int64, np.int32, None]


@pytest.mark.parametrize(
    ("line", "labels", "features"),
    [
        (b"3,1 8:2 0:0.5", [1, 3], {0: 0.5, 8: 2.0}),
        (b" 2:1", [], {2: 1.0}),
        (b"\t2:1", [], {2: 1.0}),
        (b"1", [1], {}),
        (b"1 ", [1], {}),
        (b" ", [], {}),
        (b"1  \t 2:1 \t", [1], {2: 1.0}),
        (b"001 007:1", [1], {7: 1.0}),
        (b"1,1,0", [0, 1], {}),
        (b" 2:1 2:0.5", [], {2: 1.5}),
        (b" 2:0 3:-0.0 4:1e-60 5:1 5:-1", [], {}),
        (b" 1:+.5 2:5. 3:-1.5e-3", [], {1: 0.5, 2: 5.0, 3: float(np.float32(-1.5e-3))}),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"", b"\n\n\r\n"])
def test_s17_a_line_that_is_accepted(read, line, labels, features, end):
    assert rows_of(read(b"1 9 4\n" + line + end)) == ([labels], [features])


def test_s17_sums_are_made_in_float64_and_rounded_once(read):
    assert read(b"1 9 4\n 2:16777216 2:0.6 2:0.6\n").features.data.tolist() == [16777218.0]


def test_s17_no_samples(read):
    assert rows_of(read(b"0 9 4")) == ([], [])


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        (b"4 1:1", 1, f"label id '4' {NO_LABEL}"),
        (b"0,-1 1:1", 3, f"label id '-1' {NO_LABEL}"),
        (b"0,,1 1:1", 3, f"label id '' {NO_LABEL}"),
        (b"0,1, 1:1", 5, f"label id '' {NO_LABEL}"),
        (b"1:1 2:1", 1, "'1:1' stands where labels belong; a line without labels begins with a space"),
        (b"0 9:1", 3, f"feature id '9' {NO_FEATURE}"),
        (b"0 1:1 +5:1", 7, f"feature id '+5' {NO_FEATURE}"),
        (b"0 :1", 3, f"feature id '' {NO_FEATURE}"),
        (b"0 1_0:1", 3, f"feature id '1_0' {NO_FEATURE}"),
        (b"0 0000000000000000001:1", 3, f"feature id '0000000000000000001' {NO_FEATURE}"),
        (b"0 5 1:1", 3, f"'5' is not of the form feature:value; {APART}"),
        (b"0 1:1 5 2:1", 7, "'5' is not of the form feature:value"),
        (b"0, 1 1:1", 3, f"label id '' {NO_LABEL}; {APART}"),
        (b"0 ,1 1:1", 3, f"',1' is not of the form feature:value; {APART}"),
        (b"0;1 1:1", 1, f"label id '0;1' {NO_LABEL}; {APART}"),
        (b"0 1 :1", 3, "'1' is not of the form feature:value; put no space next to ':'"),
        (b"0 1: 0.5", 5, f"value '' {NO_VALUE}; put no space next to ':'"),
        (b"0 1: 2:0.5", 5, f"value '' {NO_VALUE}"),
        (b"0 1:0,5 2:1", 5, f"value '0,5' {NO_VALUE}; write a decimal point instead of the comma"),
        (b"0 1:0.5,2:1", 5, f"value '0.5,2:1' {NO_VALUE}; features are separated by spaces only"),
        (b"0 1:0.5, 2:1", 5, f"value '0.5,' {NO_VALUE}; features are separated by spaces only"),
        (b"0 1:5\r1 2:1", 5, f"value '5\\r1' {NO_VALUE}; it contains a carriage return: end all lines in LF or CR LF"),
        (
            b"0 1:5\xc2\xa02:1",
            5,
            f"value '5\\xc2\\xa02:1' {NO_VALUE}; it contains a no-break space: use plain spaces between words",
        ),
        (b"0 1:", 5, f"value '' {NO_VALUE}"),
        (b"0  12:nan", 4, f"feature id '12' {NO_FEATURE}"),
        (b"0  2:nan", 6, f"value 'nan' {NO_VALUE}"),
        (b"0 2:-inf", 5, f"value '-inf' {NO_VALUE}"),
        (b"0 2:1e39", 5, f"value '1e39' {NO_VALUE}"),
        (b"0 2:1:3", 5, f"value '1:3' {NO_VALUE}"),
        (b"0 2:0x1", 5, f"value '0x1' {NO_VALUE}"),
        (b"0 2:\xff", 5, f"value '\\xff' {NO_VALUE}"),
        (b"\xef\xbb\xbf0", 1, f"label id '\\xef\\xbb\\xbf0' {NO_LABEL}; it contains a byte order mark: {JOINED}"),
        (
            b"0 2:1\0",
            5,
            f"value '1\\x00' {NO_VALUE}; it contains NUL bytes: save the file as UTF-8 text, or copy it again",
        ),
        (b"0 2:" + b"z" * 50, 5, f"value '{'z' * 40}...' {NO_VALUE}"),
        (b"0 2:3e38 2:3e38", None, "the values of feature 2 add up to more than float32 can hold; rescale them"),
        (b"", None, "the line is empty; a sample without labels and features is a line with one space"),
    ],
)
def test_s17_a_line_that_is_refused(refuse, line, column, message):
    assert refuse(b"3 9 4\n0 1:1\n" + line + b"\n7 1:x\n") == (3, column, message)


@pytest.mark.parametrize("header", [b"", b"1 2", b"1 2 3 4", b"1 2 x", b"1 2 -3", b"1 2 2147483648"])
def test_s17_a_header_that_is_refused(refuse, header):
    assert refuse(header + b"\n") == (1, None, NO_HEADER + repr(header.decode()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the file is empty; give one that holds samples"),
        (b"0,1 1:1\n", "the file begins with a sample; put the header 'n_samples n_features n_labels' before it, or "),
        (b"\xff\xfe1\0 \0", "the file begins with a byte order mark of UTF-16; save it as UTF-8 without one"),
        (b"1\0 \0004\0 \0004\0\n\0", "the file is not UTF-8 text: it contains NUL bytes; "),
        (b"1 9 4\r1 2:1\r", "the file has lines that end in CR alone; "),
        (b"\x1f\x8b\x08\0", "the file is compressed with gzip; unpack it first"),
        (b"label,text\n1,a\n", "the file looks like comma-separated values (CSV); if it holds texts, train a "),
        (b"label\ttext\n1\ta\n", "the file looks like tab-separated values (TSV); "),
    ],
)
def test_s17_a_file_of_another_format_is_named(refuse, text, message):
    line, column, found = refuse(text)
    assert (line, column) == (1, None) and found.startswith(message)


def test_s17_a_byte_order_mark_is_refused(refuse):
    message = "the file begins with a byte order mark; save it as UTF-8 without one"
    assert refuse(b"\xef\xbb\xbf0 9 4\n") == (1, None, message)


def test_s17_too_few_and_too_many_samples_are_refused(refuse):
    found = "the file ends here with 1 samples, but the header says 2; correct the header or complete the file"
    assert refuse(b"2 9 4\n1 2:1\n") == (2, None, found)
    found = "the header says 1 samples, but there are more; correct the header"
    assert refuse(b"1 9 4\n1 2:1\n\n \n") == (4, None, found)


def test_s17_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="absent.txt: the file cannot be read: No such file or directory"):
        read_xmc(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="the file cannot be read"):
        read_xmc(tmp_path)
