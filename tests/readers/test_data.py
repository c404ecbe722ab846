"""Data sets to files and back, and files that are no data sets."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slide_fast.data import NPZ_KEYS, read_dataset, read_npz, read_xmc, write_npz, write_xmc
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists


def some_data(n_samples=50, seed=0):
    rng = np.random.default_rng(seed)
    features = rows_from_lists([rng.integers(0, 1000, n).tolist() for n in rng.integers(0, 9, n_samples)], 1000)
    values = rng.standard_normal(features.nnz).astype(np.float32)
    labels = rows_from_lists([rng.integers(0, 30, n).tolist() for n in rng.integers(0, 4, n_samples)], 30)
    return Dataset(SparseRows(features.indptr, features.indices, values, 1000), labels)


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        for name in ("indptr", "indices", "data"):
            left, right = getattr(x, name), getattr(y, name)
            assert left is right is None or (left.dtype == right.dtype and np.array_equal(left, right))


@pytest.mark.parametrize("write", [write_xmc, write_npz])
@pytest.mark.parametrize("n_samples", [0, 1, 2500])
def test_what_is_written_reads_back_the_same(tmp_path, write, n_samples):
    path = tmp_path / ("data.npz" if write is write_npz else "data.txt")
    dataset = some_data(n_samples)
    write(path, dataset)
    assert_equal(read_dataset(path), dataset)
    write(path, some_data(3, seed=1))
    assert_equal(read_dataset(path), some_data(3, seed=1))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("write", [write_xmc, write_npz])
def test_the_same_data_give_the_same_bytes(tmp_path, write):
    for name in "ab":
        write(tmp_path / name, some_data())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_features_without_values_are_written_as_ones(tmp_path):
    rows = rows_from_lists([[0, 2], [], [1]], 3)
    write_xmc(tmp_path / "data.txt", Dataset(rows, rows))
    assert (tmp_path / "data.txt").read_bytes() == b"3 3 3\n0,2 0:1 2:1\n \n1 1:1\n"
    write_npz(tmp_path / "data.npz", Dataset(rows, rows))
    assert_equal(read_dataset(tmp_path / "data.npz"), read_dataset(tmp_path / "data.txt"))


@settings(deadline=None, derandomize=True)
@given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False).filter(bool)
        | st.floats(-1, 1, width=32).filter(bool)
    )
)
def test_s17_text_holds_every_float32_exactly(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "floats.txt"
    indices = np.arange(len(values), dtype=np.int32)
    features = SparseRows(np.array([0, len(values)]), indices, np.array(values, dtype=np.float32), len(values))
    dataset = Dataset(features, rows_from_lists([[]], 1))
    write_xmc(path, dataset)
    assert_equal(read_xmc(path), dataset)


def test_s17_decimals_are_written_as_they_were_read(tmp_path):
    text = b"2 9 4\n1,3 0:0.14427 1:-0.5 2:12.5 8:0.000123\n 1:1 2:16777216\n"
    (tmp_path / "in.txt").write_bytes(text)
    write_xmc(tmp_path / "out.txt", read_xmc(tmp_path / "in.txt"))
    assert (tmp_path / "out.txt").read_bytes() == text


@pytest.mark.parametrize("write", [write_xmc, write_npz])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, write):
    (tmp_path / "data").write_text("old")
    good = some_data()
    bad = SparseRows(good.features.indptr, good.features.indices, np.full(good.features.nnz, np.inf), 1000)
    with pytest.raises(DataError, match="data: X: row . contains a value that is not finite"):
        write(tmp_path / "data", Dataset(bad, good.labels))
    assert (tmp_path / "data").read_text() == "old"
    large = SparseRows(good.features.indptr, good.features.indices, np.full(good.features.nnz, 1e300), 1000)
    few = good.labels.take(np.arange(good.n_samples - 1))
    for features, labels, message in (
        (large, good.labels, "data: X: a value is too large for float32"),
        (good.features, few, f"data: {good.n_samples} samples, but labels for {good.n_samples - 1}"),
    ):
        with pytest.raises(DataError, match=message):
            write(tmp_path / "data", Dataset(features, labels))
        assert (tmp_path / "data").read_text() == "old"
    with pytest.raises(DataError, match="data: samples: of type tuple; give a Dataset of features and labels"):
        write(tmp_path / "data", tuple(good))
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "folder", tmp_path / "absent" / "data"):
        with pytest.raises(DataError, match=f"{target}: the file cannot be written: "):
            write(target, good)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "folder"]


def arrays_of(dataset):
    buffer = io.BytesIO()
    features, labels = dataset
    arrays = (features.indptr, features.indices, features.data, features.shape, labels.indptr, labels.indices)
    np.savez(buffer, **dict(zip(NPZ_KEYS, (*arrays, labels.shape), strict=True)))
    return dict(np.load(io.BytesIO(buffer.getvalue())))


def test_npz_of_other_types_and_orders_is_made_canonical(tmp_path):
    arrays = {
        "X_indptr": np.array([0, 3, 3], dtype=np.uint64),
        "X_indices": np.array([2, 0, 2], dtype=">i2"),
        "X_data": np.array([0.1, 0.0, 0.2]),
        "X_shape": np.array([2, 3], dtype=np.int32),
        "Y_indptr": np.array([0, 2, 3], dtype=np.int32),
        "Y_indices": np.array([1, 1, 0], dtype=np.uint8),
        "Y_shape": np.array([2, 2]),
    }
    np.savez_compressed(tmp_path / "data.npz", **arrays, names=np.array(["more", "is", "ignored"]))
    (tmp_path / "data.txt").write_bytes(b"2 3 2\n1 2:0.1 2:0.2\n0\n")
    assert_equal(read_dataset(tmp_path / "data.npz"), read_dataset(tmp_path / "data.txt"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Y_shape": None, "X_data": None}, "the file lacks the arrays X_data, Y_shape; it must hold X_indptr, "),
        ({"X_data": np.array(["a"])}, "X_data must be one-dimensional and hold numbers"),
        ({"X_data": np.array([1j])}, "X_data must be one-dimensional and hold numbers"),
        ({"X_data": np.array([{}])}, "not an intact .npz file of plain arrays"),
        ({"X_indices": np.array([0.5])}, "X_indices must be one-dimensional and hold whole numbers"),
        ({"Y_indptr": np.array(3)}, "Y_indptr must be one-dimensional"),
        ({"X_indptr": np.array([0, 2**64 - 1, 1], dtype=np.uint64)}, "X: indptr does not describe rows of 1 stored"),
        ({"X_indices": np.array([2**32])}, r"X: row 1 contains an id outside 0\.\.2"),
        ({"X_data": np.array([np.nan])}, "X: row 1 contains a value that is not finite"),
        ({"X_data": np.array([1e39])}, "too large for float32"),
        ({"X_data": np.array([1.0, 2.0])}, "X: 1 ids but 2 values"),
        ({"X_shape": np.array([2])}, r"X_shape is \[2\]; to match X_indptr it must be \[2, columns\]"),
        ({"X_shape": np.array([3, 3])}, r"X_shape is \[3, 3\]"),
        ({"X_shape": np.array([2, -1])}, r"X_shape is \[2, -1\]"),
        ({"Y_shape": np.array([2, 2**31])}, r"columns below 2147483648"),
        ({"Y_indptr": np.array([0, 1]), "Y_shape": np.array([1, 3])}, "X has 2 rows, but Y has 1"),
    ],
)
def test_npz_that_is_refused(tmp_path, changes, message):
    rows = rows_from_lists([[], [1]], 3)
    valued = SparseRows(rows.indptr, rows.indices, np.ones(1, dtype=np.float32), 3)
    arrays = {**arrays_of(Dataset(valued, rows)), **changes}
    path = tmp_path / "data.npz"
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_files_that_are_no_npz_are_refused(tmp_path):
    write_npz(tmp_path / "whole.npz", some_data())
    whole = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "data.npz"
    damaged = [b"PK\x03\x04", whole[:-1], whole[: len(whole) // 2], whole.replace(b"NUMPY", b"numpy")]
    others = [(b"", "is empty"), (b"1 2 3\n", "is text, not .npz; "), (b"\x93NUMPY\x01\0", r"is a NumPy array"),
              (b"\x1f\x8b\x08\0", "is compressed with gzip; unpack it first")]  # fmt: skip
    for content, message in [*((content, "not an intact .npz file") for content in damaged), *others]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_dataset(path)
    np.save(path.with_suffix(".npy"), np.ones(3))
    path.with_suffix(".npy").rename(path)
    with pytest.raises(DataError, match="is a NumPy array"):
        read_dataset(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_dataset(tmp_path / "absent.npz")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_changed_byte_in_npz_raises_data_errors_only(tmp_path_factory, place, byte):
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    write_npz(path, some_data(5))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = byte
    path.write_bytes(content)
    try:
        dataset = read_npz(path)
    except DataError:
        return
    assert_equal(dataset, some_data(5))


def test_the_arrays_stand_in_the_file_uncompressed(tmp_path):
    write_npz(tmp_path / "data.npz", some_data())
    with zipfile.ZipFile(tmp_path / "data.npz") as archive:
        assert sorted(archive.namelist()) == sorted(f"{key}.npy" for key in NPZ_KEYS)
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


@pytest.mark.parametrize("write", [write_xmc, write_npz])
@pytest.mark.parametrize(
    "share", [range(0, 0), range(0, 7), range(5, 31), range(30, 40), range(40, 40), range(3, 40, 4)]
)
def test_a_share_of_a_file_is_these_samples(tmp_path, monkeypatch, write, share):
    monkeypatch.setattr("slide_fast.data.BLOCK_BYTES", 100)
    path = tmp_path / ("data.npz" if write is write_npz else "data.txt")
    write(path, some_data(40))
    asked = []
    found = read_dataset(path, share=lambda n_samples: asked.append(n_samples) or share)
    assert asked == [40]
    assert_equal(found, some_data(40).take(np.array(share, dtype=np.int64)))


@pytest.mark.parametrize("write", [write_xmc, write_npz])
@pytest.mark.parametrize("share", [range(39, -1, -1), range(45), range(-1, 3), [0, 1]])
def test_a_share_is_an_ascending_range_within_the_file(tmp_path, write, share):
    path = tmp_path / ("data.npz" if write is write_npz else "data.txt")
    write(path, some_data(40))
    with pytest.raises(ConfigError, match=r"share.* an ascending range within range\(40\)"):
        read_dataset(path, share=lambda n_samples: share)


@pytest.mark.parametrize(
    "arrays",
    [
        {"format": b"coo", "row": [0], "col": [0, 1, 2], "data": np.ones(3)},
        {"format": b"coo", "row": [0, 1, 1], "col": [0], "data": np.ones(3)},
        {"format": b"csc", "indices": [0, 1], "indptr": [0, 1, 2], "data": np.ones(2)},
        {"format": b"csc", "indices": [0, 1], "indptr": [0, 2, 1, 2], "data": np.ones(2)},
    ],
)
def test_a_matrix_whose_arrays_do_not_fit_together_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", shape=np.array([2, 3]), **{name: np.array(value) for name, value in arrays.items()})
    with pytest.raises(DataError, match="save the matrix again"):
        read_dataset(tmp_path / "x.npz")


def test_numbers_of_rows_may_be_unsigned(tmp_path):
    arrays = {"row": np.array([0, 1], dtype=np.uint64), "col": np.array([0, 2]), "data": np.ones(2)}
    np.savez(tmp_path / "x.npz", format=np.array(b"coo"), shape=np.array([2, 3]), **arrays)
    assert read_dataset(tmp_path / "x.npz").features.indices.tolist() == [0, 2]


@pytest.mark.parametrize("indptr", [[0, 2**62, 2**62, 2**62], [1, 2, 2, 3], []])
def test_columns_that_do_not_begin_or_end_where_they_should_are_refused(tmp_path, indptr):
    arrays = {"indices": np.array([0, 1]), "indptr": np.array(indptr, dtype=np.int64), "data": np.ones(2)}
    np.savez(tmp_path / "x.npz", format=np.array(b"csc"), shape=np.array([2, 3]), **arrays)
    with pytest.raises(DataError, match="indptr does not describe the columns"):
        read_dataset(tmp_path / "x.npz")


def test_more_rows_than_memory_holds_are_refused(tmp_path):
    arrays = {"row": np.array([0, 2**31 - 2]), "col": np.array([0, 1]), "data": np.ones(2)}
    np.savez(tmp_path / "x.npz", format=np.array(b"coo"), shape=np.array([2**31 - 1, 3]), **arrays)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError, match="2147483647 rows need"):
        patch.setattr("slide_fast.parallel.machine.memory_left", lambda: 2**30)
        read_dataset(tmp_path / "x.npz")


def test_values_of_16_bits_are_read_without_a_warning():
    values = SparseRows(np.array([0, 1]), np.array([0], dtype=np.int32), np.array([60_000], dtype=np.float16), 1)
    assert values.canonical().data.tolist() == [60_000]
