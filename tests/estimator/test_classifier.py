"""`SlideClassifier`: what it takes, what it refuses, and that it learns, saves and loads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from slide_fast import SlideClassifier, SlideTextClassifier
from slide_fast.data import write_npz
from slide_fast.estimator.parameters import config_of
from slide_fast.estimator.validation import as_features, as_labels
from slide_fast.training import fit_with_state
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.sparse_rows import Dataset, SparseRows

sparse = pytest.importorskip("scipy.sparse")

SCRIPT = """
import numpy as np
from slide_fast import SlideClassifier, SlideTextClassifier
from slide_ref.common.sparse_rows import SparseRows

n = 600
X = SparseRows(np.arange(n + 1), (np.arange(n) % 30).astype(np.int32), np.ones(n, np.float32), 30)
model = SlideClassifier(hidden=(16,), epochs=8, micro_batch=50, learning_rate=0.02, n_workers=2)
model.fit(X, np.arange(n) % 30)
ids, scores = model.predict_topk(X, k=1)
print("right:", int((ids[:, 0] == np.arange(n) % 30).sum()))
"""


def copies(n=400, n_classes=20):
    """Samples whose only feature is their label."""
    labels = np.arange(n) % n_classes
    X = sparse.csr_array((np.ones(n, dtype=np.float32), (np.arange(n), labels)), shape=(n, n_classes))
    return X, labels


def small(**settings):
    return SlideClassifier(**{"hidden": (16,), "epochs": 8, "micro_batch": 50, "learning_rate": 0.02} | settings)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_it_learns(n_workers):
    X, labels = copies()
    ids, scores = small(n_workers=n_workers).fit(X, labels).predict_topk(X, k=3)
    assert (ids[:, 0] == labels).mean() > 0.95
    assert ids.shape == scores.shape == (400, 3)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_ways_to_give_labels_are_equal():
    X, labels = copies()
    indicator = sparse.csr_array((np.ones(400), (np.arange(400), labels)), shape=(400, 20))
    forms = [labels, labels.tolist(), [[label] for label in labels], indicator, indicator.toarray(), indicator.tocoo()]
    for form in [*forms, as_labels(labels).rows]:
        rows, classes, _ = as_labels(form)
        np.testing.assert_array_equal(classes, np.arange(20))
        np.testing.assert_array_equal(rows.indices, labels)
        assert rows.n_columns == 20
        assert rows.data is None


def test_explicit_zeros_of_an_indicator_are_no_labels():
    indicator = sparse.csr_array((np.array([1.0, 0.0]), (np.array([0, 1]), np.array([1, 0]))), shape=(2, 3))
    np.testing.assert_array_equal(np.diff(as_labels(indicator).rows.indptr), [1, 0])


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    X, labels = copies()
    model = small(n_workers=1, settings={"lsh": {"min_active": 5}}).fit(X, labels)
    model.save(tmp_path / "model")
    loaded = SlideClassifier.load(tmp_path / "model")
    for ours, theirs in zip(loaded.predict_topk(X, k=2), model.predict_topk(X, k=2), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert config_of(loaded) == config_of(model)


def test_one_worker_is_reproducible_to_the_bit():
    X, labels = copies()
    first, second = (small(n_workers=1, random_state=3).fit(X, labels).model_.arrays for _ in range(2))
    for name in first:
        assert first[name].tobytes() == second[name].tobytes()


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (np.ones(2), [0, 1], "Reshape your data"),
        (np.ones((2, 2)) * 1j, [0, 1], "Complex data"),
        (np.array([["a", "b"]]), [0], "no table of numbers"),
        (np.array([[1e300, 1.0]]), [0], "too large for float32"),
        (sparse.csr_array(np.array([[np.nan, 1.0]])), [0], "not finite"),
        (sparse.csr_array(np.ones((2, 2))), [[0], [-1]], "is negative"),
        (sparse.csr_array(np.ones((2, 2))), [[0.5], [1]], "something other than label ids"),
        (sparse.csr_array(np.ones((2, 2))), [0.5, 1], "Unknown label type"),
        (sparse.csr_array(np.ones((2, 2))), np.array([[2, 0], [1, 0]]), "values other than 0 and 1"),
        (sparse.csr_array(np.ones((2, 2))), None, "requires y"),
        (sparse.csr_array(np.ones((2, 2))), [0], "but y has 1; give as many of both"),
        (sparse.csr_array(np.ones((2, 2))), [[], []], "no sample has a label"),
        (sparse.csr_array((0, 2)), [], "no samples"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(X, Y, message):
    with pytest.raises(DataError, match=message):
        small().fit(X, Y)


def test_s28_an_index_answers_too():
    X, labels = copies()
    model = small(n_workers=1).fit(X, labels)
    assert model.model_.index is None  # it is made when it is needed
    exact, (ids, scores) = model.predict_topk(X, k=1), model.predict_topk(X, k=1, mode="index")
    assert ids.dtype == np.int32 and ids.shape == scores.shape == (X.shape[0], 1)
    found = ids == exact[0]
    assert found.mean() >= 0.9 and np.allclose(scores[found], exact[1][found], rtol=1e-5)
    assert np.array_equal(model.predict_topk(X[:1], k=1, mode="lsh")[0], ids[:1])
    with pytest.raises(ConfigError, match="recall is 0"):
        model.predict_topk(X, mode="index", recall=0)
    with pytest.raises(ConfigError, match="mode is 'indexx'; it must be one of exact, index; did you mean index"):
        model.predict_topk(X, mode="indexx")


def test_s28_training_makes_an_index_stale():
    X, labels = copies()
    model = small(n_workers=1).fit(X, labels)
    model.predict_topk(X, mode="index")
    first = model.model_.index
    assert first is not None
    model.predict_topk(X[:3], mode="index")
    assert model.model_.index is first
    model.partial_fit(X, labels)
    assert model.model_.index is None
    model.predict_topk(X[:1], mode="index")  # training samples are remembered
    assert model.model_.index is not None and model.model_.index is not first
    model._index_samples = None
    model.partial_fit(X[:1], labels[:1])
    assert np.array_equal(model.predict_topk(X[:1], mode="index")[0], model.predict_topk(X[:1])[0])
    assert model.model_.index is None  # one sample is not enough to make one


def test_s28_an_index_is_saved_with_the_model(tmp_path):
    X, labels = copies()
    model = small(n_workers=1).fit(X, labels)
    model.save(tmp_path)
    for mmap in (False, True):
        again = SlideClassifier.load(tmp_path, mmap)
        assert again.model_.index is not None
        for ours, theirs in zip(*(m.predict_topk(X, mode="index") for m in (model, again)), strict=True):
            assert np.array_equal(ours, theirs)


def test_what_cannot_be_predicted_is_refused():
    X, labels = copies()
    with pytest.raises(ModelError, match="not trained"):
        small().predict_topk(X)
    model = small(n_workers=1).fit(X, labels)
    with pytest.raises(DataError, match="21 features, but SlideClassifier is expecting 20"):
        model.predict_topk(sparse.csr_array((1, 21)))
    with pytest.raises(ConfigError, match="lsh.KK"):
        small(settings={"lsh": {"KK": 3}}).fit(X, labels)
    with pytest.raises(ConfigError, match="one of exact, index"):
        model.predict_topk(X, mode="fast")


def test_index_types_of_scipy_are_taken():
    X, _ = copies()
    wide = sparse.csr_array((X.data.astype(np.float64), X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape)
    rows = as_features(wide)
    assert isinstance(rows, SparseRows)
    assert (rows.indptr.dtype, rows.indices.dtype, rows.data.dtype) == (np.int64, np.int32, np.float32)


@pytest.mark.parametrize("container", [list, np.array, lambda labels: np.array(labels, dtype=object)])
@pytest.mark.parametrize(
    "names", [lambda i: f"name {i}", lambda i: 3 * i - 7, lambda i: float(i), lambda i: i % 2 == 0]
)
def test_class_labels_of_any_kind_come_back(names, container):
    X, labels = copies()
    y = container([names(int(i)) for i in labels])
    model = small(n_workers=1).fit(X, y)
    answer, (best, scores) = model.predict(X), model.predict_topk(X, k=2)
    assert model.score(X, y) > 0.95 and (answer == y).mean() == pytest.approx(model.score(X, y))
    assert (best[:, 0] == answer).all() and (np.diff(scores) <= 0).all()
    assert sorted(set(y)) == model.classes_.tolist()


def test_lists_and_indicators_come_back_in_their_form():
    X, labels = copies()
    lists = [[int(i), (int(i) + 1) % 20] for i in labels]
    wanted = [sorted(own) for own in lists]
    dense = np.zeros((400, 20), dtype=int)
    np.put_along_axis(dense, np.array(lists), 1, axis=1)
    answer = {}
    forms = {"lists": lists, "dense": dense, "sparse": sparse.csr_matrix(dense), "rows": as_labels(dense).rows}
    forms["names"] = [[f"{i:02}" for i in own] for own in lists]
    for name, y in forms.items():
        model = small(n_workers=1, epochs=20).fit(X, y)
        answer[name] = model.predict(X)
        assert model.score(X, y) > 0.95 and model.labels_per_sample_ == 2
    assert np.mean([ours == theirs for ours, theirs in zip(answer["lists"], wanted, strict=True)]) > 0.95
    assert [[int(name) for name in own] for own in answer["names"]] == answer["lists"]
    for form in ("dense", "sparse"):
        table = answer[form] if form == "dense" else answer[form].toarray()
        assert [np.flatnonzero(row).tolist() for row in table] == answer["lists"]
    assert answer["rows"].indices.tolist() == sum(answer["lists"], [])


def test_scores_of_chosen_labels():
    X, labels = copies()
    model = small(n_workers=1).fit(X, [f"{i:02}" for i in labels])
    logits, shares = model.decision_function(X[:5]), model.predict_proba(X[:5])
    assert logits.shape == shares.shape == (5, 20) and np.allclose(shares.sum(axis=1), 1)
    assert np.allclose(np.exp(logits - np.log(np.exp(logits).sum(axis=1))[:, None]), shares, rtol=1e-4)
    chosen = ["13", "02", "02"]
    assert np.allclose(model.decision_function(X[:5], labels=chosen), logits[:, [13, 2, 2]], rtol=1e-5)
    assert np.allclose(model.predict_proba(X[:5], labels=chosen), shares[:, [13, 2, 2]], rtol=1e-4)
    best, scores = model.predict_topk(X[:5], k=1)
    assert np.allclose(scores[:, 0], logits.max(axis=1), rtol=1e-5) and (best[:, 0] == model.predict(X[:5])).all()
    with pytest.raises(DataError, match="labels holds '20'"):
        model.predict_proba(X, labels=["20"])


def test_missing_places_hold_none_where_labels_are_words():
    X, labels = copies(n_classes=3)
    best, scores = small(n_workers=1).fit(X, np.array(["a", "b", "c"])[labels]).predict_topk(X, k=4)
    assert best[:, 3].tolist() == [None] * 400 and (scores[:, 3] == -np.inf).all()
    assert (small(n_workers=1).fit(X, labels * 5).predict_topk(X, k=4)[0][:, 3] == -1).all()


def test_samples_of_weight_zero_are_left_out_and_equal_weights_change_nothing():
    X, labels = copies()
    half, wrong = np.arange(400) // 20 % 2 == 0, labels.copy()
    wrong[~half] = (labels[~half] + 1) % 20
    model = small(n_workers=1, epochs=20)
    assert model.fit(X, wrong, sample_weight=half.astype(float)).score(X, labels) > 0.95
    equal, without = (small(n_workers=1).fit(X, labels, weights).model_.arrays for weights in (np.full(400, 0.1), None))
    assert all(equal[name].tobytes() == without[name].tobytes() for name in equal)
    for weights, message in (([1], "sample_weight.shape"), (-np.ones(400), "negative"), (np.zeros(400), "zero")):
        with pytest.raises(DataError, match=message):
            model.fit(X, labels, weights)


def test_s39_a_network_trained_further_keeps_the_scale_of_its_inputs():
    X, labels = copies()
    model = small(n_workers=1).fit(20 * X, labels)
    scale = model.model_.config.input_scale
    assert scale < 0.1 and model.score(20 * X, labels) > 0.95
    assert model.partial_fit(X, labels).model_.config.input_scale == scale
    assert small(n_workers=1, settings={"input_scale": 0.5}).fit(20 * X, labels).model_.config.input_scale == 0.5


def test_partial_fit_and_warm_start_go_on():
    X, labels = copies()
    model = small(n_workers=1)
    for _ in range(8):
        model.partial_fit(X, labels, classes=np.arange(20))
    assert model.model_.facts["epochs"] == 8 and model.score(X, labels) > 0.95
    warm = small(n_workers=1, warm_start=True, epochs=6)
    assert warm.fit(X, labels).fit(X[:100], labels[:100]).model_.facts["epochs"] == 12
    assert warm.score(X, labels) > 0.95
    cold = small(n_workers=1, epochs=4).fit(X, labels)
    assert cold.fit(X, labels).model_.facts["epochs"] == 4
    with pytest.raises(DataError, match="differs from the labels of the network"):
        model.partial_fit(X, labels, classes=[1, 2])
    with pytest.raises(DataError, match="19 features"):
        model.partial_fit(X[:, :19], labels)


def test_partial_fit_keeps_its_rate_and_warms_up_once():
    X, labels = copies()
    parts = small(n_workers=1, settings={"warmup_steps": 3}).partial_fit(X, labels)
    whole = small(n_workers=1, settings={"warmup_steps": 3, "decay": "constant"}, epochs=1).fit(X, labels)
    assert all((parts.model_.arrays[name] == array).all() for name, array in whole.model_.arrays.items())
    train = Dataset(as_features(X), as_labels(labels).rows)
    config = whole.model_.config.replace(warmup_steps=0)
    further = fit_with_state(config, train, n_workers=1, state=parts._state)[0]
    parts.partial_fit(X, labels)
    assert all((parts.model_.arrays[name] == array).all() for name, array in further.arrays.items())


def test_a_loaded_model_is_trained_further(tmp_path):
    X, labels = copies()
    small(n_workers=1, epochs=2).fit(X, labels * 2).save(tmp_path / "model")
    loaded = SlideClassifier.load(tmp_path / "model")
    assert loaded.classes_.tolist() == list(range(0, 40, 2))
    before = loaded.score(X, labels * 2)
    for _ in range(8):
        loaded.partial_fit(X, labels * 2)
    assert loaded.score(X, labels * 2) > max(before, 0.95) and loaded.model_.facts["epochs"] == 10


@pytest.mark.parametrize("kind", ["words", "fractions", "truths", "lists", "sparse"])
def test_saved_and_loaded_it_speaks_of_the_same_labels(tmp_path, kind):
    X, labels = copies()
    forms = {"words": [f"w {i}" for i in labels], "fractions": labels * 2.0, "truths": labels % 2 == 0}
    forms |= {"lists": [[int(i)] for i in labels], "sparse": sparse.csr_array(np.eye(20)[labels])}
    model = small(n_workers=1).fit(X, forms[kind])
    model.save(tmp_path / "model")
    for mmap in (False, True):
        loaded = SlideClassifier.load(tmp_path / "model", mmap=mmap)
        ours, theirs = loaded.predict(X), model.predict(X)
        assert type(ours) is type(theirs) and loaded.classes_.dtype.kind == model.classes_.dtype.kind
        assert (ours != theirs).nnz == 0 if kind == "sparse" else np.array_equal(ours, theirs)


def test_what_happens_is_told_and_kept(caplog, capsys):
    X, labels = copies()
    events = []
    model = small(
        n_workers=1, epochs=3, verbose=True, settings={"lsh": {"family": "simhash", "K": 3, "L": 2, "min_active": 5}}
    )
    with caplog.at_level("INFO", logger="slide_fast"):
        model.fit(X, labels, eval_set=(X, labels), callback=events.append)
    kinds = [event["kind"] for event in model.history_]
    assert kinds == ["evaluation", "epoch"] * 2 + ["epoch", "evaluation", "end"]
    assert model.history_ == [event for event in events if event["kind"] in ("epoch", "evaluation", "end")]
    told = {key for event in events for key in event}
    assert {"loss", "precision_at_1", "precision_at_5", "active_neurons", "bucket_load", "samples_per_second"} <= told
    assert [record.message.split(":")[0] for record in caplog.records] == ["start", *kinds]
    assert "samples/s" in capsys.readouterr().err


@pytest.mark.parametrize("lsh", [{"family": "simhash", "K": 3}, {"family": "centroid", "K": 3, "bucket_size": 10}])
def test_shares_of_neurons_and_buckets_are_at_most_one(lsh):
    model = small(n_workers=1, epochs=2, settings={"in_batch": 0.0, "lsh": lsh | {"L": 2, "min_active": 5}})
    history = model.fit(*copies()).history_
    shares = [event[key] for event in history for key in ("entries_kept", "buckets_used") if key in event]
    assert shares and all(0 < share <= 1 for share in shares)


def test_patience_needs_an_eval_set_and_stops():
    X, labels = copies()
    with pytest.raises(ConfigError, match="eval_set"):
        small(patience=2).fit(X, labels)
    model = small(n_workers=1, patience=2, epochs=100).fit(X, labels, eval_set=(X, [*labels[:-1], 0]))
    assert model.model_.facts["epochs"] < 100 and model.score(X, labels) > 0.95


def test_paths_are_read(tmp_path):
    X, labels = copies()
    path = tmp_path / "train.npz"
    write_npz(path, Dataset(as_features(X), as_labels(labels).rows))
    model = small(n_workers=1).fit(path, eval_set=path)
    assert model.score(path) == model.score(X, [[int(i)] for i in labels]) > 0.95
    assert np.array_equal(model.predict_topk(str(path))[0], model.predict_topk(X)[0])


def test_random_state_may_be_a_generator_or_none():
    X, labels = copies()
    states = [np.random.default_rng(0), np.random.default_rng(0), np.random.RandomState(0), None, 7]
    weights = [small(n_workers=1, random_state=state).fit(X, labels).model_.arrays["W0"] for state in states]
    same = [[np.array_equal(a, b) for b in weights] for a in weights]
    assert same[0][1] and sum(map(sum, same)) == len(states) + 2


def test_features_that_svmlight_text_shows_only_later_are_left_out(tmp_path):
    X, labels = copies()
    model = small(n_workers=1).fit(X, labels)
    (tmp_path / "narrow.svm").write_text("3 3:1\n5 5:1\n")
    (tmp_path / "wide.svm").write_text("3 3:1\n50 5:1 20:7\n")  # to predict, labels are passed over
    with pytest.warns(UserWarning, match="wide.svm: left out 1 value of features that were not there in training"):
        wide = model.predict_topk(tmp_path / "wide.svm")[1]
    assert np.array_equal(wide, model.predict_topk(tmp_path / "narrow.svm")[1])


def run_script(arguments, text, tmp_path):
    done = subprocess.run(
        [sys.executable, *arguments], input=text, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


BARE = """
import sys
for name in ("sklearn", "scipy", "matplotlib", "pandas"):
    sys.modules[name] = None
