"""S10, S11 and S25: both sides compute the same activations, losses and gradients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import dyadic_arrays, feature_rows, id_lists, label_rows, layers, real_arrays

import slide_fast.network as fast
import slide_ref.network as ref
from slide_fast.kernels import sparse_products
from slide_fast.kernels.scratch import Scratch
from slide_fast.sampling import Active
from slide_fast.verify.lockstep import (
    Report,
    as_dtype,
    check_activations,
    check_gradients,
    rows_in_order,
    without_signs,
)
from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes, layers_of
from slide_ref.common.sparse_rows import SparseRows, rows_from_lists

SCRATCH = Scratch()  # shared by all examples, so that it holds what others left
WEIGHTS = st.one_of(st.none(), st.floats(1e-6, 1e6))  # the largest of some weights
ACTIVE = st.sampled_from(["all", "shared", "own", "labels only"])
SETTINGS = "DENSITY", "FREQUENT", "FEATURES_AT_ONCE", "ELEMENTS_AT_ONCE"
WAYS = {"dense": (0, 4, 9, 9), "pairs": (2, 3, 1, 12)}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys(), autouse=True, scope="module")
def way_of_the_first_layer(request):
    """Every test of this file runs with dense samples and pair by pair."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(SETTINGS, request.param, strict=True):
            patch.setattr(sparse_products, name, value)
        yield


@st.composite
def active_sets(draw, own, n_neurons):
    """Active sets that hold `own`, one list per sample, as both sides have them; without any id some are empty."""
    kind = draw(ACTIVE)
    if kind == "all":
        return None, [np.arange(n_neurons)] * len(own)
    if kind != "labels only":
        own = [ids + draw(id_lists(n_neurons)) for ids in own]
    if kind == "shared":
        own = [sum(own, [])] * len(own)
    sets = [np.unique(np.array(ids, dtype=np.int64)) for ids in own]
    union = np.unique(np.concatenate(sets))
    mask = None if kind == "shared" else np.array([np.isin(union, ids) for ids in sets])
    return Active(union, mask), sets


@st.composite
def problems(draw, values):
    """Parameters, a micro-batch of labelled rows, and by layer its active sets as both sides have them."""
    config = Config(hidden=draw(st.sampled_from([(1,), (3,), (8,), (5, 4), (2, 9, 7)])))
    n_features, n_labels, n = draw(st.integers(1, 20)), draw(st.integers(1, 15)), draw(st.integers(1, 6))
    parameters = draw(layers(config, n_features, n_labels, values))
    features, labels = draw(feature_rows(n, n_features, values)), draw(label_rows(n, n_labels, min_size=1))
    chosen = {l: draw(active_sets([[]] * n, size)) for l, size in enumerate(config.hidden) if l > 0}
    chosen[len(config.hidden)] = draw(active_sets([labels.row(i)[0].tolist() for i in range(n)], n_labels))
    active, sets = ({l: both[side] for l, both in chosen.items()} for side in (0, 1))
    largest = draw(WEIGHTS)
    weights = None if largest is None else draw(st.lists(st.floats(1e-9, largest), min_size=n, max_size=n))
    return parameters, features, labels, active, sets, None if weights is None else np.array(weights)


def forward_on_both_sides(parameters, features, active, sets):
    seen = {}

    def choose(l, inputs):
        return sets[l]

    def choose_active(l, inputs):
        seen[l] = inputs.copy()
        return active[l]

    traces = [ref.forward(side, features, choose) for side in (parameters, as_dtype(parameters, np.float64))]
    traces.append(ref.forward(*without_signs(parameters, features), choose))
    passes = fast.forward(parameters, features, choose_active, SCRATCH)
    for l, inputs in seen.items():
        assert inputs.shape == (features.n_rows, len(parameters[l - 1].b))
        assert all(not np.delete(row, a.ids).any() for row, a in zip(inputs, traces[0][l], strict=True))
        assert np.array_equal(inputs if passes[l].columns is None else inputs[:, passes[l].columns], passes[l].inputs)
    return passes, traces


@given(problems(dyadic_arrays))
def test_activations_of_dyadic_networks_are_equal(problem):
    parameters, features, _, active, sets, _ = problem
    passes, (trace, *_) = forward_on_both_sides(parameters, features, active, sets)
    for this, outputs in list(zip(passes, trace[1:], strict=True))[:2]:  # a third layer needs more than 24 bits
        ours, theirs = this.outputs[slice(None) if this.mask is None else this.mask], [a.values for a in outputs]
        assert ours.dtype == theirs[0].dtype == np.float32 and np.array_equal(ours.ravel(), np.concatenate(theirs))


@given(problems(real_arrays))
def test_activations_of_real_networks_agree(problem):
    parameters, features, _, active, sets, _ = problem
    passes, traces = forward_on_both_sides(parameters, features, active, sets)
    check_activations(Report(), passes, *traces)


def check_backward(parameters, features, labels, active, sets, weights=None, probabilities=None):
    passes, traces = forward_on_both_sides(parameters, features, active, sets)
    check_activations(Report(), passes, *traces)
    theirs = None
    if probabilities is not None:  # one for each neuron of the output layer, 1 for a sample's own labels
        ids = np.arange(len(parameters[-1].b)) if passes[-1].ids is None else passes[-1].ids
        inclusion = probabilities[ids]
        inclusion = inclusion if passes[-1].mask is None else np.tile(inclusion, (features.n_rows, 1))
        passes[-1] = passes[-1]._replace(inclusion=inclusion)
        theirs = [
            np.where(np.isin(a.ids, labels.row(i)[0]), 1.0, probabilities[a.ids]) for i, a in enumerate(traces[0][-1])
        ]
    check_gradients(Report(), parameters, passes, traces[0], labels, SCRATCH, weights, theirs)


