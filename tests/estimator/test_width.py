"""The width that an estimator chooses where its parameters leave it open."""

import numpy as np
import pytest

from slide_fast import SlideClassifier
from slide_fast.engine import auto_settings
from slide_ref.common.errors import ConfigError


@pytest.fixture
def samples(monkeypatch):
    """Samples of two labels each, of which few are enough for a wide network; that is small here."""
    monkeypatch.setattr(auto_settings, "FEWEST_SAMPLES", 40)
    monkeypatch.setattr(auto_settings, "WIDE", {"hidden": [24], "epochs": 2, "lsh": {"L": 0, "min_active": 0}})
    X = np.eye(40, dtype=np.float32)
    return X, [[i % 7, 7 + i % 5] for i in range(40)]


def test_samples_of_several_labels_get_a_wide_network(samples):
    model = SlideClassifier(n_workers=1).fit(*samples)
    assert model.model_.config.hidden == (24,) and model.model_.config.lsh.L == 0
    assert model.get_params()["hidden"] is None  # what was chosen is the network's, not the parameter's


@pytest.mark.parametrize("given", [{"hidden": (8,)}, {"settings": {"lsh": {"K": 3}}}])
def test_a_network_that_the_user_has_chosen_stays(samples, given):
    hidden = SlideClassifier(n_workers=1, epochs=1, **given).fit(*samples).model_.config.hidden
    assert hidden == given.get("hidden", (128,))


def test_training_goes_on_with_the_width_there_is(samples):
    X, y = samples
    model = SlideClassifier(n_workers=1, warm_start=True).fit(X, y).fit(X[:9], [[0]] * 8 + [[11]])
    assert model.model_.config.hidden == (24,)
    model = SlideClassifier(n_workers=1).partial_fit(X[:9], y[:9], classes=range(12))  # too few for a wide one
    assert model.partial_fit(X, y).model_.config.hidden == (128,)
    with pytest.raises(ConfigError, match="the network cannot be trained further"):
        SlideClassifier(n_workers=1, warm_start=True).fit(X, y).set_params(hidden=(8,)).fit(X, y)
