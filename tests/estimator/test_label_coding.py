"""Labels come back as what they were, or are refused in one line; labels that nobody knows are not dropped."""

import collections
import dataclasses
import datetime
import decimal
import json
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slide_fast import SlideClassifier
from slide_fast.estimator.label_coding import from_json
from slide_fast.estimator.label_decoding import classes_of
from slide_fast.estimator.validation import as_classes, as_labels
from slide_ref.common.errors import DataError, ModelError

sparse = pytest.importorskip("scipy.sparse")
pd = pytest.importorskip("pandas")

N = 12
X = np.eye(N, dtype=np.float32)
TEXTS = st.text(st.characters() | st.sampled_from("\0\n\r\ud83d\ude00\udc80 \\"), max_size=4)
WHOLE = {np.dtype(f"f{size}"): 2**bits for size, bits in ((2, 10), (4, 23), (8, 52))}
NUMBERS = [np.dtype(code) for code in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">f8", *WHOLE)]
TIMES = [np.dtype(f"{kind}8[{unit}]") for kind in "Mm" for unit in ("D", "s", "us", "ns")]


def small(**settings):
    return SlideClassifier(
        **{"hidden": (4,), "epochs": 1, "micro_batch": 8, "learning_rate": 0.01, "n_workers": 1} | settings
    )


def numbers(dtype):
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        most = WHOLE[dtype.newbyteorder("=")]
        return st.integers(-most, most).map(float)
    if dtype.kind in "Mm":
        return st.integers(-(2**40), 2**40)
    return st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)


@st.composite
def label_columns(draw):
    """Labels of N samples in an array of any dtype or an array of objects, or in a list."""
    kind = draw(st.sampled_from(["typed", "time", "str", "bytes", "StringDType", "object", "list"]))
    if kind in ("typed", "time"):
        dtype = draw(st.sampled_from(NUMBERS if kind == "typed" else TIMES))
        values = draw(st.lists(numbers(dtype), min_size=N, max_size=N))
        return np.array(values).astype(dtype) if kind == "time" else np.array(values, dtype=dtype)
    texts = TEXTS.filter(lambda text: text.isascii()) if kind == "StringDType" else TEXTS
    bytes_ = st.binary(max_size=3)
    some = {"str": texts, "StringDType": texts, "bytes": bytes_}.get(kind)
    if some is None:
        whole = st.integers(-(2**80), 2**80)
        some = draw(st.sampled_from([TEXTS, bytes_, whole, numbers(np.dtype("f8")), st.booleans()]))
    values = draw(st.lists(some, min_size=N, max_size=N))
    if kind == "list":
        return values
    return np.array(values, dtype={"object": object, "StringDType": np.dtypes.StringDType()}.get(kind))


def same(ours, theirs):
    """Whether two arrays or lists hold equal values of the same types."""
    if isinstance(ours, np.ndarray):
        return ours.dtype == theirs.dtype and repr(ours.tolist()) == repr(theirs.tolist())
    return repr(ours) == repr(theirs)


def check_round_trip(y, folder):
    """Train on y, save and load; returns the classes."""
    model = small().fit(X, y)
    model.save(folder)
    loaded = SlideClassifier.load(folder)
    assert same(model.classes_, loaded.classes_)
    assert same(model.predict(X), loaded.predict(X))
    for k in (1, len(model.classes_) + 1):
        assert same(model.predict_topk(X, k)[0], loaded.predict_topk(X, k)[0])
    answers = model.predict(X)
    assert model.score(X, answers) == loaded.score(X, answers) == 1
    assert model.score(X, y) == loaded.score(X, y)
    loaded.partial_fit(X, y, classes=model.classes_)
    return model.classes_


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(y=label_columns())
def test_labels_of_any_dtype_come_back(tmp_path, y):
    classes = check_round_trip(y, tmp_path / "model")
    values = y if isinstance(y, list) else y.tolist()
    is_time = isinstance(y, np.ndarray) and y.dtype.kind in "Mm"  # years before 1 are numbers in Python
    wanted = np.unique(y).tolist() if is_time else sorted(set(values))
    assert classes.tolist() == wanted and [type(a) for a in classes.tolist()] == [type(a) for a in wanted]
    if isinstance(y, np.ndarray):
        assert classes.dtype == y.dtype
    lists = [[value] for value in values]
    if isinstance(y, list) and isinstance(values[0], (str, bytes)):
        assert same(check_round_trip(lists, tmp_path / "model"), classes)


