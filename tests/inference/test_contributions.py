"""What moved a logit: parts that add up to it, and that say how it changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import generators

from slide_fast.inference.contributions import contributions
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows


def network(rng, hidden):
    sizes = [7, *hidden, 5]
    layers = [Layer(rng.normal(size=(7, hidden[0])), rng.normal(size=hidden[0]))]
    return [
        *layers,
        *(Layer(rng.normal(size=(n, m)), rng.normal(size=n)) for m, n in zip(sizes[1:], sizes[2:], strict=False)),
    ]


def sample_of(values):
    ids = np.flatnonzero(values)
    return SparseRows(np.array([0, len(ids)]), ids.astype(np.int32), values[ids].astype(np.float32), len(values))


def logits_by_hand(layers, values, labels):
    outputs = values @ layers[0].W + layers[0].b
    for layer in layers[1:]:
        outputs = layer.W @ np.maximum(outputs, 0) + layer.b
    return outputs[labels]


@given(generators(), st.sampled_from([(4,), (6, 3), (5, 4, 3)]))
def test_parts_are_gradients_times_values_and_add_up(rng, hidden):
    layers, labels = network(rng, hidden), np.array([3, 0])
    values = np.where(rng.random(7) < 0.6, rng.integers(1, 9, 7) / 4, 0)
    parts, rest = contributions(layers, sample_of(values), labels)
    logits = logits_by_hand(layers, values, labels)
    np.testing.assert_allclose(parts.sum(axis=1) + rest, logits, rtol=1e-12, atol=1e-12)
    step = 1e-7
    for at, feature in enumerate(np.flatnonzero(values)):
        moved = values + step * (np.arange(7) == feature)
        gradients = (logits_by_hand(layers, moved, labels) - logits) / step
        np.testing.assert_allclose(parts[:, at], gradients * values[feature], rtol=1e-4, atol=1e-5)


def test_with_one_hidden_layer_the_rest_is_due_to_biases():
    rng = np.random.default_rng(0)
    layers = network(rng, (6,))
    for layer in layers:
        layer.b[:] = 0
    parts, rest = contributions(layers, sample_of(rng.random(7)), np.arange(5))
    np.testing.assert_allclose(rest, 0, atol=1e-12)
    assert (parts != 0).any()


def test_a_sample_without_features_has_only_a_rest():
    layers = network(np.random.default_rng(0), (6,))
    parts, rest = contributions(layers, sample_of(np.zeros(7)), np.array([1]))
    assert parts.shape == (1, 0) and rest == pytest.approx(logits_by_hand(layers, np.zeros(7), [1]))
