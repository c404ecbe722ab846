"""S28: the index that prediction looks labels up in."""

import numpy as np
import pytest

from slide_ref.common.index import Index, IndexSamples, Preview
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.indexing import build_index, places_of_best, preview_of, spreads


def network(weights, biases):
    """A network whose output layer gets the two features as they are."""
    weights, biases = np.array(weights, dtype=np.float32), np.array(biases, dtype=np.float32)
    return [Layer(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32)), Layer(weights, biases)]


def rows(*pairs):
    n = len(pairs)
    values = np.array(pairs, dtype=np.float32).reshape(-1)
    return SparseRows(2 * np.arange(n + 1), np.tile(np.array([0, 1], dtype=np.int32), n), values, 2)


def test_s28_a_logit_spreads_with_its_weights_and_the_samples():
    W = np.array([[1, 0], [-1, 0], [0, 2], [0, -2]], dtype=np.float32)
    assert spreads(W, np.diag([4, 9]).astype(np.float32)).tolist() == [2, 2, 6, 6]
    assert spreads(W + 5, np.diag([4, 9]).astype(np.float32)).tolist() == [2, 2, 6, 6]  # what all share moves no rank


def test_s28_buckets_hold_what_could_be_large_near_the_centroid():
    """At the centroid label 0 is ahead of label 1, but label 1 varies along the way in which samples differ."""
    layers = network([[0, 0], [1, 0], [0, 0], [-1, 0]], [0.5, 0, 0.75, -20])
    clustered = rows((1, 5), (1, 5), (3, 5), (3, 5))  # the first is where the one centroid begins
    layers[1].W[1] = [1, -0.4]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slide_ref.indexing.N_CENTROIDS", 1)
        index = build_index(layers, IndexSamples(clustered, rows((1, 5))))
    assert index.centroids.tolist() == [[2, 5]] and index.preview is None
    assert index.buckets.tolist() == [[1, 2, 0, 3]]  # logits 0, 0.75, 0.5, -22 and three times the spread of each


def test_s28_places_are_those_of_the_best_labels_in_their_bucket(monkeypatch):
    monkeypatch.setattr("slide_ref.indexing.DEEP_ROWS", 1)
    monkeypatch.setattr("slide_ref.indexing.MEASURED", 2)
    layers = network([[1, 0], [2, 0], [3, 0], [4, 0]], [0, 0, 0, 0])
    none = np.zeros((0, 0), dtype=np.int32)
    index = Index(np.zeros((1, 2), dtype=np.float32), np.array([[1, 3]], dtype=np.int32), none)
    places, limits = places_of_best(layers, rows((1, 0), (2, 0)), index)
    assert places.dtype == np.int32 and places.tolist() == [[1, 2, 0, 2], [1, 2, -1, -1]] and limits is None


def test_s28_a_label_has_the_limit_at_which_the_preview_leaves_it_out(monkeypatch):
    monkeypatch.setattr("slide_ref.indexing.n_previewed", lambda k: 2)
    layers = network([[1, 0], [2, 0], [3, 0], [4, 0]], [0, 0, 0, 0])  # best first: 3, 2, 1, 0
    buckets, levels = np.array([[0, 2, 3, 1]], dtype=np.int32), np.array([[5, 1, 7, 6]], dtype=np.float32)
    preview = Preview(np.zeros((2, 1), dtype=np.float32), np.zeros((4, 1), dtype=np.float32), levels)
    index = Index(np.zeros((1, 2), dtype=np.float32), buckets, np.zeros((0, 0), dtype=np.int32), preview)
    places, limits = places_of_best(layers, rows((1, 0)), index)
    assert places.tolist() == [[2, 1, 3, 0]]
    assert limits.dtype == np.int32 and limits.tolist() == [[4, 2, 4, 3]]  # 2 is behind 0 and 3, 0 behind 3 and 1


def test_s28_a_preview_is_exact_at_the_centroid_and_along_its_directions():
    W, centroid = np.random.default_rng(0).standard_normal((6, 8)), np.ones((1, 8))
    output, buckets = Layer(W, np.arange(6.0)), np.array([[5, 0, 3]], dtype=np.int32)
    preview = preview_of(output, centroid, buckets, np.diag([1.0, 2, 9, 8, 3, 4, 5, 6]))
    assert preview.directions.shape == (8, 2) and preview.reduced.shape == (6, 2)
    moved = centroid[0] + 3 * np.eye(8)[2] - 2 * np.eye(8)[3]
    along = preview.directions.T @ (moved - centroid[0])
    expected = W[buckets[0]] @ moved + output.b[buckets[0]]
    assert np.allclose(preview.levels[0] + preview.reduced[buckets[0]] @ along, expected)
