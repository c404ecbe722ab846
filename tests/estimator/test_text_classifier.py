"""Texts in, names out: `SlideTextClassifier`, and what it shares with `SlideClassifier` and the command line."""

import copy
import pickle

import numpy as np
import pytest

from slide_fast import SlideClassifier, SlideTextClassifier
from slide_fast.estimator.sklearn_base import NotFittedError
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.sparse_rows import SparseRows

SMALL = {"hidden": (16,), "epochs": 20, "micro_batch": 16, "learning_rate": 0.02, "n_workers": 1}
COLOURS = ["red", "green", "blue", "grey"]
TEXTS = [f"The {colour.upper()} thing, number {i}" for i in range(20) for colour in COLOURS]
NAMES = COLOURS * 20
SEVERAL = [[colour, "even" if i % 2 else "odd"] for i in range(20) for colour in COLOURS]


@pytest.fixture(scope="module")
def trained():
    return SlideTextClassifier(**SMALL).fit(TEXTS, NAMES)


def test_answers_are_names(trained):
    assert trained.predict(["a red one", "something BLUE"]).tolist() == ["red", "blue"]
    assert trained.score(TEXTS, NAMES) == 1
    labels, scores = trained.predict_topk(["grey"], k=2)
    assert labels[0, 0] == "grey" and scores.shape == (1, 2)
    assert trained.predict_proba(["grey"]).sum() == pytest.approx(1)
    assert trained.decision_function(["grey", ""]).shape == (2, 4)


def test_texts_may_have_several_labels():
    model = SlideTextClassifier(**SMALL).fit(TEXTS, SEVERAL, eval_set=(TEXTS[:8], SEVERAL[:8]))
    assert model.history_[-1]["kind"] == "end" and any(event["kind"] == "evaluation" for event in model.history_)
    assert all(len(labels) == 2 for labels in model.predict(TEXTS[:3]))


@pytest.mark.parametrize("values", [{}, {"word_ngrams": 2, "char_ngrams": (2, 4), "min_df": 1}, {"buckets": 64}])
def test_models_come_back(tmp_path, values):
    model = SlideTextClassifier(**SMALL, **values).fit(TEXTS, NAMES)
    model.save(tmp_path / "model")
    again = SlideTextClassifier.load(tmp_path / "model")
    assert {name: again.get_params()[name] for name in values} == values
    for ours, theirs in zip(again.predict_topk(TEXTS, k=3), model.predict_topk(TEXTS, k=3), strict=True):
        assert ours.tolist() == theirs.tolist()
    again.save(tmp_path / "again")
    for path in (tmp_path / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_copies_answer_alike(trained):
    for other in (copy.deepcopy(trained), pickle.loads(pickle.dumps(trained))):
        assert other.predict_topk(TEXTS)[1].tobytes() == trained.predict_topk(TEXTS)[1].tobytes()


def test_a_tokenizer_is_given_again_where_a_model_is_loaded(tmp_path):
    model = SlideTextClassifier(**SMALL, tokenizer=str.split).fit(TEXTS, NAMES)
    model.save(tmp_path)
    with pytest.raises(ModelError, match="which is not saved"):
        SlideTextClassifier.load(tmp_path)
    again = SlideTextClassifier.load(tmp_path, tokenizer=str.split)
    assert again.predict(TEXTS).tolist() == model.predict(TEXTS).tolist()


def test_texts_may_come_in_a_stream_where_features_are_hashed():
    model = SlideTextClassifier(**SMALL | {"micro_batch": 4}, buckets=256)
    for start in range(0, 80, 16):
        model.partial_fit(TEXTS[start : start + 16], NAMES[start : start + 16], classes=COLOURS)
    for _ in range(10):
        model.partial_fit(TEXTS, NAMES)
    assert model.score(TEXTS, NAMES) == 1 and model.n_features_in_ == 256
    with pytest.raises(ConfigError, match="buckets is 0; partial_fit needs hashed features to begin with"):
        SlideTextClassifier().partial_fit(TEXTS, NAMES)


def test_training_goes_on_with_the_words_of_before():
    model = SlideTextClassifier(**SMALL, warm_start=True).fit(TEXTS, NAMES)
    before, n = model.model_, model.n_features_in_
    model.fit(["a red apple of red"] * 30, ["red"] * 30)
    assert model.model_ is not before and model.n_features_in_ == n
    model.partial_fit(["an unknown word"], ["red"])
    assert model.model_.text is not None


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ("one text", "X is not a sequence of texts, which SlideTextClassifier takes; give a list of str"),
        (3, "X is not a sequence of texts"),
        (np.eye(8), "X is not a sequence of texts"),
        (SparseRows(np.arange(3), np.zeros(2, np.int32), np.ones(2, np.float32), 27), "X is not a sequence of texts"),
        (np.array([["a", "b"]]), "X is not a sequence of texts"),
        (["a", None], "X, row 1: the text is missing"),
        (["a", float("nan")], "X, row 1: the text is missing"),
        (np.ma.masked_array(["a", "b"], [False, True]), "X, row 1: the text is missing"),
        (["a", 3], "X, row 1: 3 is not a text; give a str"),
        ([b"a"], "X, row 0: b'a' is not a text"),
    ],
)
def test_what_is_no_text_is_refused(trained, texts, wanted):
    for call in (lambda: SlideTextClassifier(**SMALL).fit(texts, ["red", "blue"]), lambda: trained.predict(texts)):
        with pytest.raises(DataError) as error:
            call()
        assert str(error.value).startswith(wanted)


