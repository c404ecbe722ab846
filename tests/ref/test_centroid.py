"""S34 and S35: clusters of inputs, and the neurons that fire hardest at their centroids, by hand and by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slide_ref.common import lsh_config
from slide_ref.common.hash_constants import SAMPLES_A_CENTROID, samples_to_cluster
from slide_ref.common.lsh_config import CENTROID_TABLES, LshConfig
from slide_ref.common.rng import Purpose, draw, mix
from slide_ref.hash_tables import CentroidTable
from slide_ref.hashing import addresses_of
from slide_ref.hashing.centroid import buckets_of, groups_of, k_means, means, nearest, strongest

ARRAYS = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(-8, 8))


def test_s34_nearest_centroids_come_first_and_ties_go_to_the_lower_index():
    centroids = np.array([[4.0, 0], [0, 0], [1, 1], [0, 0]])
    assert nearest(np.array([[0.0, 0], [3, 1]]), centroids, 4).tolist() == [[1, 3, 2, 0], [0, 2, 1, 3]]


def test_s34_means_of_cells_and_an_empty_cell_that_stays():
    vectors, cells = np.array([[1.0, 1], [3, 5], [7, 7]]), np.array([2, 2, 0])
    assert means(vectors, cells, np.zeros((3, 2)) - 1).tolist() == [[7, 7], [-1, -1], [2, 3]]


def test_s34_k_means_worked_by_hand():
    vectors = np.array([[0.0], [1], [10], [11], [2]])
    assert k_means(vectors, 2, 0).ravel().tolist() == [0, 1]
    assert k_means(vectors, 2, 1).ravel().tolist() == [0, 6]  # 1, 10, 11 and 2 are nearer to 1
    assert k_means(vectors, 2, 2).ravel().tolist() == [1, 10.5]
    assert k_means(vectors, 2, 3).ravel().tolist() == [1, 10.5]


def test_s34_of_equal_centroids_the_lower_has_the_cell_and_the_other_stays():
    vectors = np.array([[2.0], [2], [2], [5]])
    assert [k_means(vectors, 2, rounds).ravel().tolist() for rounds in (1, 2, 3)] == [[2.75, 2], [5, 2], [5, 2]]


@given(ARRAYS, st.integers(0, 3))
def test_s34_every_round_brings_the_centroids_nearer(vectors, rounds):
    def total(centroids):
        return ((vectors - centroids[nearest(vectors, centroids, 1)[:, 0]]) ** 2).sum()

    before, after = (total(k_means(vectors, min(4, len(vectors)), n)) for n in (rounds, rounds + 1))
    assert after <= before + 1e-9


def test_s34_samples_are_draws_of_the_key():
    lsh = LshConfig(family="centroid", K=3, L=1)
    found = samples_to_cluster(lsh, 5, 2, 7, 1000)
    assert len(found) == SAMPLES_A_CENTROID * 8
    assert found.tolist() == draw(mix(5, Purpose.QUERIES, 2, 7, np.arange(64)), 1000).tolist()
    assert found.tolist() != samples_to_cluster(lsh, 5, 2, 8, 1000).tolist()


def test_s35_buckets_hold_the_largest_values_bias_included_and_ties_go_to_the_lower_id():
    W, b = np.array([[1.0, 0], [0, 1], [1, 0], [2, 0]]), np.array([0.0, 3, 0, -1])
    centroids = np.array([[1.0, 0], [0, 2]])  # values 1, 3, 1, 1 and 0, 5, 0, -1
    assert strongest(centroids, W, b, 3).tolist() == [[1, 0, 2], [1, 0, 2]]
    assert strongest(centroids, W, b, 9).tolist() == [[1, 0, 2, 3], [1, 0, 2, 3]]


@given(ARRAYS, ARRAYS, st.integers(1, 15))
def test_s35_whoever_is_left_out_fires_no_harder(centroids, W, size):
    b = np.arange(len(W)) % 3.0
    for bucket, centroid in zip(strongest(centroids, W, b, size), centroids, strict=True):
        values = W @ centroid + b
        assert len(set(bucket.tolist())) == len(bucket) == min(size, len(W))
        ranked = [(-values[neuron], neuron) for neuron in bucket]
        others = [(-values[neuron], neuron) for neuron in range(len(W)) if neuron not in bucket]
        assert ranked == sorted(ranked) and max(ranked) < min(others, default=(np.inf, 0))


def test_s35_buckets_of_a_large_layer_hold_the_largest_of_what_their_group_lists(monkeypatch):
    monkeypatch.setattr(lsh_config, "LISTED", 20)
    rng = np.random.default_rng(0)
    centroids, W, b = (rng.standard_normal(shape) for shape in ((128, 12), (90, 12), 90))
    lsh = LshConfig(family="centroid", K=7, L=1, bucket_size=5)
    buckets, (centers, members) = buckets_of(centroids, W, b, lsh), groups_of(centroids)
    assert centers.shape == (32, 12) and buckets.shape == (128, 5)
    for bucket, centroid, group in zip(buckets, centroids, members, strict=True):
        listed = set(np.argsort(-(W @ centers[group] + b))[:20].tolist())
        ranked = [neuron for neuron in np.argsort(-(W @ centroid + b)).tolist() if neuron in listed]
        assert bucket.tolist() == ranked[:5]
    assert not np.array_equal(buckets, strongest(centroids, W, b, 5))


@pytest.mark.parametrize(
    ("n", "settings", "n_listed"),
    [
        (131_072, {}, 131_072),
        (131_073, {}, 32_768),
        (670_091, {}, 32_768),
        (670_091, {"K": 6}, 670_091),
        (670_091, {"bucket_size": 20_000}, 80_000),
        (320_000, {"bucket_size": 20_000}, 320_000),
    ],
)
def test_s35_a_group_lists_part_of_a_large_layer(n, settings, n_listed):
    assert LshConfig(**CENTROID_TABLES | settings).listed(n) == n_listed


def test_s34_a_query_reads_the_buckets_of_its_nearest_centroids():
    centroids = np.array([[0.0], [5], [9], [2]])
    lsh = LshConfig(family="centroid", K=2, L=2)
    addresses = addresses_of(np.array([[1.6], [8.0]]), centroids, lsh, 0, 1)
    assert addresses.tolist() == [[3, 0], [2, 1]]
    table = CentroidTable(np.array([[7, 2], [3, 0], [1, 4], [5, 7]], dtype=np.int32))
    assert [bucket.tolist() for bucket in table.query(addresses[0])] == [[5, 7], [7, 2]]
    assert table.occupancy() == {"entries": 8, "neurons": 7, "buckets": 4, "fullest": 2}
