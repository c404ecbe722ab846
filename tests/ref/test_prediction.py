"""S15: exact prediction; S28: prediction through the tables."""

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.hash_tables import HashTables
from slide_ref.prediction import Index, build_index, candidates, predict_topk, predict_topk_lsh, squared_norms


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


def index_over(logits, **lsh):
    """Tables over neurons with one input: codes of 16 signs part positive weights from negative ones."""
    layers = identity_network(logits)
    return layers, build_index(
        Config(hidden=(1,)).replace(lsh={"family": "simhash", "K": 16, "L": 3, **lsh}), layers, 0
    )


def test_s28_only_candidates_are_scored():
    layers, index = index_over([3, -1, 5, -4])
    ids, scores, n_candidates = predict_topk_lsh(layers, rows(1, 2), 3, index)
    assert ids.dtype == np.int32 and ids.tolist() == [[2, 0, -1], [2, 0, -1]] and n_candidates.tolist() == [2, 2]
    assert scores.dtype == np.float32 and scores.tolist() == [[5, 3, -np.inf], [10, 6, -np.inf]]


def test_s28_the_hidden_layer_is_rectified_before_it_is_hashed():
    layers, index = index_over([3, -1, 0])
    layers[0].W[:] = -1
    assert predict_topk_lsh(layers, rows(1), 2, index)[0].tolist() == [[2, -1]]  # found by 0, not by -1


def test_s28_tables_hold_the_weights_of_now_whatever_the_padding():
    layers, index = index_over([3, -1, 5], min_active=3)
    assert predict_topk_lsh(layers, rows(1), 1, index)[0].tolist() == [[2]]
    layers[1].W[:] *= -1
    index = build_index(Config(hidden=(1,)).replace(lsh={"family": "simhash", "K": 16, "L": 3}), layers, 1)
    assert predict_topk_lsh(layers, rows(1), 2, index)[0].tolist() == [[1, -1]]


def test_s28_the_number_of_the_rebuild_decides_what_a_full_bucket_keeps():
    kept = set()
    for rebuild in range(20):
        layers, _ = index_over([1, 1, 1])
        index = build_index(
            Config(hidden=(1,)).replace(lsh={"family": "simhash", "K": 1, "L": 1, "bucket_size": 1}), layers, rebuild
        )
        kept.add(predict_topk_lsh(layers, rows(1), 1, index)[0].item())
    assert kept == {0, 1, 2}


def test_s28_no_tables_no_answers():
    layers, index = index_over([3, -1], L=0)
    ids, scores, n_candidates = predict_topk_lsh(layers, rows(1), 2, index)
    assert ids.tolist() == [[-1, -1]] and scores.tolist() == [[-np.inf, -np.inf]] and n_candidates.tolist() == [0]


def index_with_buckets(*buckets):
    """Tables in each of which everything has the same address."""
    tables = HashTables(len(buckets), 10)
    tables.tables = [{0: list(bucket)} for bucket in buckets]
    lsh = LshConfig(K=1, L=len(buckets))
    return Index(np.arange(0), np.arange(9), tables, np.zeros((len(buckets), 1), dtype=np.int8), lsh, 0, 1)


def test_s28_whatever_stands_in_a_bucket_is_a_candidate():
    index = index_with_buckets([4, 2, 1], [2, 5, 4], [2, 3])
    assert candidates(index, np.ones(1, dtype=np.float32)).tolist() == [1, 2, 3, 4, 5]


def test_s28_of_equal_scores_the_lower_id_comes_first_and_missing_places_are_marked():
    index, layers = index_with_buckets([4, 2, 1], [2]), identity_network([9, 1, 1, 9, 2])
    ids, scores, n_candidates = predict_topk_lsh(layers, rows(1), 4, index)
    assert ids.tolist() == [[4, 1, 2, -1]] and scores.tolist() == [[2, 1, 1, -np.inf]] and n_candidates.tolist() == [3]


def test_s28_the_head_is_looked_at_whatever_the_tables_say():
    layers = identity_network([9, 1, -20, 9, 2])
    index = build_index(Config(hidden=(1,)).replace(lsh={"L": 0}), layers, 0, 3)
    assert index.head.tolist() == [0, 2, 3] and index.tail.tolist() == [1, 4]  # farthest from the mean, 0.2
    ids, scores, n_candidates = predict_topk_lsh(layers, rows(1), 4, index)
    assert ids.tolist() == [[0, 3, 2, -1]] and scores.tolist() == [[9, 9, -20, -np.inf]]
    assert n_candidates.tolist() == [3]


def test_s28_a_bias_makes_a_label_long_too():
    layers = identity_network([1, 1, 1, 1])
    layers[-1].b[2] = 5
    assert np.argmax(squared_norms(layers[-1])) == 2


def test_s28_tables_hold_the_tail_only():
    layers = identity_network([9, 1, 9, 2])
    index = build_index(Config(hidden=(1,)).replace(lsh={"family": "simhash", "K": 4, "L": 2}), layers, 0, 2)
    assert index.tables.occupancy()["entries"] == 4  # two labels in two tables
    assert candidates(index, np.ones(1, dtype=np.float32)).tolist() == [0, 1, 2, 3]
