"""Training in parts: what a later part keeps of an earlier one, and what it must not."""

import dataclasses
import json
import pickle
import signal

import numpy as np
import pytest
from scipy import sparse

from slide_fast import SlideClassifier, SlideTextClassifier
from slide_fast.engine.run import Run
from slide_fast.engine.training_info import in_words
from slide_fast.estimator import answers, embeddings
from slide_fast.estimator.sklearn_base import BaseEstimator
from slide_ref.common.errors import ConfigError, DataError

rng = np.random.default_rng(0)
X = (rng.random((400, 20)) * (rng.random((400, 20)) < 0.3)).astype(np.float32)
ONE = X[:, :6].argmax(axis=1)
THREE = [sorted({int(c), (int(c) + 1) % 6, (int(c) + 2) % 6}) for c in ONE]
TEXTS, NAMES = ["red apple", "green car"] * 20, ["fruit", "vehicle"] * 20


def small(**parameters):
    return SlideClassifier(**{"hidden": 16, "micro_batch": 32, "epochs": 2, "n_workers": 1} | parameters)


def text_classifier(**parameters):
    return SlideTextClassifier(**{"hidden": 8, "epochs": 2, "n_workers": 1, "min_df": 1} | parameters)


def test_parts_of_a_stream_are_counted_together(tmp_path):
    whole = small().partial_fit(X, THREE, classes=range(6))
    before = whole.model_
    whole.partial_fit(X[:5], [[int(c)] for c in ONE[:5]])
    model = whole.model_
    np.testing.assert_array_equal(model.label_counts, before.label_counts + np.bincount(ONE[:5], minlength=6))
    assert model.facts["n_train_samples"] == 405
    assert model.facts["labels_per_sample"] == whole.labels_per_sample_ == pytest.approx((400 * 3 + 5) / 405)
    assert len(whole.predict(X[:1])[0]) == 3
    whole.save(tmp_path / "model")
    loaded = SlideClassifier.load(tmp_path / "model")
    loaded.partial_fit(X[:5], [[int(c)] for c in ONE[:5]])
    assert len(loaded.predict(X[:1])[0]) == 3 and loaded.model_.facts["n_train_samples"] == 410


def test_later_files_may_have_fewer_features(tmp_path):
    (tmp_path / "a.svm").write_text("0 1:1 5:2\n1 2:1\n" * 20)
    (tmp_path / "b.svm").write_text("0 1:1 3:2\n1 2:1\n" * 20)
    model = small().partial_fit(tmp_path / "a.svm").partial_fit(tmp_path / "b.svm")
    assert model.n_features_in_ == 6 and model.model_.facts["n_train_samples"] == 80
    with pytest.warns(UserWarning, match="left out 20 values of features that were not there in training"):
        small().partial_fit(tmp_path / "b.svm").partial_fit(tmp_path / "a.svm")


def test_patience_has_no_effect_on_a_part():
    model = small(patience=2).fit(X, ONE, eval_set=(X, ONE))
    assert model.partial_fit(X, ONE).model_.facts["epochs"] == 3
    model = small(patience=2, validation_fraction=0.2).fit(X, ONE)
    assert model.partial_fit(X, ONE).model_.facts["n_train_samples"] == 320 + 400


def test_a_loaded_network_goes_on_at_its_scale_and_a_new_one_finds_its_own(tmp_path):
    first = small(epochs=10, learning_rate=0.02).fit(1000 * X, ONE)
    scale = first.model_.config.input_scale
    assert scale < 0.01
    first.save(tmp_path / "model")
    loaded = SlideClassifier.load(tmp_path / "model")
    assert loaded.partial_fit(1000 * X, ONE).model_.config.input_scale == scale
    again = SlideClassifier.load(tmp_path / "model").fit(X, ONE)
    assert again.model_.config.input_scale == 1 and again.score(X, ONE) > 0.8