@pytest.mark.parametrize("dtype", ["category", "string", "object", "Int64", "UInt8", "boolean", "Float64", "str"])
def test_columns_of_pandas_come_back(tmp_path, dtype):
    texts = dtype in ("category", "string", "object", "str")
    y = pd.Series((["b", "a\nc", "é"] if texts else [0, 1, 1]) * 4).astype(dtype)
    for column in (y, pd.Index(y), y.array):
        assert check_round_trip(column, tmp_path / "model").tolist() == sorted(set(y.tolist()))


@pytest.mark.parametrize(
    "dates", [["2024-03-01", "1999-12-31"], ["2024-03-01T12:30:00.123456789", "1999-12-31T00:00:00"]]
)
def test_dates_come_back(tmp_path, dates):
    y = np.array(dates * 6, dtype="M8[ns]")
    for form in (y, pd.Series(y), list(y), np.array([*y, None])[:-1], [[date] for date in y]):
        assert check_round_trip(form, tmp_path / "model").tolist() == np.unique(y).tolist()
    best = small().fit(X, y).predict_topk(X, 3)[0]
    assert best.dtype == y.dtype and np.isnat(best[:, 2]).all()


def test_missing_places_of_labels_without_a_sign():
    best = small().fit(X, np.array([2**64 - 1, 7] * 6, dtype=np.uint64)).predict_topk(X, 3)[0]
    assert (best[:, 2] == -1).all() and {*best[:, 0], *best[:, 1]} == {2**64 - 1, 7}


def test_numbers_of_objects_keep_their_order(tmp_path):
    y = np.array([2, 10, 3] * 4, dtype=object)
    assert check_round_trip(y, tmp_path / "model").tolist() == [2, 3, 10]


def test_a_name_of_great_length_takes_no_more_than_it_needs(tmp_path):
    y = [["x" * 10**6], ["a"], ["b\0", "b"]] * 4
    assert check_round_trip(y, tmp_path / "model").tolist() == ["a", "b", "b\0", "x" * 10**6]
    y = [["x" * 10**8], ["a"], ["b"]] * 4
    assert as_labels(y).classes.dtype == object


def test_names_in_the_folder_are_lines_that_people_read(tmp_path):
    small().fit(X, ["a\nb", "\udc80\r", "é"] * 4).save(tmp_path / "model")
    assert (tmp_path / "model" / "labels.txt").read_text(encoding="utf-8").split("\n") == [
        "a\\nb",
        "é",
        "\\udc80\\r",
        "",
    ]
    small().fit(X, [b"\xc3\xa9", b"\xff"] * 6).save(tmp_path / "model")
    assert (tmp_path / "model" / "labels.txt").read_text(encoding="utf-8") == "é\n\\xff\n"


ROWS = [["a", "b"], ["c"], [], ["a"]] * 3