def test_a_call_that_fails_leaves_the_estimator_as_it_was(trained):
    model = copy.copy(trained)
    before = dict(vars(model))
    with pytest.raises(DataError):
        model.fit(["other words", "only these"], ["a"])
    assert vars(model) == before and model.predict(["red"]).tolist() == ["red"]
    with pytest.raises(ConfigError, match="min_df is 0"):
        SlideTextClassifier(min_df=0).fit(TEXTS, NAMES)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(NotFittedError, match="this SlideTextClassifier is not trained yet"):
        SlideTextClassifier().predict(["a"])
    SlideClassifier(**SMALL).fit(np.eye(4), [0, 1, 0, 1]).save(tmp_path)
    with pytest.raises(DataError, match="X is no table of numbers.*; for texts there is SlideTextClassifier"):
        SlideClassifier.load(tmp_path).predict(["a text"])
    with pytest.raises(ModelError, match="this model was not trained on texts; load it with SlideClassifier.load"):
        SlideTextClassifier.load(tmp_path)


def test_series_and_searches_of_scikit_learn():
    pandas, sklearn = pytest.importorskip("pandas"), pytest.importorskip("sklearn")
    model_selection = pytest.importorskip("sklearn.model_selection")
    table = pandas.DataFrame({"title": TEXTS, "colour": NAMES})
    model = sklearn.base.clone(SlideTextClassifier(**SMALL)).fit(table["title"], table["colour"])
    assert model.score(table["title"], table["colour"]) == 1
    scores = model_selection.cross_val_score(model, np.array(TEXTS), np.array(NAMES), cv=2)
    assert scores.min() == 1
    with pytest.raises(DataError, match=r"or a column of a table such as table\['title'\]"):
        model.predict(table[["title"]])


def test_no_texts_are_no_samples():
    with pytest.raises(DataError, match="there are no samples"):
        SlideTextClassifier().fit([], [])


def test_a_model_without_a_tokenizer_takes_none(tmp_path):
    SlideTextClassifier(hidden=4, epochs=1, n_workers=1, min_df=1).fit(["a b", "c d"], ["x", "y"]).save(tmp_path)
    with pytest.raises(ModelError, match="split into words by token_pattern; load the model without a tokenizer"):
        SlideTextClassifier.load(tmp_path, tokenizer=list)


@pytest.mark.parametrize("pattern", ["", "x*", "(a)?", r"\b", r"\b|x", r"\w*(?=\s)"])
def test_a_token_pattern_matches_no_empty_word(pattern):
    with pytest.raises(ConfigError, match="token_pattern is .* that matches no empty word"):
        SlideTextClassifier(token_pattern=pattern).fit(["a b", "c d"], ["x", "y"])


@pytest.mark.parametrize("texts", [{"a b", "b c"}, {"a b": 1, "b c": 2}])
def test_texts_without_an_order_are_refused(texts):
    with pytest.raises(DataError):
        SlideTextClassifier(hidden=4, epochs=1, n_workers=1, min_df=1).fit(texts, [0, 1])
