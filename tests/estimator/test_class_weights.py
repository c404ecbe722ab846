"""What samples of a label count."""

import numpy as np
import pytest
from problems import random_dataset

from slide_fast import SlideClassifier
from slide_fast.estimator.class_weights import label_weights, weights_of_samples
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.metrics import inverse_propensity
from slide_ref.common.sparse_rows import rows_from_lists

X, Y = random_dataset(0, n_samples=200, n_labels=20)
SMALL = {"hidden": (8,), "epochs": 3, "micro_batch": 20, "n_workers": 1}
LABELS = rows_from_lists([[0], [0, 1], [], [0, 3]], 4)  # counts 3, 1, 0, 1


def test_balanced_is_what_scikit_learn_calls_so():
    class_weight = pytest.importorskip("sklearn.utils.class_weight")
    y = np.random.default_rng(0).integers(0, 5, 60) ** 2
    classes, places = np.unique(y, return_inverse=True)
    wanted = class_weight.compute_class_weight("balanced", classes=classes, y=y)
    assert np.allclose(label_weights("balanced", rows_from_lists([[i] for i in places], len(classes)), classes), wanted)


def test_weights_of_labels_by_hand():
    classes = np.array(["a", "b", "c", "d"])
    assert label_weights("balanced", LABELS, classes)[[0, 1, 3]].tolist() == [5 / 9, 5 / 3, 5 / 3]
    assert np.array_equal(label_weights("propensity", LABELS, classes), inverse_propensity(np.array([3, 1, 0, 1]), 4))
    assert label_weights({"b": 4, "d": 0}, LABELS, classes).tolist() == [1, 4, 1, 0]


def test_a_sample_has_the_mean_of_its_labels_weights_times_its_own():
    weight, classes = {0: 2.0, 3: 6.0}, np.arange(4)
    assert weights_of_samples(weight, LABELS, classes, None).tolist() == [2, 1.5, 1, 4]
    assert weights_of_samples(weight, LABELS, classes, np.array([1, 2, 3, 0.5])).tolist() == [2, 3, 3, 2]
    assert weights_of_samples(None, LABELS, classes, None) is None


@pytest.mark.parametrize("class_weight", ["balanced", "propensity", {3: 5.0}])
@pytest.mark.parametrize("fraction", [None, 0.2])
def test_training_is_that_with_these_weights_of_samples(class_weight, fraction):
    model = SlideClassifier(**SMALL, class_weight=class_weight, validation_fraction=fraction).fit(X, Y)
    other = SlideClassifier(**SMALL, validation_fraction=fraction)
    rows = np.arange(200)
    if fraction:
        from slide_ref.common.validation import kept_aside

        rows = np.flatnonzero(~kept_aside(0, 200, fraction))
    weights = np.ones(200)
    weights[rows] = weights_of_samples(class_weight, Y.take(rows), np.arange(20), None)
    other.fit(X, Y, sample_weight=weights)
    plain = SlideClassifier(**SMALL, validation_fraction=fraction).fit(X, Y)
    assert np.array_equal(model.model_.arrays["W1"], other.model_.arrays["W1"])
    assert not np.array_equal(model.model_.arrays["W1"], plain.model_.arrays["W1"])


def test_rare_labels_gain_by_weights():
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.05).astype(int)
    samples = np.stack([np.ones(2000), (y + rng.normal(0, 1.5, 2000))], axis=1)
    recall = {}
    for weight in (None, "balanced"):
        model = SlideClassifier(hidden=(8,), epochs=5, micro_batch=100, n_workers=1, class_weight=weight)
        recall[weight] = model.fit(samples, y).predict(samples)[y == 1].mean()
    assert recall["balanced"] > recall[None] + 0.2


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(ConfigError, match="^class_weight='balanced' counts labels over all samples"):
        SlideClassifier(class_weight="balanced").partial_fit(X, Y)
    for weight, message in (({77: 1.0}, "class_weight"), ({1: -1.0}, "negative"), ({1: np.nan}, "not finite")):
        with pytest.raises(DataError, match=message):
            SlideClassifier(class_weight=weight).fit(X, Y)
    SlideClassifier(**SMALL, class_weight={1: 2.0}).partial_fit(X, Y)