@pytest.mark.parametrize(
    "outer",
    [
        list, tuple, collections.deque, pd.Series,
        lambda rows: np.array([*rows, None], dtype=object)[:-1],
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "inner", [list, tuple, set, frozenset, np.array, pd.Index, pd.Series, lambda row: dict.fromkeys(row).keys()]
)
def test_lists_of_labels_in_any_container(outer, inner):
    labels = as_labels(outer([inner(row) for row in ROWS]))
    assert labels.kind == "lists" and labels.classes.tolist() == ["a", "b", "c"]
    assert [labels.rows.row(i)[0].tolist() for i in range(4)] == [[0, 1], [2], [], [0]]
    ids = as_labels(outer([inner([ord(name) for name in row]) for row in ROWS]))
    assert ids.classes.tolist() == list(range(100)) and ids.rows.row(0)[0].tolist() == [97, 98]


def test_lists_come_back_as_plain_values():
    assert {type(label) for row in small().fit(X, ROWS).predict(X) for label in row} == {str}
    assert {type(label) for row in small().fit(X, [[1, 2]] * N).predict(X) for label in row} == {int}


ODD = [None, float("nan"), np.nan, pd.NA, pd.NaT, np.float32("nan"), np.datetime64("NaT")]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("good", ["a", b"a", 1, 1.0, True])
def test_missing_labels_are_told_with_their_row(odd, good):
    objects = np.array([good, good, odd, good], dtype=object)
    forms = [objects.tolist(), objects, [[good], [good], odd, [good]], [[good], [good], [good, odd], [good]]]
    for form in [*forms, pd.Series(objects), pd.Series(forms[2]), pd.Series(forms[3])]:
        with pytest.raises(DataError, match=r"^y, row 2: the labels? (is|are) missing") as caught:
            as_labels(form)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "y",
    [
        pd.Series([1, 2, None, 3], dtype="Int64"),
        pd.Series(["a", "b", None], dtype="string"),
        pd.Series(["a", "b", None], dtype="category"),
        np.array(["a", "b", None], dtype=np.dtypes.StringDType(na_object=None)),
        np.array([1.0, 2.0, np.nan]),
        np.array(["2000-01-01", "2000-01-02", "NaT"], dtype="M8[D]"),
        np.ma.masked_array([1, 2, 3], mask=[0, 0, 1]),
        np.ma.masked_array(np.array(["2000", "2001", "2002"], dtype="M8[Y]"), mask=[0, 0, 1]),
        pd.DataFrame({"a": [0, 1, None], "b": [0, 1, 1]}, dtype="Int64").astype(object),
        np.ma.masked_array([[0, 1], [1, 0], [1, 1]], mask=[[0, 0], [0, 0], [0, 1]]),
    ],
)  # fmt: skip
def test_missing_labels_of_typed_columns(y):
    with pytest.raises(DataError, match=r"^y, row 2: the label is missing"):
        as_labels(y)


