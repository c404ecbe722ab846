"""Training in parts: what a later part keeps of an earlier one, and what it must not."""

import json
import signal

import numpy as np
import pytest

from slide_fast import SlideClassifier, SlideTextClassifier
from slide_fast.engine.run import Run
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
    with pytest.raises(DataError, match="sample_weight and class_weight leave no weight"):
        small(class_weight=dict.fromkeys(range(6), 0)).fit(X, ONE)
    with pytest.raises(DataError, match="sample_weight and class_weight leave no weight"):
        small(class_weight={int(ONE[0]): 0}).fit(X, ONE, np.eye(len(X))[0])


def test_parts_are_counted_together_after_ctrl_c_too():
    model = small().partial_fit(X, THREE, classes=range(6))
    pressed = False

    def press(*_):
        nonlocal pressed
        if not pressed:
            pressed = True
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slide_fast.engine.run.Run._account", pressing(press))
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(X, [[int(c)] for c in ONE])
    assert model.labels_per_sample_ == model.model_.facts["labels_per_sample"] == pytest.approx(2)


def pressing(press):
    original = Run._account

    def account(self, *arguments):
        original(self, *arguments)
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
