"""S15: exact prediction; S28: prediction through an index."""

import numpy as np

from slide_ref.common.index import Index, Preview
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.prediction import candidates, hidden_outputs, predict_topk, predict_topk_index


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


def index_with_buckets(centroids, buckets, preview=None):
    centroids, buckets = np.array(centroids, dtype=np.float32)[:, None], np.array(buckets, dtype=np.int32)
    return Index(centroids, buckets, np.zeros((0, 0), dtype=np.int32), preview)


def test_s28_only_the_first_neurons_of_the_nearest_bucket_are_scored():
    layers, index = identity_network([3, -1, 5, -4]), index_with_buckets([0, 10], [[1, 0, 2], [3, 1, 2]])
    ids, scores = predict_topk_index(layers, rows(1, 4, 6), 3, index, 2)
    assert ids.dtype == np.int32 and ids.tolist() == [[0, 1, -1], [0, 1, -1], [1, 3, -1]]
    assert scores.dtype == np.float32 and scores.tolist() == [[3, -1, -np.inf], [12, -4, -np.inf], [-6, -24, -np.inf]]


def test_s28_of_equally_near_centroids_the_first_is_read():
    index = index_with_buckets([4, 0, 4], [[0], [1], [2]])
    assert candidates(index, np.array([2], dtype=np.float32), 1, 1).tolist() == [0]
    assert candidates(index, np.array([1], dtype=np.float32), 1, 1).tolist() == [1]


def test_s28_the_hidden_layer_is_rectified_before_its_cell_is_looked_for():
    layers, index = identity_network([3, -1, 0]), index_with_buckets([0, -1], [[2], [1]])
    layers[0].W[:] = -1
    assert predict_topk_index(layers, rows(1), 1, index, 1)[0].tolist() == [[2]]
    assert hidden_outputs(layers, rows(1, 0)).tolist() == [[0], [0]]


def test_s28_of_equal_scores_the_lower_id_comes_first():
    layers, index = identity_network([9, 1, 1, 9, 2]), index_with_buckets([0], [[4, 2, 1]])
    ids, scores = predict_topk_index(layers, rows(1), 4, index, 3)
    assert ids.tolist() == [[4, 1, 2, -1]] and scores.tolist() == [[2, 1, 1, -np.inf]]


def test_s28_a_preview_leaves_the_largest_and_their_equals(monkeypatch):
    monkeypatch.setattr("slide_ref.prediction.n_previewed", lambda k: k + 1)
    one = np.ones((1, 1), dtype=np.float32)
    reduced, levels = np.zeros((5, 1), dtype=np.float32), np.array([[1, 5, 3, 3, 2]], dtype=np.float32)
    index = index_with_buckets([0], [[4, 3, 2, 1, 0]], Preview(one, reduced, levels))
    assert candidates(index, np.zeros(1, dtype=np.float32), 5, 1).tolist() == [1, 2, 3]
    assert candidates(index, np.zeros(1, dtype=np.float32), 3, 1).tolist() == [2, 3]
    assert candidates(index, np.zeros(1, dtype=np.float32), 2, 1).tolist() == [3, 4]  # no more than are wanted
    reduced[0] = 10
    assert candidates(index, np.ones(1, dtype=np.float32), 5, 1).tolist() == [0, 3]
