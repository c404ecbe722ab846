"""Weights in float16: half the room, the same model, and nothing that does not fit."""

import dataclasses

import numpy as np
import pytest

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, ModelError
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parameters import array_shapes
from slide_ref.common.storage import precision
from slide_ref.common.storage.array_files import Blocks
from slide_ref.common.storage.model_folder import Model, load_model, save_model
from slide_ref.common.storage.precision import WeightRangeError, dtype_of, with_dtype

CONFIG = Config(hidden=(4,), lsh=LshConfig(K=3))


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    shapes = {name: shape for name, shape in array_shapes(CONFIG, 6, 5).items() if "_" not in name}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return Model(CONFIG, 6, 5, arrays, {})


@pytest.mark.parametrize("mmap", [False, True])
def test_weights_come_back_rounded_and_biases_as_they_were(tmp_path, model, mmap, monkeypatch):
    monkeypatch.setattr(precision, "ROWS_AT_ONCE", 2)
    half = with_dtype(model, "float16")
    save_model(tmp_path / "model", half)
    loaded = load_model(tmp_path / "model", mmap)
    assert dtype_of(model) == "float32" and dtype_of(half) == dtype_of(loaded) == "float16"
    for name, array in model.arrays.items():
        wanted = array.astype(np.float16) if name.startswith("W") else array
        assert loaded.arrays[name].dtype == wanted.dtype and np.array_equal(loaded.arrays[name], wanted)
    full = with_dtype(loaded, "float32")
    assert {array.dtype.name for array in full.arrays.values()} == {"float32"}
    assert np.array_equal(full.arrays["W1"], loaded.arrays["W1"].astype(np.float32))
    assert with_dtype(model, "float32").arrays["W0"] is model.arrays["W0"]


@pytest.mark.parametrize(("value", "fits"), [(65519.0, True), (65520.0, False), (-7e4, False)])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_weight_beyond_the_range_is_refused(model, value, fits, in_blocks):
    W = model.arrays["W1"].copy()
    W[4, 3] = value
    array = Blocks(W.shape, W.dtype, lambda: iter([W[:3], W[3:]])) if in_blocks else W
    model = dataclasses.replace(model, arrays=model.arrays | {"W1": array})
    if fits:
        assert np.asarray(with_dtype(model, "float16").arrays["W1"])[4, 3] == 65504
        return
    with pytest.raises(WeightRangeError, match=r"^W1 holds a weight of (65520|70000), but .* is 65504$"):
        with_dtype(model, "float16")


@pytest.mark.parametrize(("largest", "fits"), [(0.0, True), (6e-5, False), (1e-12, False), (6.2e-5, True)])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_weights_that_are_all_too_small_are_refused(model, largest, fits, in_blocks):
    W = np.zeros_like(model.arrays["W0"])
    W[-1, 0] = -largest
    array = Blocks(W.shape, W.dtype, lambda: iter([W[:2], W[2:]])) if in_blocks else W
    model = dataclasses.replace(model, arrays=model.arrays | {"W0": array})
    if fits:
        assert np.asarray(with_dtype(model, "float16").arrays["W0"])[-1, 0] == np.float16(-largest)
        return
    with pytest.raises(
        WeightRangeError, match="^the largest weight of W0 is .* loses bits below 6.1e-05; store float32"
    ):
        with_dtype(model, "float16")


def test_other_dtypes_are_refused(tmp_path, model):
    with pytest.raises(ConfigError, match="dtype"):
        with_dtype(model, "float64")
    mixed = model.arrays | {"W1": model.arrays["W1"].astype(np.float16)}
    with pytest.raises(ModelError, match=r"array W1: found float16 .*, but the settings require float32"):
        save_model(tmp_path / "model", dataclasses.replace(model, arrays=mixed))
    biases = {name: array.astype(np.float16) for name, array in model.arrays.items()}
    with pytest.raises(ModelError, match="array b0: found float16"):
        save_model(tmp_path / "model", dataclasses.replace(model, arrays=biases))
