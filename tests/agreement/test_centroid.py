"""S34 and S35: both sides find the same cells, centroids and buckets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import dyadic_arrays, generators, real_arrays

import slide_fast.hash_tables
import slide_fast.hashing.centroid as fast
import slide_ref.hash_tables
import slide_ref.hashing.centroid as ref
from slide_fast.verify.centroids import check_nearest, check_strongest, fill
from slide_fast.verify.comparison import Disagreement, Report, check_floats
from slide_ref.common import lsh_config
from slide_ref.common.lsh_config import LshConfig


@st.composite
def problems(draw, values):
    """Vectors, centroids among which some are equal, neurons and their biases."""
    d, n_centroids = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    vectors, centroids, W = draw(values(draw(st.integers(0, 20)), d)), draw(values(n_centroids, d)), draw(values(40, d))
    if n_centroids > 1 and draw(st.booleans()):
        centroids[-1] = centroids[0]
    if draw(st.booleans()):
        W[1::3] = W[0]
    return vectors, centroids, W, draw(values(40))


@given(problems(dyadic_arrays), st.data())
def test_s34_nearest_of_dyadic_vectors_are_equal(problem, data):
    vectors, centroids, *_ = problem
    count = data.draw(st.integers(1, len(centroids)))
    ours, theirs = (side.nearest(vectors, centroids, count) for side in (fast, ref))
    assert ours.dtype == theirs.dtype == np.int64 and np.array_equal(ours, theirs)


@given(problems(real_arrays), st.data())
def test_s34_nearest_of_real_vectors_differ_only_within_rounding(problem, data):
    vectors, centroids, *_ = problem
    count = data.draw(st.integers(1, len(centroids)))
    ours, theirs = (side.nearest(vectors, centroids, count) for side in (fast, ref))
    check_nearest(Report(), "nearest", ours, theirs, vectors, centroids)


@given(problems(real_arrays), generators())
def test_s34_means_agree(problem, rng):
    vectors, centroids, *_ = problem
    cells = rng.integers(0, len(centroids), len(vectors))
    sides = (vectors, centroids), (vectors.astype(np.float64), centroids.astype(np.float64))
    theirs, exact = (ref.means(some, cells, of) for some, of in sides)
    size = ref.means(np.abs(sides[1][0]), cells, np.abs(sides[1][1]))
    ours = fast.means(vectors, cells, centroids)
    assert ours.dtype == np.float32
    check_floats(Report(), "means", ours, theirs, exact, size)
    empty = np.setdiff1d(np.arange(len(centroids)), cells)
    assert np.array_equal(ours[empty], centroids[empty])


@pytest.mark.parametrize("side", [fast, ref])
@given(problems(real_arrays), st.integers(1, 7))
def test_s34_copies_of_a_vector_have_it_as_their_mean(side, problem, count):
    """Else rounding, which processors do in different orders, would decide between centroids that are equal."""
    centroids = problem[1]
    cells = np.tile(np.arange(len(centroids)), count)
    assert np.array_equal(side.means(centroids[cells], cells, centroids), centroids)


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_s34_clusters_of_whole_numbers_far_apart_are_equal(rounds):
    """Every cell has a power of two of members, so that means are exact."""
    rng = np.random.default_rng(0)
    corners = 64.0 * np.array([[x, y] for x in range(4) for y in range(4)], dtype=np.float32)
    vectors = np.concatenate([corners + np.float32(shift) for shift in rng.integers(-8, 9, (16, 1, 2))])
    ours, theirs = (side.k_means(vectors, 16, rounds) for side in (fast, ref))
    assert ours.dtype == theirs.dtype == np.float32 and np.array_equal(ours, theirs)


@given(problems(dyadic_arrays), st.sampled_from([1, 2, 5, 39, 40, 99]))
def test_s35_buckets_of_dyadic_neurons_are_equal(problem, size):
    _, centroids, W, b = problem
    ours, theirs = (side.strongest(centroids, W, b, size) for side in (fast, ref))
    assert ours.dtype == theirs.dtype == np.int32 and np.array_equal(ours, theirs)


@given(problems(real_arrays), st.sampled_from([1, 7, 40]))
def test_s35_buckets_of_real_neurons_differ_only_within_rounding(problem, size):
    _, centroids, W, b = problem
    check_strongest(Report(), *(side.strongest(centroids, W, b, size) for side in (fast, ref)), centroids, W, b)


@pytest.mark.parametrize("size", [1, 40, 6000])
@pytest.mark.parametrize(
    "kind", ["usual", "all equal", "the probed ones are largest", "not a number", "some are no numbers"]
)
def test_s35_many_neurons_in_blocks_are_equal(kind, size):
    """More neurons than are evaluated at once, more centroids too, and guesses of all kinds about their values."""
    rng = np.random.default_rng(0)
    W, b = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((20_001, 3), 20_001))
    if kind == "all equal":
        W[:], b[:] = 1, 0
    if kind == "the probed ones are largest":
        b[:: len(b) // fast.PROBED] += 1000
    if kind == "not a number":
        W[:] = np.nan
    if kind == "some are no numbers":
        b[::3] = np.nan
    centroids = rng.integers(-4, 5, (70, 3)).astype(np.float32)
    ours, theirs = (side.strongest(centroids, W, b, size) for side in (fast, ref))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("parts", [[slice(None)], [slice(99, 128), slice(0, 30), slice(30, 99)]])
@pytest.mark.parametrize("n_listed", [70, 100])
def test_s35_buckets_filled_group_by_group_are_equal(monkeypatch, parts, n_listed):
    """Every group has four centroids around a corner, so that means are exact."""
    monkeypatch.setattr(lsh_config, "LISTED", n_listed)
    monkeypatch.setattr(fast, "LISTED_WEIGHTS", 50)
    rng = np.random.default_rng(0)
    corners = 64.0 * np.array([[x, y] for x in range(8) for y in range(4)], dtype=np.float32)
    shifts = [[0, 0], *rng.integers(-8, 9, (3, 1, 2))]
    centroids = np.concatenate([corners + np.float32(shift) for shift in shifts])
    W, b = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((700, 2), 700))
    lsh = LshConfig(family="centroid", K=7, L=1, bucket_size=17)
    ours, theirs = np.full((128, 17), -1, dtype=np.int32), ref.buckets_of(centroids, W, b, lsh)
    listed = np.concatenate(
        [fast.listed_by_groups(centroids, W, b, n_listed, some) for some in (slice(3), slice(3, 32))]
    )
    for part in parts:
        fast.fill_buckets(ours, centroids, W, b, listed, part)
    assert np.array_equal(ours, theirs)
    assert all(map(np.array_equal, fast.groups_of(centroids), ref.groups_of(centroids)))
    assert np.array_equal(fill(Report(), centroids, W, b, lsh), theirs)


def test_s34_more_vectors_than_are_compared_at_once():
    rng = np.random.default_rng(0)
    vectors, centroids = (rng.integers(-8, 9, (n, 3)).astype(np.float32) for n in (fast.ROWS_AT_ONCE + 3, 7))
    assert np.array_equal(*(side.nearest(vectors, centroids, 3) for side in (fast, ref)))


@given(problems(dyadic_arrays), st.data())
def test_s34_codes_are_equal(problem, data):
    vectors, centroids, *_ = problem
    lsh = LshConfig(family="centroid", K=4, L=data.draw(st.integers(1, len(centroids))))
    ours, theirs = (side.centroid_codes(vectors, centroids, lsh) for side in (fast, ref))
    assert ours.dtype == theirs.dtype == np.uint64 and np.array_equal(ours, theirs)


@given(problems(dyadic_arrays), st.integers(1, 9), generators())
def test_s35_tables_give_the_same_buckets(problem, size, rng):
    _, centroids, W, b = problem
    ours = slide_fast.hash_tables.CentroidTable(fast.strongest(centroids, W, b, size), len(b), np.ones(1, np.int32))
    theirs = slide_ref.hash_tables.CentroidTable(ref.strongest(centroids, W, b, size))
    addresses = rng.permutation(len(centroids))[:3]
    found, expected = ours.query(addresses), theirs.query(addresses)
    assert [bucket.tolist() for bucket in found] == [bucket.tolist() for bucket in expected]
    assert all(bucket.dtype == np.int64 for bucket in (*found, *expected))
    assert ours.occupancy() == theirs.occupancy()


def test_a_neuron_twice_or_one_that_fires_less_is_a_disagreement():
    W, b = np.array([[4], [3], [2], [1]], dtype=np.float32), np.zeros(4, np.float32)
    centroids = np.ones((1, 1), dtype=np.float32)
    buckets = ref.strongest(centroids, W, b, 2)
    for wrong in ([[0, 0]], [[0, 2]], [[1, 0]], [[0, 4]], [[0, -1]], [[0]]):
        with pytest.raises(Disagreement):
            check_strongest(Report(), np.array(wrong, dtype=np.int32), buckets, centroids, W, b)
