"""S10 and S11: forward, loss and backward, by hand and against finite differences."""

import math

import numpy as np
import pytest

from slide_ref.common.config import Config
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows, rows_from_lists
from slide_ref.network import Activation, backward, forward, softmax_loss
from slide_ref.training import new_network


def network_by_hand():
    hidden = Layer(np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([0.5, 0.0]))
    output = Layer(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 3.0]]), np.array([0.0, -1.0, 1.0]))
    return [hidden, output]


def features_by_hand():
    return SparseRows(np.array([0, 1, 3]), np.array([0, 0, 1]), np.array([2, 1, 2], dtype=np.float32), 2)


def test_forward_worked_by_hand():
    sets = [np.array([0, 2]), np.array([1])]
    features, hidden, logits = forward(network_by_hand(), features_by_hand(), lambda l, inputs: sets)
    assert [a.ids.tolist() for a in features] == [[0], [0, 1]]
    assert [a.values.tolist() for a in hidden] == [[2.5, 0.0], [5.5, 0.0]]  # before ReLU: (2.5, -2), (5.5, 0)
    assert [a.ids.tolist() for a in logits] == [[0, 2], [1]]
    assert [a.values.tolist() for a in logits] == [[2.5, 1.0], [10.0]]


def test_forward_of_an_empty_row_is_the_bias():
    empty = SparseRows(np.array([0, 0]), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32), 2)
    trace = forward(network_by_hand(), empty, lambda l, inputs: [np.arange(3)])
    assert trace[1][0].values.tolist() == [0.5, 0.0] and trace[2][0].values.tolist() == [0.5, 0.0, 1.0]


def test_s10_softmax_worked_by_hand():
    logits = Activation(np.array([2, 5, 7]), np.log([1.0, 2.0, 5.0]))
    loss, gradient = softmax_loss(logits, np.array([5]))
    assert loss == pytest.approx(math.log(8 / 2))
    assert gradient == pytest.approx([1 / 8, 2 / 8 - 1, 5 / 8])


def test_s10_several_labels_do_not_compete():
    logits = Activation(np.array([2, 5, 7]), np.log([1.0, 2.0, 5.0]))
    loss, gradient = softmax_loss(logits, np.array([2, 7]))
    assert loss == pytest.approx((math.log(3 / 1) + math.log(7 / 5)) / 2)
    assert gradient == pytest.approx([-2 / 3 / 2, (2 / 3 + 2 / 7) / 2, -2 / 7 / 2])


def test_s10_large_logits_do_not_overflow():
    loss, gradient = softmax_loss(Activation(np.arange(2), np.array([1e4, -1e4], dtype=np.float32)), np.array([1]))
    assert loss == 2e4 and gradient.tolist() == [1.0, -1.0]


def test_s10_labels_far_apart_do_not_overflow():
    logits = Activation(np.arange(3), np.array([1e4, -1e4, -1e4], dtype=np.float32))
    loss, gradient = softmax_loss(logits, np.array([0, 2]))
    assert loss == pytest.approx(math.log(2) / 2) and gradient.tolist() == pytest.approx([0, 0.25, -0.25])


def test_s10_true_labels_alone_have_no_loss():
    loss, gradient = softmax_loss(Activation(np.array([3, 5]), np.array([0.7, -2])), np.array([3, 5]))
    assert loss == 0 and gradient.tolist() == [0, 0]


def test_s10_a_set_of_one_neuron_has_no_loss():
    loss, gradient = softmax_loss(Activation(np.array([3]), np.array([0.7])), np.array([3]))
    assert loss == 0 and gradient.tolist() == [0]


def test_backward_worked_by_hand():
    layers, features = network_by_hand(), features_by_hand().take(np.array([0]))
    layers[1].b[:] = [0.0, 0.0, 2.5 - math.log(4)]  # logits of 0 and 2: 2.5 and 2.5 - ln 4
    trace = forward(layers, features, lambda l, inputs: [np.array([0, 2])])
    loss, (hidden, output) = backward(layers, trace, rows_from_lists([[2]], 3))
    assert loss == pytest.approx(math.log(5))
    assert output.ids.tolist() == [0, 2] and output.b == pytest.approx([0.8, -0.8])
    assert output.W.tolist() == [pytest.approx([2.0, 0.0]), pytest.approx([-2.0, 0.0])]
    assert hidden.ids.tolist() == [0] and hidden.b == pytest.approx([0.8, 0.0])  # the other unit is off
    assert hidden.W.tolist() == [pytest.approx([1.6, 0.0])]


