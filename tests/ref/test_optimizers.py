"""S11, S12 and S26: lazy Adam and SGD."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.config import Config
from slide_ref.common.parameters import Layer
from slide_ref.network import RowGradient
from slide_ref.optimizers import adam_row, sgd_row, update

CONFIG = Config(beta1=0.9, beta2=0.99, epsilon=1e-8)


def new_layer(n_rows, n_columns, n_biases, value=1.0):
    shapes = (n_rows, n_columns), n_biases, (n_rows, n_columns), n_rows, n_biases, n_biases
    return Layer(*(np.full(shape, value) for shape in shapes))


def row_of(n):
    """A row of n weights at 0, its first moments and its second moment."""
    return np.zeros(n), np.zeros(n), np.zeros(1)


def test_s12_first_step_moves_against_the_gradient_by_the_learning_rate_as_root_mean_square():
    w, m, v = row_of(2)
    adam_row(w, m, v, np.array([3.0, -4.0]), 1, 0.1, CONFIG)
    assert m == pytest.approx([0.3, -0.4]) and v == pytest.approx([0.01 * (9 + 16) / 2])
    assert w == pytest.approx([-0.1 * 3 / math.sqrt(12.5), 0.1 * 4 / math.sqrt(12.5)])


def test_s12_three_steps_by_the_published_formula_of_a_row_of_one_weight():
    w, m, v = np.array([0.5]), np.zeros(1), np.zeros(1)
    w_, m_, v_ = 0.5, 0.0, 0.0
    for t, g in enumerate((0.3, -1.0, 0.25), start=1):
        adam_row(w, m, v, np.array([g]), t, 0.1, CONFIG)
        m_, v_ = 0.9 * m_ + 0.1 * g, 0.99 * v_ + 0.01 * g * g
        w_ -= 0.1 * (m_ / (1 - 0.9**t)) / (math.sqrt(v_ / (1 - 0.99**t)) + 1e-8)
    assert w[0] == pytest.approx(w_, rel=1e-14)


def test_s12_epsilon_is_added_to_the_root():
    w, m, v = row_of(1)
    adam_row(w, m, v, np.array([1e-8]), 1, 0.1, CONFIG)
    assert w[0] == pytest.approx(-0.05)


def test_s12_corrections_count_steps_of_the_run_not_visits_of_the_row():
    w, m, v = row_of(1)
    adam_row(w, m, v, np.array([2.0]), 10_000, 0.1, CONFIG)
    assert w[0] == pytest.approx(-0.1 * 0.2 / math.sqrt(0.04))


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, -3.0, 1e-4, 1e3])] * 2), min_size=1, max_size=30))
def test_s12_no_sequence_of_gradients_reaches_the_limit(gradients):
    w, m, v = row_of(2)
    for step, g in enumerate(gradients, start=1):
        adam_row(w, m, v, np.array(g), step, 0.1, CONFIG)
        assert math.sqrt(np.mean(m * m)) <= CONFIG.adam_limit / 1.0009 * math.sqrt(v[0])


def test_s12_the_worst_sequence_of_gradients_comes_near_the_limit():
    w, m, v = row_of(2)
    for step in range(1, 200):  # gradients grow by beta2 / beta1
        adam_row(w, m, v, np.array([3.0, -4.0]) * (0.99 / 0.9) ** step, step, 0.1, CONFIG)
    assert math.sqrt(np.mean(m * m)) == pytest.approx(CONFIG.adam_limit / 1.001 * math.sqrt(v[0]))


def test_s12_moments_that_do_not_fit_together_are_bounded_and_keep_their_direction():
    w, m, v = np.zeros(2), np.array([3.0, -4.0]), np.zeros(1)
    adam_row(w, m, v, np.zeros(2), 2, 0.1, CONFIG)
    limit = 0.1 / math.sqrt(0.01 * (1 - 0.81 / 0.99)) * math.sqrt(1 - 0.99**2) / (1 - 0.9**2)
    assert math.sqrt(np.mean(w * w)) == pytest.approx(0.1 * 1.001 * limit)
    assert w[1] == pytest.approx(-4 / 3 * w[0])


def test_s12_a_row_seldom_touched_moves_by_ten_rates_at_most():
    w, v, config, g = np.zeros(3), np.zeros(1), Config(), np.array([2.0, -1.0, 0.0])
    size = math.sqrt(5 / 3)
    for step in (10_000, 10_001):
        adam_row(w, None, v, g, step, 0.1, config)
    assert w == pytest.approx(-2 * g / size)
    for step in range(10_002, 10_100):
        adam_row(w, None, v, g, step, 0.1, config)
    before = w.copy()
    adam_row(w, None, v, g, 10_100, 0.1, config)
    assert before - w == pytest.approx(0.1 * math.sqrt((1 - 0.999**10_100) / (1 - 0.999**101)) * g / size)


def test_s12_weights_decay_apart_from_the_gradient_and_the_moments():
    w, m, v = np.array([2.0, -4.0]), np.zeros(2), np.zeros(1)
    adam_row(w, m, v, np.zeros(2), 1, 0.25, CONFIG, weight_decay=0.5)
    assert w.tolist() == [1.75, -3.5] and not m.any() and not v.any()
    adam_row(w, m, v, np.array([8.0, 8.0]), 1, 0.25, CONFIG, weight_decay=1.0)
    assert w == pytest.approx([1.75 * 0.75 - 0.25, -3.5 * 0.75 - 0.25])


def test_s12_only_weights_of_touched_features_decay():
    layers = [new_layer(4, 2, 2), new_layer(5, 2, 5)]
    for layer in layers:
        for array in (layer.W_m, layer.b_m):
            array[:] = 0.0
    gradients = [RowGradient(np.array(ids), np.zeros((2, 2)), np.zeros(2)) for ids in ([0, 3], [1, 2])]
    update(layers, gradients, 1, 0.25, Config(weight_decay=2.0))
    assert layers[0].W[:, 0].tolist() == layers[0].W[:, 1].tolist() == [0.5, 1.0, 1.0, 0.5]
    assert (layers[0].b == 1).all() and (layers[1].W == 1).all() and (layers[1].b == 1).all()


def test_s12_arithmetic_is_that_of_the_dtype():
    w, m, v = (np.zeros(1, dtype=np.float32) for _ in range(3))
    adam_row(w, m, v, np.ones(1, dtype=np.float32), 3, 0.1, CONFIG)
    assert m[0] == np.float32(1 - 0.9) and v[0] == np.float32(1 - 0.99)


def test_s11_touched_rows_move_even_where_the_gradient_is_zero():
    w, m, v = np.zeros(1), np.ones(1), np.ones(1)
    adam_row(w, m, v, np.zeros(1), 1, 0.1, CONFIG)
    assert m[0] == 0.9 and v[0] == 0.99 and w[0] < 0


def test_s11_nothing_else_moves_or_decays():
    layers = [new_layer(4, 2, 2), new_layer(5, 2, 5)]
    gradients = [
        RowGradient(np.array([0, 3]), np.full((2, 2), 2.0), np.full(2, 2.0)),
        RowGradient(np.array([1, 2]), np.full((2, 2), 2.0), np.full(2, 2.0)),
    ]
    update(layers, gradients, 1, 0.1, CONFIG)
    for layer, touched, biases in ((layers[0], [0, 3], [0, 1]), (layers[1], [1, 2], [1, 2])):
        assert np.flatnonzero((layer.W != 1).all(axis=1)).tolist() == touched
        assert np.flatnonzero((layer.W != 1).any(axis=1)).tolist() == touched
        assert np.flatnonzero(layer.W_v != 1).tolist() == touched
        assert np.flatnonzero(layer.b != 1).tolist() == biases
        assert np.flatnonzero(layer.b_v != 1).tolist() == biases


def test_s11_without_touched_features_the_hidden_bias_still_moves():
    layer = new_layer(4, 2, 2)
    update([layer], [RowGradient(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), np.ones(2))], 1, 0.1, CONFIG)
    assert (layer.W == 1).all() and (layer.b != 1).all()


def test_s26_plain_gradient_descent_keeps_no_moments():
    w = np.array([1.0, 2.0])
    sgd_row(w, None, np.array([4.0, -2.0]), 0.5, Config(optimizer="sgd"))
    assert w.tolist() == [-1.0, 3.0]


def test_s26_momentum_worked_by_hand():
    config, w, m = Config(optimizer="sgd", momentum=0.5), np.zeros(1), np.zeros(1)
    places = []
    for g in (8.0, 0.0, 4.0):
        sgd_row(w, m, np.array([g]), 0.25, config)
        places.append((m[0], w[0]))
    assert places == [(8.0, -2.0), (4.0, -3.0), (6.0, -4.5)]


def test_s26_arithmetic_is_that_of_the_dtype():
    config, w, m = Config(optimizer="sgd", momentum=0.9), *(np.ones(1, dtype=np.float32) for _ in range(2))
    sgd_row(w, m, np.zeros(1, dtype=np.float32), 0.1, config)
    assert m[0] == np.float32(0.9) and w[0] == np.float32(1) - np.float32(0.1) * np.float32(0.9)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_s11_s26_only_touched_rows_move(momentum):
    layers = [new_layer(4, 2, 2), new_layer(5, 2, 5)]
    for layer in layers:
        layer.W_v = layer.b_v = None
        layer.W_m, layer.b_m = (layer.W_m, layer.b_m) if momentum else (None, None)
    gradients = [
        RowGradient(np.array([0, 3]), np.zeros((2, 2)), np.full(2, 2.0)),
        RowGradient(np.array([1, 2]), np.full((2, 2), 2.0), np.full(2, 2.0)),
    ]
    update(layers, gradients, 1, 0.25, Config(optimizer="sgd", momentum=momentum))
    move = 0.25 * (2 + momentum)
    assert layers[0].W[:, 0].tolist() == ([0.875, 1, 1, 0.875] if momentum else [1, 1, 1, 1])
    assert layers[0].b.tolist() == [1 - move] * 2
    assert layers[1].W[:, 1].tolist() == layers[1].b.tolist() == [1, 1 - move, 1 - move, 1, 1]
    if momentum:
        assert layers[1].b_m.tolist() == [1, 2.5, 2.5, 1, 1]