def test_a_token_pattern_has_no_effect_on_a_network_with_a_tokenizer():
    model = text_classifier(tokenizer=str.split, warm_start=True).fit(TEXTS, NAMES).set_params(token_pattern="[a-z]")
    assert model.fit(TEXTS, NAMES).partial_fit(TEXTS, NAMES).model_.facts["epochs"] == 5


@pytest.mark.parametrize(
    "change", [{"word_ngrams": 2}, {"min_df": 3}, {"token_pattern": "[a-z]"}, {"tokenizer": str.split}]
)
def test_text_settings_of_a_trained_network_are_kept(change):
    name = next(iter(change))
    for model in (text_classifier(warm_start=True).fit(TEXTS, NAMES), text_classifier().fit(TEXTS, NAMES)):
        with pytest.raises(ConfigError, match=f"^{name} is .* but the network was trained with"):
            model.set_params(**change)
            model.fit(TEXTS, NAMES) if model.warm_start else model.partial_fit(TEXTS, NAMES)
    with pytest.raises(ConfigError, match="token_pattern"):
        text_classifier().fit(TEXTS, NAMES).set_params(token_pattern="(").partial_fit(TEXTS, NAMES)


def test_weights_that_leave_nothing_are_named():
    none, first = "the samples with labels to train on have weight 0; give some", np.eye(len(X))[0]
    with pytest.raises(DataError, match=f"^class_weight: {none}"):
        small(class_weight=dict.fromkeys(range(6), 0)).fit(X, ONE)
    with pytest.raises(DataError, match=f"^sample_weight and class_weight: {none}"):
        small(class_weight={int(ONE[0]): 0}).fit(X, ONE, first)
    with pytest.raises(DataError, match=f"^sample_weight: {none}"):
        small().fit(X, [[], *THREE[1:]], first)


@pytest.mark.parametrize(("largest", "others"), [(1e300, 0.0), (1.0, 0.5)])
def test_weights_whose_products_are_too_large_are_named(largest, others):
    weights = np.full(len(X), others)
    weights[0] = largest
    message = "^sample_weight and class_weight: the weights of the samples are too large to sum; scale them down$"
    with pytest.raises(DataError, match=message):
        small(class_weight=dict.fromkeys(range(6), 1e308)).fit(X, THREE, weights)


def pressing(press):
    """`Run._account` that presses a key once."""
    original, pressed = Run._account, []

    def account(self, *arguments):
        original(self, *arguments)
        if not pressed:
            pressed.append(True)
            press()

    return account


def test_counts_of_models_without_a_mean_go_on(tmp_path):
    small().fit(X, [[int(c)] for c in ONE]).save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    del content["facts"]["labels_per_sample"]
    path.write_text(json.dumps(content))
    loaded = SlideClassifier.load(tmp_path / "model").partial_fit(X[:2], [[0], [1]])
    assert loaded.labels_per_sample_ == 1


def test_min_df_of_hashed_words_has_no_effect():
    model = text_classifier(buckets=64, min_df=2).partial_fit(TEXTS, NAMES)
    assert model.set_params(min_df=1).partial_fit(TEXTS, NAMES).n_features_in_ == 64


def test_a_model_kept_by_joblib_goes_on_as_one_that_was_pickled(tmp_path):
    joblib = pytest.importorskip("joblib")
    model = small().partial_fit(X, ONE, classes=range(6))
    joblib.dump(model, tmp_path / "model.joblib")
    pickled = pickle.dumps(model)
    size = sum(array.nbytes for array in model._state.arrays.values())
    assert (tmp_path / "model.joblib").stat().st_size < len(pickled) + size // 2  # each array once
    both = joblib.load(tmp_path / "model.joblib"), pickle.loads(pickled)
    for copy in both:
        copy.partial_fit(X[:50], ONE[:50])
    model.partial_fit(X[:50], ONE[:50])
    for copy in both:
        assert copy.model_.facts["steps"] == model.model_.facts["steps"]
        np.testing.assert_array_equal(copy.model_.arrays["W0"], model.model_.arrays["W0"])


