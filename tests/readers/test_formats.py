"""Data that others write: gzip, svmlight text, SciPy's ``.npz``, standard input."""

import gzip
import io
import sys

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.data import read_dataset, with_columns, write_npz, write_xmc
from slide_ref.common.errors import DataError

DATA = random_dataset(0, n_samples=50)


def assert_same_data(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        assert np.array_equal(mine.indptr, other.indptr) and np.array_equal(mine.indices, other.indices)
        assert mine.data is other.data is None or np.allclose(mine.data, other.data)


def as_svmlight(data):
    lines = []
    for i in range(data.n_samples):
        labels, (ids, values) = data.labels.row(i)[0], data.features.row(i)
        pairs = [f"{f}:{v:.9g}" for f, v in zip(ids, values, strict=True)]
        lines.append(" ".join(([",".join(map(str, labels))] if len(labels) else []) + pairs) or "# nothing")
    return "\n".join(lines)


def test_text_packed_by_gzip_is_read_whatever_its_name(tmp_path):
    write_xmc(tmp_path / "data.txt", DATA)
    for name in ("data.txt.gz", "packed.txt"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "data.txt").read_bytes()))
        assert_same_data(read_dataset(tmp_path / name), read_dataset(tmp_path / "data.txt"))


def test_damaged_gzip_is_refused(tmp_path):
    whole = gzip.compress(b"1 1 1\n0 0:1\n" * 100)
    for content in (whole[:-9], whole[:30] + b"\xff" * 30 + whole[60:]):
        (tmp_path / "data.txt.gz").write_bytes(content)
        with pytest.raises(DataError, match="not intact gzip"):
            read_dataset(tmp_path / "data.txt.gz")


def test_standard_input_is_read(tmp_path, monkeypatch):
    write_xmc(tmp_path / "data.txt", DATA)
    text = (tmp_path / "data.txt").read_bytes()
    for content in (text, gzip.compress(text)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        assert_same_data(read_dataset("-"), read_dataset(tmp_path / "data.txt"))


class SlowPipe(io.BytesIO):
    """Give a byte at a time."""

    def readinto(self, buffer):
        return super().readinto(memoryview(buffer)[:1])


def test_gzip_is_known_by_the_first_byte_that_arrives(tmp_path, monkeypatch):
    write_xmc(tmp_path / "data.txt", DATA)
    slow = SlowPipe(gzip.compress((tmp_path / "data.txt").read_bytes()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(slow)))
    assert_same_data(read_dataset("-"), read_dataset(tmp_path / "data.txt"))


def test_svmlight_text_is_read(tmp_path):
    rows = np.flatnonzero((np.diff(DATA.labels.indptr) > 0) | (np.diff(DATA.features.indptr) > 0))
    wanted = DATA.take(rows)
    for suffix in (".svm", ".svmlight", ".libsvm"):
        (tmp_path / f"data{suffix}").write_text(as_svmlight(wanted))
        found = read_dataset(tmp_path / f"data{suffix}")
        assert_same_data(found, wanted)
        assert [part.n_columns for part in found] == [part.indices.max() + 1 for part in wanted]


def test_rows_of_fewer_columns_lose_what_lies_beyond():
    rows, labels = with_columns(DATA.features, 20), with_columns(DATA.labels, 9)
    for i in range(DATA.n_samples):
        ids, values = DATA.features.row(i)
        assert np.array_equal(rows.row(i), (ids[ids < 20], values[ids < 20]))
        assert labels.row(i)[0].tolist() == [label for label in DATA.labels.row(i)[0] if label < 9]
    assert rows.shape == (50, 20) and labels.shape == (50, 9)


def test_what_svmlight_allows_is_understood(tmp_path):
    text = "# a comment\n+1 qid:3 2:0.5 7:1 # end\n\n3.0,0 1:2\r\n 5:1\n2\n"
    for content in (text.encode(), gzip.compress(text.encode())):
        (tmp_path / "data.svm.gz").write_bytes(content)
        features, labels = read_dataset(tmp_path / "data.svm.gz")
        assert [labels.row(i)[0].tolist() for i in range(4)] == [[1], [0, 3], [], [2]]
        assert [features.row(i)[0].tolist() for i in range(4)] == [[2, 7], [1], [5], []]
        assert features.shape == (4, 8) and labels.shape == (4, 4)


def test_svmlight_agrees_with_scikit_learn(tmp_path):
    pytest.importorskip("sklearn")
    from sklearn.datasets import dump_svmlight_file, load_svmlight_file

    from slide_fast.estimator.validation import as_features

    rng = np.random.default_rng(0)
    dump_svmlight_file(
        rng.random((30, 9)) * (rng.random((30, 9)) < 0.4), rng.integers(0, 5, 30), str(tmp_path / "a.svm")
    )
    X, y = load_svmlight_file(str(tmp_path / "a.svm"), zero_based=True)
    features, labels = read_dataset(tmp_path / "a.svm")
    assert_same_data([features], [as_features(X)])
    assert labels.indices.tolist() == y.tolist()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0 1:1\n-1 2:1\n", "data.svm, line 2, column 1: label '-1'"),
        ("0 1:1\n\n# x\n0 1:one\n", "data.svm, line 4, column 5: "),
        ("0 1:1\n1.5 1:1\n", "data.svm, line 2, column 1: label '1.5'"),
        ("0 1:1\n0 -1:1\n", "data.svm, line 2, column 3: "),
        ("0 1:1\n0 -1:1\n-1 1:1\n", "data.svm, line 2, column 3: "),
        ("0 1:1\n0 1:1 2:x\n", "data.svm, line 2, column 9: value 'x'"),
        ("0 1:1\n  qid:3  +1,2.0,x 1:1\n", "data.svm, line 2, column 17: label 'x'"),
        ("0 1:1\n  qid:3  +1,2.0,9999999999 1:1\n", "data.svm, line 2, column 17: label id '9999999999'"),
        ("0 1:1\n+1,2.0 qid:3   2:1 1:x # z\n", "data.svm, line 2, column 22: value 'x'"),
        ("0 1:1\n\n   1:1  qid:4 x\n", "data.svm, line 3, column 15: 'x' is not of the form feature:value"),
        ("x 1:1\n", "data.svm, line 1, column 1: label 'x'"),
    ],
)
def test_malformed_svmlight_names_the_place(tmp_path, text, place):
    (tmp_path / "data.svm").write_text(text)
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path / "data.svm")
    assert place in str(caught.value)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