import numpy as np
from slide_fast import SlideClassifier, SlideTextClassifier
X, y = np.eye(4).repeat(10, axis=0), np.array(list("abcd")).repeat(10)
model = SlideClassifier(hidden=(8,), epochs=30, micro_batch=8, learning_rate=0.05)
print(model.set_params(random_state=1).fit(X, y).score(X, y), model.get_params()["random_state"])
"""


def test_without_any_extra_it_works_on_arrays(tmp_path):
    assert run_script(["-c", BARE], None, tmp_path).stdout.split() == ["1.0", "1"]


@pytest.mark.parametrize("way", [
    "unguarded script", *(pytest.param(way, marks=pytest.mark.slow) for way in ("standard input", "interactive")),
])  # fmt: skip
def test_two_workers_need_no_main_guard(way, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = {"unguarded script": ["script.py"], "standard input": ["-"], "interactive": ["-i", "-q"]}[way]
    done = run_script(arguments, None if way == "unguarded script" else SCRIPT, tmp_path)
    assert "right: 600" in done.stdout
    assert "Error" not in done.stderr


class Narrow(SlideClassifier):
    """Has one parameter of its own, and hides all others."""

    def __init__(self, width=8):
        super().__init__(width, n_workers=1)
        self.width = width


class NarrowForTexts(SlideTextClassifier):
    """Hides the parameters of texts."""

    def __init__(self, hidden=8):
        super().__init__(hidden, n_workers=1, min_df=1)


class Needy(SlideClassifier):
    """Has a parameter without a default."""

    def __init__(self, width):
        super().__init__(width)


class Broken(SlideClassifier):
    """Fails when it is made."""

    def __init__(self):
        super().__init__(len(5))


def test_a_subclass_with_other_parameters_is_loaded(tmp_path):
    X, texts, y = np.eye(4), ["a b", "b c", "c d", "d a"], np.arange(4)
    for given, model in ((X, Narrow(6)), (texts, NarrowForTexts(6))):
        model.fit(given, y).save(tmp_path / "model")
        loaded = type(model).load(tmp_path / "model")
        assert type(loaded) is type(model) and loaded.hidden == (6,)
        assert np.array_equal(loaded.decision_function(given), model.decision_function(given))
    with pytest.raises(ConfigError, match="missing .*'width'; give each parameter of Needy a default"):
        Needy.load(tmp_path / "model")
    with pytest.raises(TypeError, match="no len"):
        Broken.load(tmp_path / "model")


def test_logarithms_of_probabilities_are_minus_infinity_at_0():
    model = SlideClassifier(hidden=8, epochs=20, learning_rate=0.05, n_workers=1).fit(np.eye(4), np.arange(4))
    X = np.array([[1, 0, 0, 0], [1e5, 0, 0, 0]])
    found = model.predict_log_proba(X)
    assert np.allclose(np.exp(found), model.predict_proba(X)) and np.isneginf(found[1]).any()
    assert np.array_equal(model.predict_log_proba(X, labels=[2, 0]), found[:, [2, 0]])