def test_facts_tell_of_all_steps(tmp_path):
    """Also those whose moments were not kept: of `fit` without warm start, and before a model was saved."""
    model = small(epochs=3).fit(X, ONE)
    n = model.model_.facts["steps"] // 3
    model.partial_fit(X, ONE).partial_fit(X, ONE)
    model.save(tmp_path / "model")
    model = SlideClassifier.load(tmp_path / "model").partial_fit(X, ONE)
    assert {key: model.model_.facts[key] for key in ("epochs", "steps")} == {"epochs": 6, "steps": 6 * n}
    assert model._state.past.steps == n  # of these the moments are
    title, told = in_words(model.model_)[0]
    assert title == "trained" and told.startswith(f"6 of 6 epochs, {6 * n} steps, ")


def test_a_pickled_model_keeps_no_state_of_another():
    model = small().partial_fit(X, ONE, classes=range(6))
    model.model_ = small().fit(X, ONE).model_
    assert pickle.loads(pickle.dumps(model))._state is None


def test_columns_of_an_indicator_have_their_names_in_order():
    indicator = np.eye(6, dtype=int)[ONE]
    with pytest.raises(
        DataError, match="classes: the columns of y, or the labels of a file, stand for the classes in ascending order"
    ):
        small().partial_fit(X, indicator, classes=list("fedcba"))
    for wrong in ([0, 1, 1, 2, 3, 4, 5], [*range(5, -1, -1)]):
        with pytest.raises(DataError, match="classes: the columns of y.*name each once"):
            small().partial_fit(X, indicator, classes=wrong)
    with pytest.raises(DataError, match="classes: the columns of y"):
        small().partial_fit(X, sparse.csr_matrix(indicator), classes=[*range(5, -1, -1)])
    assert small().partial_fit(X, indicator, classes=list("abcdef")).classes_.tolist() == list("abcdef")
    names = ["abcdef"[c] for c in ONE]
    assert small().partial_fit(X, names, classes=list("fedcba")).classes_.tolist() == list("abcdef")


def test_no_classes_at_all_are_refused():
    with pytest.raises(DataError, match="^classes is empty; name all labels that will ever occur, or leave it out"):
        small().partial_fit(X, ONE, classes=[])


def test_a_seed_among_the_settings_counts_in_parts_too():
    assert small(settings={"seed": 9}).partial_fit(X, ONE).model_.config.seed == 9


def test_a_new_network_forgets_the_seed_of_an_earlier_stream():
    model = small().partial_fit(X, ONE).set_params(random_state=5)
    model.fit(X, ONE).partial_fit(X, ONE)
    other = small(random_state=5).fit(X, ONE).partial_fit(X, ONE)
    assert model.model_.config.seed == 5
    np.testing.assert_array_equal(model.model_.arrays["W0"], other.model_.arrays["W0"])


def test_a_network_of_texts_keeps_its_text_settings_whoever_trains_it_on(tmp_path):
    model = text_classifier().fit(TEXTS, NAMES)
    model.save(tmp_path / "model")
    loaded = SlideClassifier.load(tmp_path / "model").set_params(n_workers=1)
    loaded.partial_fit(model._rows_of(TEXTS), NAMES).save(tmp_path / "model")
    assert SlideTextClassifier.load(tmp_path / "model").predict(TEXTS[:2]).tolist() == NAMES[:2]
    assert loaded.fit(X[:40], NAMES).model_.text is None


def test_a_network_of_a_table_keeps_its_columns(tmp_path):
    model = text_classifier().fit(TEXTS, NAMES)
    columns = model._vectorizer.saved({"text_columns": ["title"], "label_column": "subject"})
    model.model_ = dataclasses.replace(model.model_, text=columns)
    model.save(tmp_path / "model")
    again = SlideTextClassifier.load(tmp_path / "model").set_params(n_workers=1).partial_fit(TEXTS, NAMES)
    assert again.model_.text.settings == columns.settings


