"""`SlideClassifier`: what it takes, what it refuses, and that it learns, saves and loads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from slide_fast import SlideClassifier
from slide_fast.estimator import as_features, as_labels
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.sparse_rows import SparseRows

sparse = pytest.importorskip("scipy.sparse")

SCRIPT = """
import numpy as np
from slide_fast import SlideClassifier
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
    forms = [labels, labels.tolist(), [[label] for label in labels], indicator, as_labels(labels)]
    for form in forms:
        rows = as_labels(form)
        np.testing.assert_array_equal(rows.indices, labels)
        assert rows.n_columns == 20
        assert rows.data is None


def test_explicit_zeros_of_an_indicator_are_no_labels():
    indicator = sparse.csr_array((np.array([1.0, 0.0]), (np.array([0, 1]), np.array([1, 0]))), shape=(2, 3))
    np.testing.assert_array_equal(np.diff(as_labels(indicator).indptr), [1, 0])


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    X, labels = copies()
    model = small(n_workers=1, settings={"lsh": {"min_active": 5}}).fit(X, labels)
    model.save(tmp_path / "model")
    loaded = SlideClassifier.load(tmp_path / "model")
    for ours, theirs in zip(loaded.predict_topk(X, k=2), model.predict_topk(X, k=2), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded._config() == model._config()


def test_one_worker_is_reproducible_to_the_bit():
    X, labels = copies()
    first, second = (small(n_workers=1, random_state=3).fit(X, labels).model_.arrays for _ in range(2))
    for name in first:
        assert first[name].tobytes() == second[name].tobytes()


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (np.ones((2, 2)), [0, 1], "SciPy CSR"),
        (sparse.csr_array(np.array([[np.nan, 1.0]])), [0], "not finite"),
        (sparse.csr_array(np.ones((2, 2))), [0, -1], "outside"),
        (sparse.csr_array(np.ones((2, 2))), ["a", "b"], "label ids"),
        (sparse.csr_array(np.ones((2, 2))), [0], "labels for 1"),
        (sparse.csr_array(np.ones((2, 2))), [[], []], "no sample has a label"),
        (sparse.csr_array((0, 2)), [], "no samples"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(X, Y, message):
    with pytest.raises(DataError, match=message):
        small().fit(X, Y)


def test_s28_the_tables_answer_too():
    X, labels = copies()
    model = small(n_workers=1, settings={"lsh": {"K": 1, "L": 8, "min_active": 10}}).fit(X, labels)
    exact, (ids, scores) = model.predict_topk(X, k=1), model.predict_topk(X, k=1, mode="lsh")
    assert ids.dtype == np.int32 and ids.shape == scores.shape == (X.shape[0], 1)
    found = ids == exact[0]
    assert found.mean() > 0.8 and np.allclose(scores[found], exact[1][found], rtol=1e-5)
    best_of_two = model.predict_topk(X, k=3, mode="lsh", budget=2)[0]
    assert (best_of_two[:, 2] == -1).all() and (best_of_two[:, 0] >= 0).any()
    first = model._index()
    assert model._index() is first and model.fit(X, labels)._index() is not first


def test_what_cannot_be_predicted_is_refused():
    X, labels = copies()
    with pytest.raises(ModelError, match="not trained"):
        small().predict_topk(X)
    model = small(n_workers=1).fit(X, labels)
    with pytest.raises(DataError, match="21 features"):
        model.predict_topk(sparse.csr_array((1, 21)))
    with pytest.raises(ConfigError, match="lsh.KK"):
        small(settings={"lsh": {"KK": 3}}).fit(X, labels)
    with pytest.raises(ConfigError, match="one of exact, lsh"):
        model.predict_topk(X, mode="fast")
    with pytest.raises(ModelError, match="lsh.L is 0"):
        small(n_workers=1, settings={"lsh": {"L": 0}}).fit(X, labels).predict_topk(X, mode="lsh")


def test_index_types_of_scipy_are_taken():
    X, _ = copies()
    wide = sparse.csr_array((X.data.astype(np.float64), X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape)
    rows = as_features(wide)
    assert isinstance(rows, SparseRows)
    assert (rows.indptr.dtype, rows.indices.dtype, rows.data.dtype) == (np.int64, np.int32, np.float32)


def run_script(arguments, text, tmp_path):
    done = subprocess.run(
        [sys.executable, *arguments], input=text, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("way", ["unguarded script", "standard input", "interactive"])
def test_two_workers_need_no_main_guard(way, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = {"unguarded script": ["script.py"], "standard input": ["-"], "interactive": ["-i", "-q"]}[way]
    done = run_script(arguments, None if way == "unguarded script" else SCRIPT, tmp_path)
    assert "right: 600" in done.stdout
    assert "Error" not in done.stderr
