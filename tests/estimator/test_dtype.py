"""`SlideClassifier` with weights in float16: saved, loaded, asked, trained further."""

import numpy as np
import pytest
from problems import random_dataset

from slide_fast import SlideClassifier
from slide_ref.common.errors import ConfigError


@pytest.fixture(scope="module")
def data():
    return random_dataset(0, n_samples=300, n_labels=60)


@pytest.fixture(scope="module")
def model(data):
    return SlideClassifier((8,), epochs=3, micro_batch=50, n_workers=1).fit(data.features, data.labels)


def weights_of(model):
    return {name: array.dtype.name for name, array in model.model_.arrays.items() if name.startswith("W")}


@pytest.mark.parametrize("mmap", [False, True])
def test_a_model_saved_in_float16_takes_half_and_stays_so(data, model, tmp_path, mmap):
    model.save(tmp_path / "full")
    model.save(tmp_path / "half", dtype="float16")
    full, half = ((tmp_path / name / "W1.npy").stat().st_size - 128 for name in ("full", "half"))
    assert full == 2 * half and weights_of(model) == {"W0": "float32", "W1": "float32"}
    loaded = SlideClassifier.load(tmp_path / "half", mmap)
    assert weights_of(loaded) == {"W0": "float16", "W1": "float16"}
    loaded.save(tmp_path / "again")
    loaded.save(tmp_path / "back", dtype="float32")
    again, back = (SlideClassifier.load(tmp_path / name) for name in ("again", "back"))
    assert weights_of(again) == weights_of(loaded) and weights_of(back) == weights_of(model)
    for mode in ("exact", "index"):
        ids, scores = loaded.predict_topk(data.features, 5, mode)
        assert scores.dtype == np.float32
        wanted = back.predict_topk(data.features, 5, mode)
        assert np.array_equal(ids, wanted[0]) and np.array_equal(scores, wanted[1])
    assert np.array_equal(loaded.predict_proba(data.features), back.predict_proba(data.features))


def test_training_further_turns_weights_into_float32(data, model, tmp_path):
    model.save(tmp_path / "half", dtype="float16")
    first, second = (SlideClassifier.load(tmp_path / "half", mmap) for mmap in (False, True))
    SlideClassifier.load(tmp_path / "half").save(tmp_path / "back", dtype="float32")
    third = SlideClassifier.load(tmp_path / "back")
    for some in (first, second, third):
        some.set_params(n_workers=1).partial_fit(data.features, data.labels)
        assert weights_of(some) == {"W0": "float32", "W1": "float32"}
    assert all(np.array_equal(some.model_.arrays["W1"], third.model_.arrays["W1"]) for some in (first, second))


def test_other_dtypes_are_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="dtype is 'float8'; it must be one of float32, float16"):
        model.save(tmp_path / "model", dtype="float8")
    assert not (tmp_path / "model").exists()
