"""Samples and labels in forms that must be refused, with the reason."""

import numpy as np
import pytest
from scipy import sparse

from slide_fast import SlideClassifier, SlideTextClassifier
from slide_fast.estimator.validation import as_features, as_labels
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.sparse_rows import SparseRows

pd = pytest.importorskip("pandas")

X = np.eye(6, dtype=np.float32).repeat(10, axis=0)
Y = np.arange(6).repeat(10)


def small(**parameters):
    return SlideClassifier(**{"hidden": 8, "micro_batch": 16, "epochs": 2, "n_workers": 1} | parameters)


@pytest.mark.parametrize("value", [-1, 2, 0.5, 0.01])
@pytest.mark.parametrize("form", [np.array, sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_an_indicator_holds_zeros_and_ones_only(form, value):
    table = np.eye(6)[Y]
    table[3, 4] = value
    with pytest.raises(DataError, match=rf"^y, row 3: {value}.* values other than 0 and 1"):
        small().fit(X, form(table))
    model = small().fit(X, form(np.eye(6)[Y]))
    with pytest.raises(DataError, match="values other than 0 and 1"):
        model.score(X, form(table))


def test_rows_with_values_are_no_labels():
    rows = SparseRows(np.array([0, 1, 2]), np.array([0, 1], np.int32), np.array([1, 0.5], np.float32), 2)
    with pytest.raises(DataError, match="^y, row 1: 0.5"):
        as_labels(rows)


def test_a_label_that_a_coo_matrix_stores_twice_is_there_once():
    twice = sparse.coo_array((np.ones(3), (np.array([0, 0, 1]), np.array([1, 1, 0]))), shape=(2, 2))
    assert as_labels(twice).rows.indices.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "bsr"])
def test_zeros_that_an_indicator_stores_are_no_labels(kind, dtype):
    places = np.array([0, 0, 1, 2]), np.array([1, 2, 0, 2])
    stored = sparse.coo_array((np.array([1, 0, 1, 0], dtype), places), shape=(3, 3)).asformat(kind)
    rows = as_labels(stored).rows
    assert rows.indices.tolist() == [1, 0] and rows.indptr.tolist() == [0, 1, 2, 2]


def test_one_row_of_a_sparse_array_is_no_table():
    model = small().fit(sparse.csr_array(X), Y)
    for call in (model.predict, model.predict_proba, model.transform, as_features):
        with pytest.raises(DataError, match=r"X has 1 dimensions: expected 2D array, .* X.reshape\(1, -1\)"):
            call(sparse.csr_array(X)[0])
    with pytest.raises(DataError, match="y has 1 dimensions"):
        small().fit(X, sparse.coo_array(np.ones(60)))


def test_masked_values_are_missing():
    with pytest.raises(DataError, match="X has masked values"):
        small().fit(np.ma.masked_array(X, X > 0), Y)
    with pytest.raises(DataError, match="sample_weight has masked values"):
        small().fit(X, Y, np.ma.masked_array(np.ones(60), np.arange(60) == 3))
    assert small().fit(np.ma.masked_array(X), Y).n_features_in_ == 6


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", object])
def test_missing_values_of_typed_columns_are_named_as_nan_is(dtype):
    columns = {"a": [0, 1] * 30, "b": [1] * 7 + [pd.NA] * 53}
    with pytest.raises(DataError, match="^X, row 7: Input X contains NaN, which is not finite; remove or replace it$"):
        small().fit(pd.DataFrame(columns, dtype=dtype), Y)


def test_column_ids_beyond_32_bits_do_not_wrap():
    rows = sparse.csr_array(X)
    rows.indices = rows.indices.astype(np.int64)
    rows.indices[0] += 2**32
    with pytest.raises(DataError, match="X: it stores a value in column 4294967296 of 6"):
        as_features(rows)


def test_values_too_large_for_the_network_are_refused():
    model = small(epochs=20, learning_rate=0.05).fit(X, Y)
    row = np.full((1, 6), 3e38, np.float32)
    rows = np.concatenate([X[:9], row])
    for call in (model.predict, model.predict_proba, model.decision_function, model.predict_topk):
        for given, number in ((row, 0), (rows, 9)):
            with pytest.raises(DataError, match=f"row {number}: the values are too large: scores are not finite"):
                call(given)
    with pytest.raises(DataError, match="scores are not finite"):
        model.score(rows, np.zeros(10, int))


