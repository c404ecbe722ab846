"""Sparse rows: S17's canonical form, choosing rows, and the check of arrays from elsewhere."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import TOO_LARGE, Dataset, SparseRows, rows_from_lists

N_COLUMNS = 5
sixteenths = st.integers(-32, 32).map(lambda i: i / 16)
row_lists = st.lists(st.lists(st.tuples(st.integers(0, N_COLUMNS - 1), sixteenths), max_size=6), max_size=6)


def make(rows, with_values=True, n_columns=N_COLUMNS):
    indptr = np.cumsum([0] + [len(row) for row in rows], dtype=np.int64)
    pairs = [pair for row in rows for pair in row]
    data = np.array([value for _, value in pairs], dtype=np.float32) if with_values else None
    return SparseRows(indptr, np.array([i for i, _ in pairs], dtype=np.int32), data, n_columns)


def dense(rows):
    out = np.zeros(rows.shape)
    for i in range(rows.n_rows):
        np.add.at(out[i], *rows.row(i))
    return out


def assert_valid(rows, has_values):
    rows.check("rows")
    assert [rows.indptr.dtype, rows.indices.dtype] == [np.int64, np.int32]
    assert rows.data.dtype == np.float32 if has_values else rows.data is None


@settings(deadline=None, derandomize=True)
@given(row_lists)
def test_s17_canonical_rows_ascend_without_zeros_and_keep_their_sums(lists):
    rows = make(lists)
    canonical = rows.canonical()
    assert_valid(canonical, has_values=True)
    assert canonical.shape == rows.shape
    assert np.array_equal(dense(canonical), dense(rows))
    assert all(np.all(np.diff(canonical.row(i)[0]) > 0) for i in range(rows.n_rows))
    assert canonical.data.all()


@settings(deadline=None, derandomize=True)
@given(row_lists)
def test_s17_canonical_labels_are_distinct(lists):
    canonical = make(lists, with_values=False).canonical()
    assert_valid(canonical, has_values=False)
    assert [canonical.row(i)[0].tolist() for i in range(len(lists))] == [sorted({i for i, _ in row}) for row in lists]


def test_s17_canonical_rows_are_not_copied_where_nothing_changes():
    rows = make([[(1, 2.0), (3, 1.0)], []])
    canonical = rows.canonical()
    assert np.shares_memory(canonical.indices, rows.indices) and np.shares_memory(canonical.data, rows.data)


def test_s17_sums_are_made_in_float64_in_order_and_rounded_once():
    values = np.array([1e8, 4.0, 4.0, -1e8])
    rows = SparseRows(np.array([0, 4]), np.zeros(4, dtype=np.int64), values, 1)
    assert rows.canonical().data.tolist() == [8.0]
    tenths = SparseRows(np.array([0, 1]), np.array([0]), np.array([0.1]), 1).canonical()
    assert_valid(tenths, has_values=True)
    assert tenths.data[0] == np.float32(0.1)


def test_s17_a_sum_too_large_for_float32_is_refused():
    with pytest.raises(DataError, match="too large for float32"):
        make([[(0, 3e38), (0, 3e38)]]).canonical()
    with pytest.raises(DataError, match="too large for float32"):
        SparseRows(np.array([0, 1]), np.array([0]), np.array([-TOO_LARGE]), 1).canonical()


def test_s17_ids_of_the_largest_shapes_do_not_overflow():
    largest = 2**31 - 2
    rows = make([[]] * 1000 + [[(largest, 1.0), (0, 2.0)]], n_columns=2**31 - 1)
    assert [a.tolist() for a in rows.canonical().row(1000)] == [[0, largest], [2.0, 1.0]]


def test_s17_shapes_without_rows_or_columns():
    for rows in (make([]), make([[], []], n_columns=0), make([[]], with_values=False)):
        assert rows.canonical().shape == rows.shape
        rows.check("rows")


@settings(deadline=None, derandomize=True)
@given(row_lists, st.data())
def test_take_agrees_with_scipy(lists, data):
    rows = make(lists)
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8) if lists else st.just([]))
    taken = rows.take(np.array(chosen))
    whole = sp.csr_array((rows.data, rows.indices, rows.indptr), shape=rows.shape)
    assert_valid(taken, has_values=True)
    assert np.array_equal(dense(taken), whole.toarray()[np.array(chosen, dtype=int)])


@settings(deadline=None, derandomize=True)
@given(row_lists, st.booleans(), st.data())
def test_marked_values_stay_in_their_rows(lists, with_values, data):
    rows, n = make(lists, with_values), sum(map(len, lists))
    assert rows.row_of().tolist() == [i for i, row in enumerate(lists) for _ in row]
    kept = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    some = rows.where(np.array(kept, dtype=bool))
    assert_valid(some, with_values)
    marks = iter(kept)
    expected = make([[pair for pair in row if next(marks)] for row in lists], with_values)
    assert some.shape == rows.shape and np.array_equal(some.indptr, expected.indptr)
    assert np.array_equal(some.indices, expected.indices) and np.array_equal(some.data, expected.data)


def test_a_data_set_takes_features_and_labels_together():
    dataset = Dataset(make([[(0, 1.0)], [(1, 2.0)]]), rows_from_lists([[2], []], 3)).take([1, 0, 0])
    assert dataset.n_samples == 3
    assert [dataset.labels.row(i)[0].tolist() for i in range(3)] == [[], [2], [2]]
    assert dense(dataset.features)[:, :2].tolist() == [[0, 2], [1, 0], [1, 0]]


def test_rows_from_lists():
    rows = rows_from_lists([[3, 1, 3], [], [0]], 4)
    assert_valid(rows, has_values=False)
    assert [rows.row(i)[0].tolist() for i in range(3)] == [[1, 3], [], [0]]
    assert rows.row(0)[1].tolist() == [1.0, 1.0]
    assert rows_from_lists([], 4).shape == (0, 4)
    for bad in (4, -1):
        with pytest.raises(DataError, match=r"outside 0\.\.3"):
            rows_from_lists([[bad]], 4)


@pytest.mark.parametrize(
    ("indptr", "indices", "data", "message"),
    [
        ([], [], [], "indptr"),
        ([1, 2], [0, 0], [1, 1], "indptr"),
        ([0, 2, 1, 2], [0, 0], [1, 1], "indptr"),
        ([0, 1], [0, 0], [1, 1], "indptr"),
        ([0, 0, 1], [5], [1], r"row 1 contains an id outside 0\.\.4"),
        ([0, 1, 1, 2], [0, -1], [1, 1], "row 2 contains an id"),
        ([0, 1], [0], [1, 1], "1 ids but 2 values"),
        ([0, 0, 2], [0, 1], [1, np.nan], "row 1 contains a value that is not finite"),
    ],
)
def test_check_names_what_is_inconsistent(indptr, indices, data, message):
    arrays = (np.array(a, dtype=t) for a, t in ((indptr, np.int64), (indices, np.int32), (data, np.float32)))
    with pytest.raises(DataError, match=f"features: .*{message}"):
        SparseRows(*arrays, N_COLUMNS).check("features")


@pytest.mark.parametrize("wrong", [-(2**32) + 1, -(2**31) - 1, -1, N_COLUMNS, 2**32 + 1])
def test_ids_out_of_range_are_refused_and_do_not_wrap(wrong):
    rows = SparseRows(np.array([0, 0, 2]), np.array([1, wrong]), None, N_COLUMNS)
    with pytest.raises(DataError, match="labels: row 1 contains an id"):
        rows.indicator("labels")
    for refuse in (rows.canonical, lambda: rows.check("rows")):
        with pytest.raises(DataError, match=r"rows: row 1 contains an id outside 0\.\.4"):
            refuse()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
def test_an_unsigned_indptr_may_not_fall_and_counts_like_any_other(dtype):
    with pytest.raises(DataError, match="indptr does not describe rows"):
        SparseRows(np.array([0, 2, 1, 3], dtype), np.arange(3, dtype=np.int32), None, N_COLUMNS).check("rows")
    rows = SparseRows(np.array([0, 2, 2, 3], dtype), np.arange(3, dtype=np.int32), None, N_COLUMNS)
    assert rows.is_canonical() == (dtype != np.uint64) and rows.canonical().is_canonical()
    assert rows.take([2, 0]).indices.tolist() == [2, 0, 1] and rows.take([2, 0]).indptr.dtype == np.int64
    falling = SparseRows(np.array([0, 2, 2, 3], dtype), np.arange(3, dtype=np.int32)[::-1], None, N_COLUMNS)
    assert falling.canonical().indices.tolist() == [1, 2, 0] and falling.row_of().tolist() == [0, 0, 2]


def test_rows_are_taken_by_number_or_by_mask():
    rows = SparseRows(np.array([0, 1, 3]), np.array([4, 0, 2], np.int32), None, 5)
    for some in ([1], np.array([False, True]), np.array([1], np.uint8)):
        assert rows.take(some).indices.tolist() == [0, 2]
    assert rows.take([]).n_rows == 0
    with pytest.raises(TypeError, match="Cannot cast"):
        SparseRows(np.array([0, 1.5, 2.9]), np.arange(2, dtype=np.int32), None, 2).take([0])
    for wrong in ([2], [-1], 1, [[0, 1]], [0.9], [True], np.array([True, False, True])):
        with pytest.raises(DataError, match="rows to take: give whole numbers from 0 to 1, or a mask of all rows"):
            rows.take(wrong)
