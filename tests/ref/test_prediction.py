"""S15: exact prediction."""

import numpy as np

from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.prediction import predict_topk


def identity_network(logits):
    """One feature, one hidden unit; feature value x >= 0 gives the logits times x."""
    logits = np.array(logits, dtype=np.float32)
    return [
        Layer(np.ones((1, 1), dtype=np.float32), np.zeros(1, dtype=np.float32)),
        Layer(logits[:, None], np.zeros(len(logits), dtype=np.float32)),
    ]


def rows(*values):
    indptr = np.concatenate([[0], np.cumsum([value != 0 for value in values])])
    data = np.array([value for value in values if value], dtype=np.float32)
    return SparseRows(indptr, np.zeros(len(data), dtype=np.int32), data, 1)


def test_s15_the_best_labels_come_first():
    ids, scores = predict_topk(identity_network([3, -1, 5, 4]), rows(1, 2), 3)
    assert ids.dtype == np.int32 and ids.tolist() == [[2, 3, 0], [2, 3, 0]]
    assert scores.dtype == np.float32 and scores.tolist() == [[5, 4, 3], [10, 8, 6]]


def test_s15_of_equal_scores_the_lower_id_comes_first():
    assert predict_topk(identity_network([1, 2, 2, 1, 2]), rows(1), 4)[0].tolist() == [[1, 2, 4, 0]]
    assert predict_topk(identity_network([1, 2, 2, 1, 2]), rows(0), 3)[0].tolist() == [[0, 1, 2]]


def test_s15_missing_places_hold_minus_one_and_minus_infinity():
    ids, scores = predict_topk(identity_network([1, 7]), rows(1), 4)
    assert ids.tolist() == [[1, 0, -1, -1]] and scores.tolist() == [[7, 1, -np.inf, -np.inf]]


def test_s15_no_rows_no_answers():
    ids, scores = predict_topk(identity_network([1, 7]), rows(), 1)
    assert ids.shape == scores.shape == (0, 1)