@pytest.mark.parametrize(
    ("y", "wanted"),
    [
        (["a", "b", 3], r"^y, row 2: 3, of type int, beside 'a' in row 0, of type str; give labels of one type"),
        ([["a"], ["b", 3]], r"^y, row 1: 3, of type int, beside 'a' in row 0"),
        ([True, False, 2], r"^y, row 2: 2, of type int, beside True"),
        ([b"a", "a"], r"^y, row 1: 'a', of type str, beside b'a'"),
        ([1, {}], r"^y, row 1: a label of type dict, which cannot be saved"),
        ([["a"], {"a": 1}], r"^y, row 1: a value of type dict is not a list of labels"),
        (["ab", ["c"]], r"^y, row 0: 'ab' is not a list of labels"),
        ([[1], 2], r"^y, row 1: 2 is not a list of labels"),
        ([[["a"]]], r"^y, row 0: a label of type list"),
        ([np.eye(2), [1]], r"^y, row 0: .* is not a list of labels"),
        ([[1], np.array(1)], r"^y, row 1: .* is not a list of labels"),
        ([datetime.date(2020, 1, 1)], r"^y, row 0: a label of type date"),
        ([pd.Timestamp(0)], r"^y, row 0: a label of type Timestamp"),
        ([1, decimal.Decimal(1)], r"^y, row 1: a label of type Decimal"),
        ([[1, 0.5]], r"^y, row 0: 0.5, of type float. Y holds lists of something other than label ids"),
        ([[True, False]], r"^y, row 0: True, of type bool. .* give np.array\(y\)"),
        ([1, 2.5], r"^y, row 1: 2.5 is a fraction"),
        ([np.timedelta64(1, "Y"), np.timedelta64(1, "D")], r"^y holds durations in days beside others in months"),
        (np.array([1.0, 2.5], dtype=object), r"^y, row 1: 2.5 is a fraction"),
        ([2**53 + 1, 1.0], r"^y, row 0: 9007199254740993 is too large to mix with floats"),
        ([1.0, float("inf")], r"^y, row 1: .*infinity"),
        (np.array([1.0, np.inf], dtype=object), r"^y, row 1: .*infinity"),
        (np.array([1, 2], dtype=np.longdouble), r"^y is of dtype"),
        (np.array([1j]), r"^y is of dtype complex128"),
        (np.zeros(2, dtype="i4,i4"), r"^y is of dtype"),
        ([1, 10**400], r"^y, row 1: an integer of more than 1024 bits"),
        (np.array([["0", "1"]]), r"^y, row 0: '0'. Unknown label type"),
        (np.array([[0, 1], [1, 5]]), r"^y, row 1: 5. Unknown label type"),
        ("abc", r"^y is of type str, not a sequence of labels; give a list or an array"),
        ({1, 2}, r"^y is of type set, not a sequence of labels"),
        ((label for label in "ab"), r"^y is of type generator, not a sequence of labels"),
        (np.zeros((1, 1, 1)), r"^y should be a 1d array, got an array of shape \(1, 1, 1\)"),
        ([[1], [2, -3]], r"^y, row 1: label id -3 is negative"),
        ([[1], [7, 2**40]], r"^y, row 1: label id 1099511627776 would make a network of 1099511627777 labels"),
        ([[1], [2**31 - 1]], r"^y, row 1: label id 2147483647 would make a network of 2147483648 labels"),
        ([[1], [2**63, 5]], r"^y, row 1: label id 9223372036854775808"),
        ([[1], [2**70]], r"^y, row 1: label id 1180591620717411303424"),
        (sparse.csr_array((2, 2**40)), r"^y has 1099511627776 columns"),
        (sparse.csr_array((2, 2**31 - 1)), r"^y has 2147483647 labels, which take"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_in_one_line(monkeypatch, y, wanted):
    monkeypatch.setattr("slide_fast.parallel.machine.memory_left", lambda: 2**33)
    with pytest.raises((DataError, MemoryError), match=wanted) as caught:
        as_labels(y)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_an_id_is_told_before_memory_is_asked_for(monkeypatch):
    monkeypatch.setattr("slide_fast.parallel.machine.memory_left", lambda: 2**25)
    as_labels([[2**20 - 1]])
    with pytest.raises(MemoryError, match="^y, row 1: label id 1048576 would make .* 1048577 labels, which take"):
        as_labels([[3], [2**20]])
    as_labels(np.array([2**40, 3]))  # classes, no ids


@pytest.mark.parametrize(
    "rows",
    [[[0, 1, 1], [1, 0, 0]], [[0, 1], [1, 1]], ([1, 1, 0], [0, 0, 0]), [np.array([0, 1, 0])], pd.Series([[1, 1]])],
)
def test_rows_of_0_and_1_are_most_likely_an_indicator(rows):
    with pytest.warns(UserWarning, match=r"all 0 or 1\. They are taken as label ids; .* give np.array\(y\)") as caught:
        assert as_labels(rows).kind == "lists"
    assert len(caught) == 1


@pytest.mark.parametrize(
    "rows", [[[0], [1]], [[0, 1], [1, 0]], [[0, 1, 1], [1]], [[0, 1, 2], [1, 1, 0]], [[], []], [["0", "0"]]]
)
def test_lists_of_few_ids_give_no_alarm(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_labels(rows).kind == "lists"


def trained(y):
    return {name: array.tobytes() for name, array in small(epochs=3).fit(X, y).model_.arrays.items()}


def test_indicators_and_lists_of_ids_train_the_same_network():
    dense = (np.random.default_rng(0).random((N, 7)) < 0.3).astype(int)
    dense[0, 6] = 1  # lists of ids have no more labels than the largest id says
    lists = [np.flatnonzero(row).tolist() for row in dense]
    forms = [
        dense.astype(bool),
        dense.astype(float),
        pd.DataFrame(dense),
        sparse.csr_matrix(dense),
        sparse.coo_array(dense),
    ]
    forms += [as_labels(dense).rows, lists, pd.Series(lists), [set(row) for row in lists], [row[::-1] for row in lists]]
    wanted = trained(dense)
    assert all(trained(form) == wanted for form in forms)


NAMES = np.array(["a", "b", "c"] * 4)
NEW = np.array(["new"] * 6 + ["a", "b", "c"] * 2)


@pytest.mark.parametrize("call", ["partial_fit", "warm_start", "eval_set", "classes"])
def test_labels_that_nobody_knows_are_an_error(call):
    calls = {
        "partial_fit": lambda y: small().partial_fit(X, NAMES).partial_fit(X, y),
        "warm_start": lambda y: small(warm_start=True).fit(X, NAMES).fit(X, y),
        "eval_set": lambda y: small().fit(X, NAMES, eval_set=(X, y)),
        "classes": lambda y: small().partial_fit(X, y, classes=["c", "b", "a"]),
    }
    for y, row in ((NEW, 0), (NEW[::-1].tolist(), 6), ([[name] for name in NEW], 0), (NEW.astype(object), 0)):
        with pytest.raises(
            ValueError, match=rf"y( of eval_set)? holds 'new' \(first in row {row}\), not among the 3 known"
        ):
            calls[call](y)
    for y, type_ in ((np.arange(12) % 3, "number"), (NAMES.astype("S"), "bytes"), ([[1]] * N, "number")):
        with pytest.raises(DataError, match=f"row 0: .* is a label of type {type_}, but .* 'a', are of type str"):
            calls[call](y)
    calls[call](NAMES.astype(object))
    calls[call](pd.Series(NAMES, dtype="category"))


def test_scores_count_labels_that_nobody_knows_as_wrong():
    model = small(epochs=60, learning_rate=0.05).fit(X, NAMES)
    assert model.score(X, NAMES) == 1 and model.score(X, NEW) == 0.5
    assert model.score(X, [[name] for name in NEW]) == 0.5
    with pytest.warns(UserWarning, match="y has no label that was there in training"):
        assert model.score(X, ["new", "newer"] * 6) == 0
    numbers = small(epochs=60, learning_rate=0.05).fit(X, np.arange(N) % 3)
    with pytest.raises(
        DataError, match="row 0: '0' is a label of type str, but the known ones, such as 0, are of type number"
    ):
        numbers.score(X, (np.arange(N) % 3).astype(str))
    for dtype in (float, np.int8, np.uint64, object):
        assert numbers.score(X, (np.arange(N) % 3).astype(dtype)) == 1


def test_large_numbers_of_other_dtypes_are_compared_exactly():
    classes = np.array([2**60, 2**60 + 1])
    y = np.array([2**60 + 1, 2**60, 2**60 + 2], dtype=np.uint64)
    assert np.diff(as_labels(y, classes, drop_unknown=True).rows.indptr).tolist() == [1, 1, 0]
    assert as_labels(y[:2], classes).rows.indices.tolist() == [1, 0]


@pytest.mark.parametrize("classes", [["a", None], ["a", 1], [["a"], ["b"]], np.eye(3), {"a"}])
def test_classes_that_are_none(classes):
    with pytest.raises(DataError, match="^classes"):
        as_classes(classes)


def test_chosen_labels_are_of_the_type_of_the_classes():
    model = small().fit(X, np.arange(N) % 3 * 5)
    assert model.decision_function(X, labels=[10, 5]).shape == (N, 2)
    for labels, wanted in (
        ([[5]], "labels is not a plain"),
        (["5"], "of type str"),
        ([5, 7], "labels holds 7"),
        (5, "labels"),
    ):
        with pytest.raises(DataError, match=wanted):
            model.decision_function(X, labels=labels)


def test_names_of_labels_are_the_classes(tmp_path):
    model = small().fit(X, [[i % 3] for i in range(N)]).model_
    classes = classes_of(with_names(model, ["z", "a", "z"]))
    assert classes.tolist() == ["z", "a", "z"]
    assert as_labels(["a", "a"], classes).rows.indices.tolist() == [1, 1]
    with pytest.raises(DataError, match="^y, row 1: 'z' is the name of more than one label: 0 and 2; "):
        as_labels(["a", "z"], classes)
    assert classes_of(with_names(model, ["a\0", "a", "b"])).tolist() == ["a\0", "a", "b"]


def with_names(model, names):
    return dataclasses.replace(model, label_names=names)


def test_folders_that_keep_no_values_are_read_as_before(tmp_path):
    model = small().fit(X, NAMES)
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    del content["has_label_values"], content["texts"]
    (tmp_path / "model" / "label_values.json").unlink()
    forms = [("<U1", "a b c", ["a", "b", "c"]), ("<i8", "2 3 10", [2, 3, 10])]
    forms += [("|b1", "False True False", [False, True, False])]
    for dtype, names, wanted in forms:
        content["facts"]["labels_dtype"] = dtype
        path.write_text(json.dumps(content))
        (tmp_path / "model" / "labels.txt").write_text("".join(f"{name}\n" for name in names.split()))
        classes = SlideClassifier.load(tmp_path / "model").classes_
        assert classes.dtype == dtype and classes.tolist() == wanted
    content["facts"]["labels_dtype"] = "|S2"  # of which the names were no such thing
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="not of dtype '.S2'"):
        SlideClassifier.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [(None, "cannot be read"), ("{", "not valid JSON"), ('["a", "b"]', "not a list of 3 values"), ("{}", "not a list"),
     ('["a", "b", "cd"]', "not of dtype"), ('["a", "b", 3]', "not of dtype"),
     ("[[], [], []]", "not of dtype")],
)  # fmt: skip
def test_damaged_values_are_refused(tmp_path, values, wanted):
    small().fit(X, NAMES).save(tmp_path / "model")
    path, described = (tmp_path / "model" / name for name in ("label_values.json", "config.json"))
    path.unlink() if values is None else path.write_text(values)
    content = json.loads(described.read_text())
    del content["texts"]  # as in a folder without checksums of texts
    described.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=wanted):
        SlideClassifier.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["labels.txt", "label_values.json"])
def test_labels_of_another_model_are_refused(tmp_path, name):
    small().fit(X, NAMES).save(tmp_path / "one")
    small().fit(X, np.array(["x", "y", "z"])[np.unique(NAMES, return_inverse=True)[1]]).save(tmp_path / "other")
    (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ModelError, match=f"{name}: does not match its checksum"):
        SlideClassifier.load(tmp_path / "one")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, True, "2", None])
def test_a_number_of_labels_that_is_none(tmp_path, value):
    small().fit(X, NAMES).save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    content["facts"]["labels_per_sample"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="labels_per_sample is .* not a number from 0 to 3"):
        SlideClassifier.load(tmp_path / "model")


@pytest.mark.parametrize("dtype", ["O", "V4", "i4,i4", "object of", None, 3, [], "<U0", "|S1", "M8[x]", "StringDType"])
def test_kinds_that_no_classes_have(dtype):
    with pytest.raises(ValueError):
        from_json([1, 2], dtype)
