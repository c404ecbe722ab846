"""The settings of an index: what is promised for the rows they are tried on holds, and the cheapest is taken."""

import numpy as np
import pytest

from slide_fast.inference.index_choice import SMALLEST_HEAD, choose
from slide_fast.prediction import build_index, predict_topk, predict_topk_lsh
from slide_ref.common.config import Config
from slide_ref.common.errors import DataError
from slide_ref.common.metrics import recall_at
from slide_ref.common.parameters import array_shapes, layers_of
from slide_ref.common.sparse_rows import SparseRows

N_LABELS, N_FEATURES, N_HIDDEN = 4 * SMALLEST_HEAD, 40, 16


def network(lengths):
    """Random directions; the labels' weight vectors have these lengths."""
    rng = np.random.default_rng(0)
    shapes = array_shapes(Config(hidden=(N_HIDDEN,)), N_FEATURES, N_LABELS)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["b1"][:] = 0
    arrays["W1"] *= (lengths / np.linalg.norm(arrays["W1"], axis=1))[:, None].astype(np.float32)
    return layers_of(arrays)


def samples(n=200):
    ids = np.sort(np.random.default_rng(1).permuted(np.tile(np.arange(N_FEATURES), (n, 1)), axis=1)[:, :5], axis=1)
    return SparseRows(np.arange(n + 1) * 5, ids.ravel().astype(np.int32), np.ones(5 * n, dtype=np.float32), N_FEATURES)


def reached(layers, rows, choice, k=5):
    index = build_index(Config(hidden=(N_HIDDEN,), lsh=choice.lsh), layers, 0, choice.n_head)
    return recall_at(predict_topk_lsh(layers, rows, k, index)[0], predict_topk(layers, rows, k)[0], k)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("lengths", [np.ones(N_LABELS), np.linspace(0.1, 3, N_LABELS)], ids=["equal", "unequal"])
def test_s28_the_promised_recall_is_had_on_the_rows_it_was_tried_on(lengths, wanted):
    layers, rows = network(lengths), samples()
    choice = choose(Config(hidden=(N_HIDDEN,)), layers, rows, 5, wanted)
    assert choice.recall >= wanted
    assert reached(layers, rows, choice) == pytest.approx(choice.recall, abs=1e-9)


def test_s28_few_long_labels_are_the_head_and_need_no_tables():
    lengths = np.full(N_LABELS, 0.01)
    lengths[::8] = 5
    choice = choose(Config(hidden=(N_HIDDEN,)), network(lengths), samples(), 5, 0.9)
    assert choice.n_head == SMALLEST_HEAD and choice.lsh.L == 0 and choice.recall > 0.99


def test_s28_labels_close_to_their_samples_are_left_to_tables():
    layers, rows = network(np.ones(N_LABELS)), samples()
    hidden = np.maximum(rows_as_dense(rows) @ layers[0].W + layers[0].b, 0)
    layers[-1].W[: len(hidden)] = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)  # a label for each sample
    choice = choose(Config(hidden=(N_HIDDEN,)), layers, rows, 1, 0.9)
    assert choice.n_head == 0 and choice.lsh.L > 0
    assert reached(layers, rows, choice, 1) >= 0.9


def rows_as_dense(rows):
    dense = np.zeros(rows.shape, dtype=np.float32)
    dense[np.repeat(np.arange(rows.n_rows), np.diff(rows.indptr)), rows.indices] = rows.data
    return dense


def test_s28_without_samples_nothing_can_be_chosen():
    with pytest.raises(DataError, match="no samples to choose"):
        choose(Config(hidden=(N_HIDDEN,)), network(np.ones(N_LABELS)), samples(0), 5, 0.9)


def test_s28_the_choice_does_not_depend_on_threads():
    layers, rows = network(np.linspace(0.1, 3, N_LABELS)), samples()
    assert choose(Config(hidden=(N_HIDDEN,)), layers, rows, 5, 0.9) == choose(
        Config(hidden=(N_HIDDEN,)), layers, rows, 5, 0.9, n_threads=2
    )