def test_a_loaded_stream_has_the_settings_that_fit_would_have(tmp_path):
    model = small(epochs=20, settings={"decay": "cosine", "in_batch": 0.3, "warmup_steps": 5})
    model.partial_fit(X, ONE).partial_fit(X, ONE).save(tmp_path / "model")
    assert model.model_.config.decay == "constant"
    loaded = SlideClassifier.load(tmp_path / "model")
    kept = {key: loaded.settings[key] for key in ("decay", "in_batch", "warmup_steps")}
    assert loaded.epochs == 20 and kept == {"decay": "cosine", "in_batch": 0.3, "warmup_steps": 5}


def test_parts_of_dense_samples_have_no_in_batch_steps_and_a_loaded_network_is_trained_as_fit_would(tmp_path):
    dense, y = rng.random((2_000, 16)).astype(np.float32), np.arange(2_000) % 50
    model = SlideClassifier(n_workers=1).partial_fit(dense, y)
    assert model.model_.config.hidden == (1024,) and model.model_.config.in_batch == 0
    model.partial_fit(dense[:300], y[:300]).save(tmp_path / "model")
    loaded = SlideClassifier.load(tmp_path / "model")
    assert (loaded.epochs, loaded.settings["in_batch"]) == (16, 1.0)


def test_a_warm_start_goes_on_with_the_settings_chosen_for_dense_samples():
    dense, y = rng.random((2_000, 16)).astype(np.float32), np.arange(2_000) % 50
    model = SlideClassifier(n_workers=1, warm_start=True, max_seconds=0.1)
    chosen = [model.fit(dense, y).model_.config for _ in range(2)]
    assert chosen[0] == chosen[1] and (chosen[1].epochs, chosen[1].in_batch) == (16, 1.0)


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_part_cut_short_by_ctrl_c_does_not_count(n_before):
    model = small()
    for _ in range(n_before):
        model.partial_fit(X, THREE, classes=range(6))
    before = n_before and model.model_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slide_fast.engine.run.Run._account", pressing(lambda: signal.raise_signal(signal.SIGINT)))
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(X[:200], THREE[:200], classes=range(6))
    assert model.model_.facts["n_train_samples"] == 400 * n_before
    if before:
        assert model.model_.facts["steps"] > before.facts["steps"]
        assert model.labels_per_sample_ == model.model_.facts["labels_per_sample"] == 3
        np.testing.assert_array_equal(model.model_.label_counts, before.label_counts)
    model.partial_fit(X[:200], THREE[:200])
    assert model.model_.label_counts.sum() == 3 * (400 * n_before + 200)
    assert model.model_.facts["n_train_samples"] == 400 * n_before + 200


@pytest.mark.parametrize("reading", ["ask", "ask without samples", "save"])
def test_what_another_thread_trains_while_an_index_is_made_is_kept(tmp_path, reading):
    model, made_by = small().fit(X, ONE), "with_index"
    if reading == "ask without samples":
        model._index_samples, made_by = None, "indexed_by"
    make, epochs = getattr(answers, made_by), model.model_.facts["epochs"]

    def while_training(*arguments):
        model.partial_fit(X, ONE)
        return make(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, made_by, while_training)
        if reading == "save":
            model.save(tmp_path / "model")
            assert SlideClassifier.load(tmp_path / "model").model_.index is not None
        else:
            model.predict_topk(X, 2, "index")
    assert model.model_.facts["epochs"] == epochs + 1


ANSWERS = {
    "predict": lambda model, X: model.predict(X),
    "predict_topk": lambda model, X: model.predict_topk(X, 2)[0],
    "index": lambda model, X: model.predict_topk(X, 2, "index")[0],
    "predict_proba": lambda model, X: model.predict_proba(X, labels=[2, 5]),
    "decision_function": lambda model, X: model.decision_function(X),
    "transform": lambda model, X: model.transform(X),
    "score": lambda model, X: model.score(X, ONE),
}