def test_a_tokenizer_returns_a_list():
    texts = ["red apple", "green car"] * 20
    with pytest.raises(DataError, match="the tokenizer must return a list of str for each text .*it returned a str"):
        SlideTextClassifier(tokenizer=str.strip, n_workers=1).fit(texts, ["a", "b"] * 20)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.int64])
def test_label_ids_of_every_integer_type_are_ids(dtype):
    top = min(np.iinfo(dtype).max, 300)
    model = SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(np.eye(4), [{dtype(top - i)} for i in range(4)])
    assert model.classes_.dtype == np.int64 and len(model.classes_) == top + 1


def test_labels_in_svmlight_text_are_values_of_the_classes(tmp_path):
    path = tmp_path / "new.svm"
    path.write_text("1 0:1\n2 1:1\n3 2:1\n")
    model = SlideClassifier(hidden=16, epochs=20, micro_batch=16, learning_rate=0.05, n_workers=1)
    X, y = np.eye(3).repeat(40, axis=0), np.repeat([1, 2, 3], 40)
    assert model.fit(X, y, eval_set=path).history_[-2]["precision_at_1"] == 1
    assert model.score(path) == 1
    counts = model.partial_fit(path).model_.label_counts
    assert counts.tolist() == [41, 41, 41]
    path.write_text("1 0:1\n7 1:1\n")
    assert model.score(path) == 0.5
    with pytest.raises(DataError, match=r"y of eval_set holds 7 \(first in row 1\), not among the 3 known labels"):
        model.fit(X, y, eval_set=path)
    path.write_text("0 0:1\n1 1:1\n2 2:1\n")
    names = SlideClassifier(hidden=16, epochs=20, micro_batch=16, learning_rate=0.05, n_workers=1)
    assert names.fit(X, np.array(list("abc"))[y - 1]).score(path) == 1  # no name is a number, so these are columns


def test_labels_of_a_file_are_columns_where_training_had_columns(tmp_path):
    path = tmp_path / "new.svm"
    path.write_text("0 0:1\n2 2:1\n")
    X, y = np.eye(3).repeat(40, axis=0), np.eye(3, dtype=int).repeat(40, axis=0)
    model = SlideClassifier(hidden=16, micro_batch=16, learning_rate=0.05, n_workers=1)
    for _ in range(20):
        model.partial_fit(X, y, classes=["a", "b", "c"])
    assert model.score(path) == 1


def test_columns_below_zero_are_refused_as_those_beyond_the_last(tmp_path):
    X, y = np.eye(6), np.arange(6)
    broken = sparse.csr_array(X)
    broken.indices = broken.indices.astype(np.int64) - 2**32
    with pytest.raises(DataError, match="X: it stores a value in column -429496729[0-9] of 6; make the matrix again"):
        SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(broken, y)
    with pytest.raises(DataError, match="it stores a value in column -429496729"):
        SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(X, broken)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.uint32])
def test_rows_whose_ends_fall_are_refused(dtype):
    rows = SparseRows(np.array([0, 3, 1, 4], dtype), np.array([0, 1, 2, 3], np.int32), np.ones(4, np.float32), 6)
    with pytest.raises(DataError, match="X: indptr does not describe rows of 4 stored values"):
        as_features(rows)
    with pytest.raises(DataError, match="X: indptr, indices and data must be arrays of NumPy"):
        as_features(SparseRows([0, 1], [0], None, 6))


@pytest.mark.parametrize("weights", [np.ones(6), [1, 2], pd.Series([1.0] * 6), 3])
def test_class_weights_that_are_no_dict_are_refused(weights):
    with pytest.raises(ConfigError, match="class_weight is .*it must be balanced, propensity, a dict of"):
        SlideClassifier(class_weight=weights).fit(np.eye(6), np.arange(6))


def test_weights_are_numbers():
    X, y = np.eye(6), np.arange(6)
    with pytest.raises(DataError, match="class_weight holds something other than numbers"):
        SlideClassifier(class_weight={0: "x"}, n_workers=1).fit(X, y)
    model = SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(X, y)
    with pytest.raises(DataError, match="sample_weight holds something other than numbers"):
        model.score(X, y, sample_weight="a")


