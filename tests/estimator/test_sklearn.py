"""scikit-learn's own checks of an estimator, and its tools around one."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from slide_fast import SlideClassifier, SlideTextClassifier

SMALL = SlideClassifier(hidden=(32,), epochs=30, micro_batch=16, learning_rate=0.02, n_workers=1)
REPEATED = "a sample given twice takes part in two micro-batches, one of weight 2 in one: the steps differ"
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": REPEATED,
    "check_sample_weight_equivalence_on_sparse_data": REPEATED,
    "check_classifiers_multilabel_representation_invariance": "lists hold label ids here, never rows of 0 and 1",
}
COLOURS = ["red", "green", "blue", "grey"]
TEXTS = [f"the {colour} thing number {i}" for i in range(25) for colour in COLOURS]


@parametrize_with_checks([SMALL], expected_failed_checks=lambda estimator: EXPECTED)
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("parameters", "differs"),
    [({}, True), ({"n_workers": np.int64(1)}, False), ({"n_workers": 2}, True), ({"max_seconds": 1.0}, True)],
)
def test_tags_tell_whether_a_run_can_be_repeated(parameters, differs):
    model = SlideClassifier(**{"n_workers": 1} | parameters) if parameters else SlideTextClassifier()
    assert get_tags(model).non_deterministic is differs


def test_pipeline_of_texts_and_names():
    names = COLOURS * 25
    model = make_pipeline(TfidfVectorizer(), clone(SMALL)).fit(TEXTS, names)
    assert model.predict(["a red one", "something blue"]).tolist() == ["red", "blue"]
    assert model.score(TEXTS, names) == 1


def test_pipeline_of_texts_and_several_tags():
    tags = [{colour, "thing"} for colour in COLOURS * 25]
    binarizer = MultiLabelBinarizer(sparse_output=True)
    model = make_pipeline(TfidfVectorizer(), clone(SMALL)).fit(TEXTS, binarizer.fit_transform(tags))
    assert binarizer.inverse_transform(model.predict(["a grey thing"])) == [("grey", "thing")]


def test_texts_of_one_column_of_a_table():
    pandas = pytest.importorskip("pandas")
    table, names = pandas.DataFrame({"text": TEXTS, "number": range(100)}), COLOURS * 25
    texts = SlideTextClassifier(hidden=4, epochs=1, n_workers=1)
    columns = make_column_transformer((texts, "text"), remainder="passthrough").set_output(transform="pandas")
    found = columns.fit(table, names).transform(table)
    own = [f"slidetextclassifier{i}" for i in range(4)]
    assert found.columns.tolist() == [*(f"slidetextclassifier__{name}" for name in own), "remainder__number"]
    assert make_pipeline(texts).fit(TEXTS, names).get_feature_names_out(["text"]).tolist() == own


@pytest.mark.slow
def test_grid_search_and_cross_validation():
    X, y = TfidfVectorizer().fit_transform(TEXTS), np.array(COLOURS * 25)
    search = GridSearchCV(SMALL, {"hidden": [(4,), (16,)], "learning_rate": [1e-9, 0.02]}, cv=3).fit(X, y)
    assert search.best_params_["learning_rate"] == 0.02 and search.best_score_ > 0.9
    assert cross_val_score(SMALL, X, y, cv=3).min() > 0.9
    assert SMALL.get_params()["hidden"] == (32,) and not hasattr(SMALL, "model_")


@pytest.mark.parametrize(
    "grid",
    [
        {"epochs": np.arange(1, 3)},
        {"micro_batch": 2 ** np.arange(4, 6), "n_workers": np.array([1])},
        {"hidden": [(n,) for n in 2 ** np.arange(2, 4)] + list(np.arange(3, 5))},
        {"learning_rate": np.logspace(-3, -2, 2, dtype=np.float32), "random_state": np.arange(2)},
        {"settings": [{"lsh": {"family": "simhash", "K": K}} for K in np.arange(4, 6)]},
    ],
)
def test_numbers_that_searches_hand_over_are_numbers(grid):
    X, y = TfidfVectorizer().fit_transform(TEXTS), np.array(COLOURS * 25)
    search = GridSearchCV(clone(SMALL).set_params(epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    assert clone(search.best_estimator_).get_params().keys() == SMALL.get_params().keys()