@pytest.mark.parametrize("method", ANSWERS)
def test_answers_are_those_of_one_network_while_another_thread_trains(method):
    model, answer, others = small().fit(X, ONE), ANSWERS[method], (7 * (ONE % 2)).astype(str)

    class Samples:
        def __array__(self, dtype=None, copy=None):
            model.fit(X[:, :9], others)
            return X

    wanted = answer(model, X)
    assert np.array_equal(answer(model, Samples()), wanted)
    assert model.classes_.tolist() == ["0", "7"] and model.n_features_in_ == 9


def test_what_another_thread_trains_is_in_no_part_of_what_is_found_or_written(tmp_path, monkeypatch):
    first, second = small(warm_start=True).fit(X, ONE), small(warm_start=True).fit(X, ONE.astype(str))
    similar, states, model = first.similar_labels(0), BaseEstimator.__getstate__, small()

    def while_training(make):
        def made(*arguments):
            result = make(*arguments)
            vars(model).update(vars(second))
            return result

        return made

    monkeypatch.setattr(embeddings, "most_similar", while_training(embeddings.most_similar))
    monkeypatch.setattr(answers, "with_index", while_training(answers.with_index))
    monkeypatch.setattr(BaseEstimator, "__getstate__", while_training(lambda self: dict(states(self))))
    vars(model).update(vars(first))
    assert model.similar_labels(0)[0].tolist() == similar[0].tolist()
    vars(model).update(vars(first))
    model.save(tmp_path / "model")
    vars(model).update(vars(first))
    kept = pickle.dumps(model)
    for copied in (SlideClassifier.load(tmp_path / "model"), pickle.loads(kept)):
        assert np.array_equal(copied.label_embeddings_, first.label_embeddings_)
        assert copied.classes_.tolist() == list(range(6))
    assert pickle.loads(kept)._state is not None and model.model_ is second.model_


def test_what_a_callback_does_to_its_event_concerns_nobody_else(capsys):
    model = small(verbose=True).fit(X, ONE, callback=lambda event: event.clear())
    assert model.history_[-1]["kind"] == "end"


def test_facts_of_a_model_that_are_no_settings_are_passed_over(tmp_path):
    small().partial_fit(X, ONE).save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    for wrong in ([1], {"bogus": 1, "hidden": 7}):
        content = json.loads(path.read_text())
        content["facts"]["settings_of_fit"] = wrong
        path.write_text(json.dumps(content))
        assert SlideClassifier.load(tmp_path / "model").hidden == (16,)


def test_dates_of_another_unit_are_the_same_classes():
    days = np.array(["2020-01-01", "2021-01-01", "2022-01-01", "2023-01-01", "2024-01-01", "2025-01-01"], "M8[D]")
    model = small().partial_fit(X, days[ONE], classes=days)
    model.partial_fit(X, days[ONE].astype("M8[ns]"), classes=days.astype("M8[ns]"))
    with pytest.raises(DataError, match="`classes` differs from the labels of the network; leave it out"):
        model.partial_fit(X, days[ONE], classes=days + 1)
    spans = np.arange(6).astype("m8[D]")
    model = small().partial_fit(X, spans[ONE], classes=spans).partial_fit(X, spans[ONE], classes=spans.astype("m8[s]"))
    for classes, message in ((None, "timedelta64 in months or years"), (spans.astype(int).astype("m8[Y]"), "differs")):
        with pytest.raises(DataError, match=message):
            model.partial_fit(X, spans[ONE].astype(int).astype("m8[Y]"), classes=classes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden": 8}, r"hidden is \(8,\), but was \(16,\)"),
        ({"settings": {"optimizer": "sgd"}}, "optimizer is sgd, but was adam"),
        ({"settings": {"beta1": 0.5}}, "beta1 is 0.5, but was 0.0"),
    ],
)
def test_what_of_a_network_cannot_change_is_named(change, told):
    with pytest.raises(ConfigError, match=f"the network cannot be trained further: {told}.*; set it back"):
        small(warm_start=True).fit(X, ONE).set_params(**change).fit(X, ONE)