def test_scores_that_overflow_to_minus_infinity_are_no_answer():
    rng = np.random.default_rng(0)
    X, y = rng.random((60, 1000)), rng.integers(0, 4, 60)
    model = SlideClassifier(hidden=(8,), epochs=3, micro_batch=16, n_workers=1, random_state=0).fit(X, y)
    large = X.copy()
    large[7] = 3e38
    calls = (model.predict, model.transform, lambda X: model.score(X, y), lambda X: model.predict_topk(X, k=1))
    for call in calls:
        with pytest.raises(DataError, match="row 7: the values are too large"):
            call(large)


@pytest.mark.parametrize(
    "changed",
    [
        {"indices": np.array([0.5, 1])}, {"indices": np.array([[0], [1]])}, {"indices": np.array([True, False])},
        {"data": np.array([1j, 1])}, {"data": np.array(["a", "b"])}, {"data": np.array([[1.0], [1.0]])},
        {"indptr": np.array([0.0, 1, 2])}, {"n_columns": 2.0}, {"n_columns": None},
    ],
)  # fmt: skip
def test_rows_of_other_arrays_are_refused(changed):
    right = {"indptr": np.array([0, 1, 2]), "indices": np.array([0, 1]), "data": np.ones(2), "n_columns": 2}
    SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(SparseRows(**right), [0, 1])
    with pytest.raises(DataError, match="X: (indptr and indices must be one-dimensional|n_columns is)"):
        SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(SparseRows(**right | changed), [0, 1])


@pytest.mark.parametrize("X", [np.array([["NaT", "2020-01-01"]] * 4, "M8[D]"), [[10**400, 1]] * 4])
def test_dates_and_endless_numbers_are_no_features(X):
    with pytest.raises((TypeError, DataError), match="no table of numbers"):
        SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(X, [0, 1] * 2)


@pytest.mark.parametrize("weights", [np.full(4, 1e308), np.ones(4) * 1j, [10**400] * 4])
def test_weights_that_are_too_large_or_complex_are_refused(weights):
    model = SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(np.eye(4), range(4))
    for call in (model.fit, model.score):
        with pytest.raises(DataError, match="sample_weight"):
            call(np.eye(4), range(4), weights)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.coo_array, sparse.csc_array, pd.DataFrame])
@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (-np.inf, "infinity"), (1e300, "too large for float32")])
def test_the_first_row_of_a_value_that_is_not_finite_is_named(make, value, what):
    X = np.ones((9, 3))
    X[[3, 5], [1, 0]] = value
    for call in (SlideClassifier(hidden=4, n_workers=1).fit, lambda X, y: as_features(X)):
        with pytest.raises(DataError, match=f"X, row 3: .*{what}"):
            call(make(X), np.arange(9))


@pytest.mark.parametrize("value", [-1, np.nan, np.inf])
def test_the_place_of_a_weight_that_is_none_is_named(value):
    X, y, weights = np.eye(6), np.arange(6), np.ones(6)
    model = SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(X, y)
    weights[4:] = value
    for call in (model.fit, model.score):
        with pytest.raises(DataError, match=f"sample_weight, row 4: {value:.1f} is negative or not finite"):
            call(X, y, weights)
    with pytest.raises(DataError, match="class_weight, label 'b': .* is negative or not finite"):
        SlideClassifier(class_weight={"a": 2, "b": value}).fit(X, ["a", "b"] * 3)


def test_the_place_of_a_weight_that_is_missing_is_named():
    weights = pd.Series([1, 1, 1, 1, pd.NA, 1], dtype=object)
    with pytest.raises(DataError, match="^sample_weight, row 4: nan is negative or not finite; give numbers >= 0$"):
        small().fit(np.eye(6), np.arange(6), weights)
    with pytest.raises(DataError, match="^class_weight, label 'b': nan is negative or not finite; give numbers >= 0$"):
        small().set_params(class_weight={"a": 2, "b": pd.NA}).fit(np.eye(6), ["a", "b"] * 3)


def test_a_class_has_one_weight():
    for weights in ({0: [1, 2], 1: [3, 4]}, {0: pd.Series([1.0])}):
        with pytest.raises(DataError, match="class_weight, label 0: holds several numbers"):
            SlideClassifier(class_weight=weights).fit(np.eye(2), [0, 1])
