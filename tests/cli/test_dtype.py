"""``slide train --dtype float16``: what it writes and tells, and the commands that use such a model."""

import json

import numpy as np
import pytest

from slide_fast.cli import training_run
from slide_ref.common.storage.model_folder import load_model

TRAIN = "train {data}/train.txt --test {data}/test.txt --json --dtype float16 {small} --out"


@pytest.fixture
def half(slide, tmp_path):
    code, out, err = slide(TRAIN, tmp_path / "run")
    assert code == 0
    return tmp_path / "run", json.loads(out.splitlines()[-1]), err


def test_p_at_k_is_told_before_and_after(slide, half):
    run, figures, err = half
    assert figures["stored"].keys() == {"dtype", *training_run.SCORES} and figures["stored"]["dtype"] == "float16"
    assert f"float16: P@1 {figures['stored']['precision_at_1']:.2%} (before {figures['precision_at_1']:.2%})" in err
    code, out, _ = slide(f"evaluate {run} {{data}}/test.txt --json")
    assert code == 0 and json.loads(out)["precision_at_5"] == figures["stored"]["precision_at_5"]
    code, out, err = slide(f"info {run} --json")
    assert json.loads(out)["dtype"] == "float16" and "weights in float16" in err


def test_commands_keep_the_dtype_and_use_it(slide, half, trained):
    run, *_ = half
    assert slide(f"index {run} {{data}}/train.txt")[0] == 0
    model, whole = load_model(run / "model"), load_model(trained / "model")
    assert model.index is not None
    for name, array in model.arrays.items():
        assert array.dtype == (np.float16 if name.startswith("W") else np.float32)
        assert np.array_equal(array, whole.arrays[name].astype(array.dtype))
    for mode in ("exact", "index"):
        code, out, _ = slide(f"predict {run} {{data}}/test.txt --mode {mode}")
        assert code == 0 and len(out.splitlines()) == 80


def test_without_test_data_nothing_is_told(slide, tmp_path):
    code, out, _ = slide("train {data}/train.txt --json --dtype float16 {small} --out", tmp_path / "run")
    assert code == 0 and json.loads(out)["stored"] is None


def test_a_model_whose_weights_are_too_large_is_kept_in_float32(slide, tmp_path, monkeypatch):
    fit = training_run.fit

    def far_away(*args, **options):
        model = fit(*args, **options)
        model.arrays["W1"][3, 2] = 1e5
        return model

    monkeypatch.setattr(training_run, "fit", far_away)
    code, _, err = slide(TRAIN, tmp_path / "run")
    kept = f"the model is in {tmp_path}/run/model in float32"
    assert code == 1 and f"W1 holds a weight of 100000, but the maximum of float16 is 65504; {kept}" in err
    assert load_model(tmp_path / "run/model").arrays["W1"].dtype == np.float32
