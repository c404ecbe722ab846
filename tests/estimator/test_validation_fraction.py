"""Training samples that `SlideClassifier` holds out, so that it can stop early inside pipelines and searches."""

import numpy as np
import pytest
from problems import random_dataset

from slide_fast import SlideClassifier
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.validation import kept_aside, split

X, Y = random_dataset(0, n_samples=200, n_labels=20)
SMALL = {"hidden": (8,), "epochs": 40, "micro_batch": 20, "n_workers": 1, "learning_rate": 0.05, "random_state": 3}


def test_s38_it_is_an_eval_set_of_samples_that_are_not_trained_on():
    model = SlideClassifier(**SMALL, patience=3, validation_fraction=0.3, eval_metric="ndcg_at_3").fit(X, Y)
    aside = kept_aside(3, X.n_rows, 0.3)
    (train, held_out), weights = split(type(random_dataset(0))(X, Y), aside), np.ones(140)
    other = SlideClassifier(**SMALL, patience=3, eval_metric="ndcg_at_3")
    other.fit(*train, sample_weight=weights, eval_set=tuple(held_out))
    assert model.model_.facts["n_train_samples"] == 140 and model.model_.facts["epochs"] < 40
    for name, array in other.model_.arrays.items():
        assert np.array_equal(array, model.model_.arrays[name])


def test_weights_go_with_their_samples():
    aside, weights = kept_aside(3, X.n_rows, 0.3), np.random.default_rng(0).random(X.n_rows)
    model = SlideClassifier(**SMALL | {"epochs": 2}, validation_fraction=0.3).fit(X, Y, sample_weight=weights)
    train, _ = split(type(random_dataset(0))(X, Y), aside)
    other = SlideClassifier(**SMALL | {"epochs": 2}).fit(*train, sample_weight=weights[~aside])
    assert np.array_equal(model.model_.arrays["W1"], other.model_.arrays["W1"])


def test_it_works_inside_a_search():
    selection = pytest.importorskip("sklearn.model_selection")
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 120)
    samples = sparse.csr_array(np.eye(4)[y] + rng.random((120, 4)) / 4)
    search = selection.GridSearchCV(
        SlideClassifier(**SMALL, patience=2, validation_fraction=0.2), {"eval_metric": ["loss", "precision_at_1"]}, cv=2
    )
    assert search.fit(samples, y).best_score_ > 0.8
    assert search.best_estimator_.model_.facts["n_train_samples"] == 96


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="^eval_set and validation_fraction exclude each other; give only one"):
        SlideClassifier(validation_fraction=0.1).fit(X, Y, eval_set=(X, Y))
    with pytest.raises(DataError, match=r"1 sample\(s\), none of which can be held out"):
        SlideClassifier(validation_fraction=0.1).fit(X.take(np.arange(1)), [[1]])


@pytest.mark.parametrize("more", [[0, 1], [-1]])
def test_samples_and_labels_are_as_many(more):
    y = [*range(8), *more] if more != [-1] else [*range(7)]
    for options in ({}, {"validation_fraction": 0.25}):
        with pytest.raises(DataError, match=f"X has 8 samples, but y has {len(y)}; give as many of both"):
            SlideClassifier(hidden=4, epochs=1, n_workers=1, **options).fit(np.eye(8), y)


def test_what_is_shown_follows_the_metric(capsys):
    options = {"validation_fraction": 0.3, "patience": 2, "eval_metric": "ndcg_at_5", "verbose": True}
    SlideClassifier(**SMALL | {"epochs": 2}, **options).fit(X, Y)
    assert "nDCG@5" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["X", "y"])
def test_errors_in_an_eval_set_are_said_of_it(place):
    samples, labels = (np.eye(4) * np.nan if place == "X" else np.eye(4)), ([0, 1, 2, 9] if place == "y" else range(4))
    with pytest.raises(DataError, match="eval_set"):
        SlideClassifier(n_workers=1, epochs=1).fit(np.eye(4), range(4), eval_set=(samples, labels))