@given(problems(real_arrays))
def test_s10_s11_s25_losses_and_gradients_agree(problem):
    check_backward(*problem)


@given(problems(real_arrays), st.data())
def test_s30_losses_and_gradients_of_corrected_logits_agree(problem, data):
    n = len(problem[0][-1].b)
    probabilities = data.draw(st.lists(st.floats(1e-7, 1), min_size=n, max_size=n))
    check_backward(*problem, np.array(probabilities))


@given(problems(dyadic_arrays))
def test_s10_s11_losses_and_gradients_agree_on_equal_and_zero_weights_and_large_logits(problem):
    check_backward(*problem)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=9))
def test_s10_shares_are_equal(weights):
    for given_weights in (None, np.array(weights)):
        ours, theirs = (side.sample_weights(len(weights), given_weights) for side in (fast, ref))
        assert ours.dtype == theirs.dtype == np.float64 and np.array_equal(ours, theirs)
        assert ours.sum() == pytest.approx(1)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_s10_gradients_of_an_even_softmax_are_equal(size, n):
    """All logits are 0: a softmax over 1, 2 or 4 neurons and means over a power of two of rows are exact."""
    parameters = zero_layers(n_features=5, n_labels=9)
    parameters[0].W[:] = np.arange(15).reshape(5, 3) / 16
    features = SparseRows(np.arange(n + 1), np.arange(n) % 5, np.full(n, 0.5, dtype=np.float32), 5)
    labels = rows_from_lists([[i % size] for i in range(n)], 9)
    passes, (trace, *_) = forward_on_both_sides(
        parameters, features, {1: Active(np.arange(size), None)}, {1: [np.arange(size)] * n}
    )
    _, theirs = ref.backward(parameters, trace, labels)
    _, ours = fast.backward(parameters, passes, labels, SCRATCH)
    for mine, other in zip(map(rows_in_order, ours), theirs, strict=True):
        assert np.array_equal(mine.ids, other.ids)
        assert np.array_equal(mine.W, other.W) and np.array_equal(mine.b, other.b)
        assert mine.W.dtype == mine.b.dtype == np.float32


def zero_layers(n_features, n_labels):
    shapes = array_shapes(Config(hidden=(3,)), n_features, n_labels)
    return layers_of({name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()})


@pytest.mark.parametrize("dense_output", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("sets", [[[1, 3], [3]], [[4], []], [[2, 3, 4], [0, 2]], [[], []]])
def test_s25_active_hidden_neurons_keep_their_columns(sets, shared, dense_output):
    rng = np.random.default_rng(5)
    shapes = array_shapes(Config(hidden=(3, 5)), 4, 6)
    parameters = layers_of({name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()})
    features = SparseRows(np.array([0, 1, 3]), np.array([0, 1, 3]), np.array([1, 2, 3], np.float32), 4)
    union = np.array(sorted(set(sum(sets, []))), dtype=np.int64)
    sets = [union] * 2 if shared else [np.array(ids, dtype=np.int64) for ids in sets]
    active = {1: Active(union, None if shared else np.array([np.isin(union, ids) for ids in sets]))}
    sets = {1: sets, 2: [np.arange(6)] * 2}
    active[2] = None if dense_output else Active(np.arange(6), None)
    check_backward(parameters, features, rows_from_lists([[0], [5, 2]], 6), active, sets)


@settings(max_examples=30)
@given(st.integers(1, 4), st.data())
def test_samples_without_any_feature_agree(n, data):
    parameters = data.draw(layers(Config(hidden=(3,)), 4, 6, real_arrays))
    features = SparseRows(np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, np.float32), 4)
    labels = data.draw(label_rows(n, 6, min_size=1))
    check_backward(parameters, features, labels, {1: None}, {1: [np.arange(6)] * n})


def test_features_without_values_count_as_one():
    parameters, features = zero_layers(n_features=5, n_labels=4), rows_from_lists([[0, 4], [], [2]], 5)
    parameters[0].W[:] = np.arange(1, 16).reshape(5, 3) / 16
    passes, (trace, *_) = forward_on_both_sides(parameters, features, {1: None}, {1: [np.arange(4)] * 3})
    assert np.array_equal(passes[0].outputs, [a.values for a in trace[1]])


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_s11_the_gradient_of_the_first_layer_is_the_product_of_samples_and_errors(monkeypatch, at_once):
    """Equal, of whole numbers, where features are held by one to six samples, three by each number of them."""
    monkeypatch.setattr(sparse_products, "FEATURES_AT_ONCE", at_once)
    dense = np.zeros((6, 18), np.float32)
    for feature in range(18):
        dense[: feature // 3 + 1, feature] = feature + 1
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(dense, axis=1))])
    features = SparseRows(indptr, columns, dense[rows, columns], 18)
    delta = np.arange(24, dtype=np.float32).reshape(6, 4) - 11
    ids, gradient, of_one = sparse_products.sparse_gradient(features, delta, Scratch())
    assert np.array_equal(np.sort(ids), np.arange(3, 18)) and np.array_equal(of_one.ids, np.arange(3))
    assert np.array_equal(gradient, dense[:, ids].T @ delta)
    assert np.array_equal(of_one.compute(np.empty((3, 4), np.float32)), dense[:, :3].T @ delta)
