"""S11, S12 and S26: both sides move the same rows by the same amounts, and nothing else."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import layers, real_arrays

import slide_fast.network
import slide_fast.optimizers as fast
import slide_ref.network
import slide_ref.optimizers as ref
from slide_fast.kernels.scratch import Scratch
from slide_fast.kernels.sparse_products import Multiples
from slide_fast.verify.comparison import Report, check_floats
from slide_fast.verify.lockstep import as_dtype
from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes, layers_of

SCRATCH = Scratch()  # shared by all examples, so that it holds what others left
STEPS = st.one_of(st.sampled_from([1, 2, 10**6]), st.integers(1, 2000))
SCALES = st.sampled_from([1.0, 0.25, 3.0])
CONFIGS = st.builds(
    Config,
    hidden=st.sampled_from([(1,), (3,), (5, 4)]),
    beta1=st.sampled_from([0.9, 0.0, 0.5]),
    beta2=st.sampled_from([0.999, 0.5]),
    epsilon=st.sampled_from([1e-8, 1e-2, 3.0]),
    weight_decay=st.sampled_from([0.0, 0.5, 3.0]),
    input_scale=SCALES,
)
SGD_CONFIGS = st.builds(
    Config,
    hidden=st.sampled_from([(1,), (3,), (5, 4)]),
    optimizer=st.just("sgd"),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    input_scale=SCALES,
)
RATES = st.sampled_from([1e-6, 2e-3, 0.5])


@st.composite
def problems(draw):
    """Parameters with moments and two gradients; rows at both ends, none, and all of them are among the touched."""
    config = draw(st.one_of(CONFIGS, SGD_CONFIGS))
    n_features, n_labels = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    parameters = draw(layers(config, n_features, n_labels, real_arrays))
    gradients = []
    for _ in range(2):
        gradients.append([])
        for l, layer in enumerate(parameters):
            kept = draw(st.lists(st.booleans(), min_size=len(layer.W), max_size=len(layer.W)))
            ids = None if l > 0 and draw(st.booleans()) else np.flatnonzero(kept)
            n = len(layer.W) if ids is None else len(ids)
            scale = draw(st.sampled_from([1.0, 1e-3, 1e-12, 0.0]))
            W, b = draw(real_arrays(n, layer.W.shape[1])), draw(real_arrays(len(layer.b) if l == 0 else n))
            gradients[-1].append((ids, W * np.float32(scale), b * np.float32(scale)))
    return config, parameters, gradients, draw(STEPS), draw(RATES)


def rows_of(layer, ids):
    return np.arange(len(layer.W)) if ids is None else ids


def assert_agree(fast_layers, ref_layers, exact_layers, before):
    for sides in zip(fast_layers, ref_layers, exact_layers, before, strict=True):
        for name in vars(sides[0]):
            ours, theirs, exact, old = (getattr(side, name) for side in sides)
            if ours is not None or theirs is not None:
                assert ours.dtype == theirs.dtype == np.float32 and exact.dtype == np.float64
                check_floats(Report(), name, ours, theirs, exact, np.maximum(np.abs(exact), np.abs(old)))


@given(problems())
def test_s12_s26_updates_agree(problem):
    config, parameters, gradients, step, rate = problem
    for this in gradients:
        before, ours, exact = (as_dtype(parameters, dtype) for dtype in (np.float32, np.float32, np.float64))
        fast_gradients = [slide_fast.network.RowGradient(ids, W.copy(), b.copy()) for ids, W, b in this]
        theirs, wide = (
            [
                slide_ref.network.RowGradient(rows_of(layer, ids), W.astype(dtype), b.astype(dtype))
                for layer, (ids, W, b) in zip(parameters, this, strict=True)
            ]
            for dtype in (np.float32, np.float64)
        )
        fast.update(ours, fast_gradients, step, rate, config, SCRATCH)
        ref.update(parameters, theirs, step, rate, config)
        ref.update(exact, wide, step, rate, config)
        assert_agree(ours, parameters, exact, before)
        for l, (mine, old, (ids, _, _)) in enumerate(zip(ours, before, this, strict=True)):
            for name in [name for name, array in vars(mine).items() if array is not None]:
                touched = np.zeros(len(getattr(mine, name)), dtype=bool)
                touched[slice(None) if ids is None or (l == 0 and name[0] == "b") else ids] = True
                assert np.array_equal(getattr(mine, name)[~touched], getattr(old, name)[~touched])
        step += 1


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("shape", [(7, 3), (9, 1), (4, 50)])
@pytest.mark.parametrize("elements", [1, 6, 9, 100])
@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
@pytest.mark.parametrize(("beta1", "number"), [(0.0, 10_000), (0.9, 5)])
def test_s12_rows_in_blocks_agree(monkeypatch, beta1, number, weight_decay, shape, elements, dense):
    """The first row is touched for the first time."""
    monkeypatch.setattr(fast, "ELEMENTS_AT_ONCE", elements)
    rng, config = np.random.default_rng(0), Config(beta1=beta1)
    rows = np.arange(shape[0]) if dense else np.array([0, 2, shape[0] - 1])
    w, m, g = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
    v = rng.standard_normal(shape[0], dtype=np.float32) ** 2
    v[0] = 0
    g, m = g[rows], m if beta1 else None
    before = [array if array is None else array.copy() for array in (w, m, v)]
    fast.adam_rows(w, m, v, None if dense else rows, g.copy(), fast.Step(number, 0.01, config), SCRATCH, weight_decay)
    results = []
    for dtype in (np.float32, np.float64):
        theirs = [array if array is None else array.astype(dtype) for array in before]
        for row, own in zip(rows, g.astype(dtype), strict=True):
            parts = [array if array is None else array[row : row + 1] for array in theirs]
            ref.adam_row(*parts, own[None], number, 0.01, config, weight_decay)
        results.append(theirs)
    for ours, other, exact in zip((w, m, v), *results, strict=True):
        if ours is not None:
            check_floats(Report(), "rows", ours, other, exact)


@pytest.mark.parametrize("elements", [1, 6, 100])
@pytest.mark.parametrize(
    "config",
    [
        Config(weight_decay=0.7),
        Config(),
        Config(beta1=0.9, weight_decay=0.7),
        Config(optimizer="sgd"),
        Config(optimizer="sgd", momentum=0.75),
    ],
    ids=["decay", "no decay", "first moments", "sgd", "momentum"],
)
def test_s12_s26_rows_that_are_multiples_of_others_agree(monkeypatch, config, elements):
    """Rows 0, 2, 3 and 5 are multiples of the errors of samples 1, 0, 2 and 1; row 4 has a gradient of its own.

    Rows 0 and 4 are touched for the first time, late, so that their steps are bounded. The errors of sample 2 have no
    square in float32.
    """
    monkeypatch.setattr(fast, "ELEMENTS_AT_ONCE", elements)
    rng = np.random.default_rng(0)
    shapes = array_shapes(dataclasses.replace(config, hidden=(4,)), n_features=7, n_labels=1)
    parameters = layers_of({name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()})[:1]
    if parameters[0].W_v is not None:
        parameters[0].W_v[[0, 4]] = 0
    errors, own, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((3, 4), (1, 4), 4))
    errors[2] *= np.float32(1e-30)
    rows, factors = np.array([1, 0, 2, 1]), np.array([3, -1e-3, 1e29, 0], np.float32)
    multiples = Multiples(np.array([0, 2, 3, 5]), rows, factors, errors)
    W = np.insert(factors[:, None] * errors[rows], 3, own, axis=0)
    ids = np.array([0, 2, 3, 4, 5])
    before, ours, exact = (as_dtype(parameters, dtype) for dtype in (np.float32, np.float32, np.float64))
    gradient = slide_fast.network.RowGradient(np.array([4]), own.copy(), b.copy(), multiples)
    fast.update(ours, [gradient], 10_000, 0.01, config, SCRATCH)
    for side, dtype in ((parameters, np.float32), (exact, np.float64)):
        theirs = slide_ref.network.RowGradient(ids, W.astype(dtype), b.astype(dtype))
        ref.update(side, [theirs], 10_000, 0.01, config)
    assert_agree(ours, parameters, exact, before)
    for name, array in vars(ours[0]).items():
        if array is not None and name.startswith("W"):
            assert np.array_equal(array[[1, 6]], getattr(before[0], name)[[1, 6]])


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.75])
@pytest.mark.parametrize("shape", [(7, 3), (7,), (9, 1), (4, 50)])
@pytest.mark.parametrize("elements", [1, 6, 100])
def test_s26_rows_in_blocks_agree(monkeypatch, shape, elements, momentum, dense):
    """Products of multiples of 1/16 with 0.75 and 0.5 are exact."""
    monkeypatch.setattr(fast, "ELEMENTS_AT_ONCE", elements)
    rng, config = np.random.default_rng(0), Config(optimizer="sgd", momentum=momentum)
    ids = None if dense else np.array([0, 2, shape[0] - 1])
    w, m, g = ((rng.integers(-32, 33, shape) / 16).astype(np.float32) for _ in range(3))
    m = m if momentum else None
    g = g if dense else g[ids]
    rows = slice(None) if dense else ids
    theirs = [None if array is None else array.copy() for array in (w, m)]
    parts = [None if array is None else array[rows] for array in theirs]
    ref.sgd_row(*parts, g, 0.5, config)
    fast.sgd_rows(w, m, ids, g.copy(), fast.Step(1, 0.5, config), SCRATCH)
    for ours, other, part in zip((w, m), theirs, parts, strict=True):
        if ours is not None:
            other[rows] = part
            assert np.array_equal(ours, other)


def test_s12_epsilon_is_added_to_the_root_on_both_sides():
    config = Config(epsilon=0.5)
    w, m, v = (np.zeros(shape, dtype=np.float32) for shape in ((1, 1), (1, 1), 1))
    fast.adam_rows(w, m, v, None, np.full((1, 1), 0.5, dtype=np.float32), fast.Step(1, 1.0, config), SCRATCH)
    theirs = [np.zeros(1, dtype=np.float32) for _ in range(3)]
    ref.adam_row(*theirs, np.full(1, 0.5, dtype=np.float32), 1, 1.0, config)
    assert w[0, 0] == pytest.approx(-0.5) and theirs[0][0] == pytest.approx(-0.5)