def problem(hidden, n_labels=9, sampled=None):
    """A network in float64 and a micro-batch with active sets of its own for each sample.

    `sampled` holds the active sets of hidden layers by layer; the others are dense.
    """
    rng = np.random.default_rng(3)
    network = new_network(Config(hidden=hidden, seed=1), 7, n_labels, np.float64)
    for layer in network.layers:
        layer.W[...] = rng.standard_normal(layer.W.shape)
        layer.b[...] = rng.standard_normal(layer.b.shape)
    ids = rows_from_lists([[0, 3, 6], [], [3, 4]], 7)
    features = SparseRows(ids.indptr, ids.indices, rng.standard_normal(ids.nnz).astype(np.float32), 7)
    sets = [np.array([0, 2, 8]), np.array([1, 2]), np.arange(n_labels)]

    def choose(l, inputs):
        if sampled and l in sampled:
            return [np.array(ids, dtype=np.int64) for ids in sampled[l]]
        return sets if l == len(hidden) else [np.arange(hidden[l])] * 3

    return network.layers, features, rows_from_lists([[0, 8], [1], [5]], n_labels), choose


@pytest.mark.parametrize(
    ("hidden", "sampled"),
    [
        ((5,), {}),
        ((5, 4), {}),
        ((5, 4), {1: [[1, 3], [1], [0, 2]]}),
        ((5, 4), {1: [[], [1, 2], []]}),
        ((5, 4), {1: [[], [], []]}),
        ((5, 6, 4), {1: [[1, 2], [0, 2, 4], [0, 5]], 2: [[0, 1, 3], [], [1, 3]]}),
    ],
)
def test_s10_s25_gradient_is_that_of_central_differences(hidden, sampled):
    layers, features, labels, choose = problem(hidden, sampled=sampled)
    _, gradients = backward(layers, forward(layers, features, choose), labels)
    width = 1e-5
    for l, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        dense_W, dense_b = np.zeros(layer.W.shape), np.zeros(layer.b.shape)
        dense_W[gradient.ids] = gradient.W
        dense_b[slice(None) if l == 0 else gradient.ids] = gradient.b
        for parameters, exact in ((layer.W, dense_W), (layer.b, dense_b)):
            for at in np.ndindex(parameters.shape):
                value, losses = parameters[at], []
                for moved in (value + width, value - width):
                    parameters[at] = moved
                    losses.append(backward(layers, forward(layers, features, choose), labels)[0])
                parameters[at] = value
                # the formula errs by width**2 times a third derivative, and by the losses' rounding over width
                assert exact[at] == pytest.approx((losses[0] - losses[1]) / (2 * width), abs=1e-8)


def test_s11_s25_touched_rows_of_a_sampled_hidden_layer_are_its_active_neurons():
    layers, features, labels, choose = problem((5, 4), sampled={1: [[1], [], [0, 1]]})
    _, (_, hidden, output) = backward(layers, forward(layers, features, choose), labels)
    assert hidden.ids.tolist() == [0, 1] and hidden.W.shape == (2, 5)
    assert output.W.shape == (9, 4) and not output.W[:, [2, 3]].any() and output.W[:, [0, 1]].any()


def test_s11_touched_rows_are_the_stored_features_and_the_active_neurons():
    layers, features, labels, choose = problem((5,))
    _, (hidden, output) = backward(layers, forward(layers, features, choose), labels)
    assert hidden.ids.tolist() == [0, 3, 4, 6] and hidden.b.shape == (5,)
    assert output.ids.tolist() == list(range(9))
    assert output.W.shape == (9, 5) and output.b.shape == (9,)


def test_s11_rows_are_touched_even_where_the_gradient_is_zero():
    layers = [Layer(np.zeros((3, 2)), np.zeros(2)), Layer(np.zeros((4, 2)), np.zeros(4))]
    features = SparseRows(np.array([0, 1]), np.array([1]), np.ones(1, dtype=np.float32), 3)
    trace = forward(layers, features, lambda l, inputs: [np.array([2])])
    _, (hidden, output) = backward(layers, trace, rows_from_lists([[2]], 4))
    assert hidden.ids.tolist() == [1] and not hidden.W.any()
    assert output.ids.tolist() == [2] and not output.W.any()


def test_s10_loss_and_gradient_are_means_over_the_rows():
    layers, features, labels, choose = problem((5,))
    sets = choose(1, [])
    loss, (hidden, _) = backward(layers, forward(layers, features, choose), labels)
    singles = []
    for i in range(3):
        one = np.array([i])
        trace = forward(layers, features.take(one), lambda l, inputs, i=i: [sets[i]])
        singles.append(backward(layers, trace, labels.take(one)))
    assert loss == pytest.approx(np.mean([single[0] for single in singles]))
    assert hidden.b == pytest.approx(np.mean([single[1][0].b for single in singles], axis=0))
    weights = np.array([1.0, 5.0, 0.5])
    loss, (hidden, _) = backward(layers, forward(layers, features, choose), labels, weights)
    assert loss == pytest.approx(np.average([single[0] for single in singles], weights=weights))
    assert hidden.b == pytest.approx(np.average([single[1][0].b for single in singles], axis=0, weights=weights))
