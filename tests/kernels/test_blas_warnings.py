"""Products do not warn. OpenBLAS raises its false alarms too seldom for a test: here infinities raise true ones."""

import warnings

import numpy as np
import pytest

from slide_fast.hashing.simhash import simhash_codes
from slide_fast.inference.probabilities import log_totals, logits_of
from slide_fast.kernels.scratch import Scratch
from slide_fast.network import backward, forward
from slide_fast.prediction import predict_topk
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows, rows_from_lists

FEATURES = SparseRows(np.array([0, 2]), np.array([0, 1], np.int32), np.ones(2, np.float32), 2)
INFINITE = np.array([[np.inf, -np.inf], [-np.inf, np.inf]], np.float32)  # the sum of a row is no number
LABELS = rows_from_lists([[0]], 2)
LAYERS = [Layer(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), Layer(INFINITE, np.zeros(2, np.float32))]


def passes(scratch):
    return forward(LAYERS, FEATURES, lambda l, _: None, scratch)


@pytest.mark.parametrize(
    "product",
    [
        lambda: passes(Scratch()),
        lambda: backward(LAYERS, passes(Scratch()), LABELS, Scratch()),
        lambda: predict_topk(LAYERS, FEATURES, 1),
        lambda: logits_of(LAYERS, FEATURES, np.arange(2)),
        lambda: log_totals(LAYERS, FEATURES),
        lambda: simhash_codes(INFINITE, np.ones((2, 2), np.float32), LshConfig(K=1, L=2)),
    ],
)
def test_products_do_not_warn(product):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="invalid value encountered in matmul"):
            INFINITE @ np.ones(2, np.float32)
        product()