@pytest.mark.parametrize("container", ["matrix", "array"])
def test_npz_of_scipy_is_read(tmp_path, kind, container):
    sparse = pytest.importorskip("scipy.sparse")
    matrices = []
    for rows in DATA:
        values = np.ones(rows.nnz) if rows.data is None else rows.data
        made = getattr(sparse, f"csr_{container}")((values, rows.indices, rows.indptr), shape=rows.shape)
        matrices.append(made.asformat(kind))
    for name, matrix in zip("XY", matrices, strict=True):
        sparse.save_npz(tmp_path / f"{name}.npz", matrix)
    data = read_dataset(tmp_path / "X.npz", tmp_path / "Y.npz")
    assert_same_data(data, DATA)
    assert data.labels.shape == DATA.labels.shape
    assert read_dataset(tmp_path / "X.npz").labels.nnz == 0


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_labels_are_stored_as_ones(tmp_path, kind):
    sparse = pytest.importorskip("scipy.sparse")
    sparse.save_npz(tmp_path / "X.npz", sparse.eye_array(3, format="csr"))
    for value in (-1, 2, 0.5):
        sparse.save_npz(tmp_path / "Y.npz", sparse.csr_array(np.diag([1, value, 1])).asformat(kind))
        with pytest.raises(DataError, match=f"Y.npz: Y, row 1: {value}. .* values other than 0 and 1"):
            read_dataset(tmp_path / "X.npz", tmp_path / "Y.npz")


def test_npz_that_does_not_fit_is_refused(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    sparse.save_npz(tmp_path / "X.npz", sparse.eye_array(3, format="csr"))
    sparse.save_npz(tmp_path / "Y.npz", sparse.eye_array(4, format="csr"))
    sparse.save_npz(tmp_path / "dia.npz", sparse.eye_array(3, format="dia"))
    sparse.save_npz(tmp_path / "row.npz", sparse.coo_array(np.ones(3)))
    sparse.save_npz(tmp_path / "complex.npz", sparse.eye_array(3, format="csr", dtype=np.complex128))
    write_npz(tmp_path / "both.npz", DATA)
    (tmp_path / "text.txt").write_text("1 1 1\n0 0:1\n")
    np.save(tmp_path / "Y.npy", np.eye(3))
    np.savez(tmp_path / "other.npz", y=np.eye(3))
    for arguments, message in (
        (("X.npz", "Y.npz"), "X has 3 rows, but Y has 4"),
        (("dia.npz",), "'dia' is not one of csr, csc, coo"),
        (("row.npz",), "row.npz: the array has one dimension; save a matrix"),
        (("complex.npz",), r"data holds complex128, which does not fit float64; save X.astype\('float64'\)"),
        (("both.npz", "Y.npz"), "already contains labels"),
        (("X.npz", "both.npz"), "both.npz: contains a whole data set"),
        (("text.txt", "Y.npz"), "this file has its own"),
        (("X.npz", "text.txt"), "text.txt: the file is text, not .npz; labels must be one SciPy sparse matrix in .npz"),
        (("X.npz", "Y.npy"), "Y.npy: the file is a NumPy array .*; labels must be one SciPy sparse matrix"),
        (("X.npz", "other.npz"), "other.npz: the file lacks the arrays .*; labels must be one SciPy sparse matrix"),
    ):
        with pytest.raises(DataError, match=message):
            read_dataset(*(tmp_path / name for name in arguments))
