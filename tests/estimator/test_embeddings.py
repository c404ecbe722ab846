"""Activations of samples, weights of labels, and labels that are alike."""

import numpy as np
import pytest
from problems import random_dataset

from slide_fast import SlideClassifier
from slide_fast.estimator.sklearn_base import NotFittedError
from slide_fast.inference import probabilities, similar
from slide_fast.inference.similar import most_similar
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.parameters import layers_of

DATA = random_dataset(0, n_samples=300, n_labels=40)
NAMES = np.array([f"label {i:02}" for i in range(40)])


@pytest.fixture(scope="module")
def model():
    y = [NAMES[DATA.labels.row(i)[0]].tolist() for i in range(300)]
    return SlideClassifier((12, 8), epochs=5, micro_batch=50, n_workers=1).fit(DATA.features, y)


@pytest.mark.parametrize("n_rows", [1, 300])
def test_activations_times_embeddings_are_the_logits(model, n_rows):
    rows = DATA.features.take(np.arange(n_rows))
    hidden = model.transform(rows)
    assert hidden.dtype == np.float32 and hidden.shape == (n_rows, 8) and hidden.min() == 0 < hidden.max()
    logits = hidden @ model.label_embeddings_.T + model.model_.arrays["b2"]
    assert np.allclose(logits, model.decision_function(rows), rtol=1e-4, atol=1e-5)


def test_columns_have_names(model):
    names = model.get_feature_names_out()
    assert names.dtype == object and names.tolist() == [f"slideclassifier{i}" for i in range(8)]
    assert model.get_feature_names_out(["x"] * 30).tolist() == names.tolist()
    with pytest.raises(DataError, match=r"input_features should have length equal to number of features \(30\), got 2"):
        model.get_feature_names_out(["a", "b"])


def test_embeddings_are_rows_of_labels_and_read_only(model, tmp_path):
    assert model.label_embeddings_.shape == (len(model.classes_), 8)
    assert np.shares_memory(model.label_embeddings_, model.model_.arrays["W2"])
    with pytest.raises(ValueError, match="read-only"):
        model.label_embeddings_[0] = 0
    model.save(tmp_path / "half", dtype="float16")
    half = SlideClassifier.load(tmp_path / "half")
    assert half.label_embeddings_.dtype == np.float32
    assert np.array_equal(half.label_embeddings_, model.label_embeddings_.astype(np.float16))


@pytest.mark.parametrize("k", [1, 5, 100])
def test_similar_labels_have_the_largest_cosines(model, k, monkeypatch):
    monkeypatch.setattr(similar, "LABELS_AT_ONCE", 7)
    E = model.label_embeddings_.astype(np.float64)
    E /= np.linalg.norm(E, axis=1)[:, None]
    for place in (0, 17, len(E) - 1):
        labels, cosines = model.similar_labels(model.classes_[place], k)
        wanted = np.delete(E @ E[place], place)
        order = np.argsort(-wanted, kind="stable")[:k]
        assert labels.tolist() == np.delete(model.classes_, place)[order].tolist()
        assert cosines.dtype == np.float32 and np.allclose(cosines, wanted[order], atol=1e-6)


def test_equal_labels_come_by_id_and_rows_of_zeros_have_cosine_zero():
    W = np.array([[1, 0], [2, 0], [0, 0], [-1, 0], [3, 0]], dtype=np.float32)
    ids, cosines = most_similar(W, 1, 9)
    assert ids.tolist() == [0, 4, 2, 3] and cosines.tolist() == [1, 1, 0, -1]
    assert most_similar(W, 2, 2)[1].tolist() == [0, 0]
    assert most_similar(W[:1], 0, 3)[0].tolist() == []


def test_wrong_questions_are_refused(model):
    with pytest.raises(DataError, match="label"):
        model.similar_labels("label 99")
    for wrong, message in ((None, "label, row 0: the label is missing"), (["label 01"], "label holds several values;")):
        with pytest.raises(DataError, match=f"^{message}"):
            model.similar_labels(wrong)
    with pytest.raises(ConfigError, match="^k is 0"):
        model.similar_labels(model.classes_[0], 0)
    new = SlideClassifier()
    for ask in (lambda: new.transform(DATA.features), lambda: new.label_embeddings_, lambda: new.similar_labels(1)):
        with pytest.raises(NotFittedError):
            ask()
    assert not hasattr(new, "label_embeddings_")


def test_probabilities_are_those_over_all_labels_in_blocks_of_any_size(monkeypatch):
    data = random_dataset(0, n_samples=9, n_labels=23)
    layers = layers_of(fit(Config(hidden=(4,), epochs=1), data, n_workers=1).arrays)
    labels = np.arange(23)
    whole = probabilities.probabilities_of(layers, data.features, labels)
    monkeypatch.setattr(probabilities, "LABELS_AT_ONCE", 5)
    monkeypatch.setattr(probabilities, "ROWS_AT_ONCE", 4)
    in_blocks = probabilities.probabilities_of(layers, data.features, labels)
    assert np.allclose(in_blocks.sum(axis=1), 1, atol=1e-5) and np.allclose(in_blocks, whole, atol=1e-6)
