"""S8, S9, S23, S24 and S36: both sides choose the same neurons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import (
    SEEDS,
    SIZES,
    STEPS,
    found_by_the_reference,
    generators,
    label_rows,
    queries,
)

import slide_fast.sampling as fast
import slide_fast.verify.lockstep as verify
import slide_ref.sampling as ref
from slide_fast.hash_tables import CentroidTable, tables_from_addresses
from slide_fast.kernels.scratch import Scratch
from slide_ref.common.lsh_config import POLICIES, STRATEGIES, LshConfig
from slide_ref.common.rng import Key, Purpose
from slide_ref.common.sparse_rows import rows_from_lists

SCRATCH = Scratch()  # shared by all examples, so that it holds what others left


def rows(retrieved, n_rows):
    """What was retrieved for each sample."""
    assert len(retrieved.indptr) == n_rows + 1 and retrieved.indptr[0] == 0
    assert retrieved.indptr[-1] == len(retrieved.ids)
    return np.split(retrieved.ids, retrieved.indptr[1:-1])


@given(queries())
def test_s8_vanilla_finds_the_same_neurons(problem):
    lsh, tables, addresses, seed, epoch, samples = problem
    found = fast.vanilla(tables, addresses, lsh.budget, Key(seed, 1, epoch), samples)
    for ids, own, i in zip(rows(found, len(samples)), addresses, samples, strict=True):
        expected = ref.vanilla(tables.query(own), lsh.budget, Key(seed, 1, epoch), int(i))
        assert len(expected) == len(set(expected.tolist()))
        assert np.array_equal(np.unique(ids), np.sort(expected))
        assert len(expected) <= (lsh.budget or tables.ids.size)


def check_top_k(tables, addresses, budget):
    for ids, own in zip(rows(fast.top_k(tables, addresses, budget), len(addresses)), addresses, strict=True):
        assert ids.tolist() == ref.top_k(tables.query(own), budget).tolist()


def check_hard_threshold(tables, addresses, least):
    for ids, own in zip(rows(fast.hard_threshold(tables, addresses, least), len(addresses)), addresses, strict=True):
        assert ids.tolist() == ref.hard_threshold(tables.query(own), least).tolist()


@given(queries())
def test_s23_top_k_finds_the_same_neurons(problem):
    lsh, tables, addresses, *_ = problem
    check_top_k(tables, addresses, lsh.budget)


@given(queries())
def test_s24_hard_threshold_finds_the_same_neurons(problem):
    lsh, tables, addresses, *_ = problem
    check_hard_threshold(tables, addresses, lsh.threshold)


@given(queries())
def test_s8_s23_s24_the_strategy_of_the_settings_is_used(problem):
    lsh, tables, addresses, seed, epoch, samples = problem
    found = rows(fast.retrieve(tables, addresses, lsh, Key(seed, 1, epoch), samples), len(samples))
    for ids, expected in zip(found, found_by_the_reference(*problem), strict=True):
        assert np.array_equal(np.unique(ids), np.sort(expected))


@pytest.mark.parametrize("policy", POLICIES)
def test_s23_s24_neurons_in_some_of_many_buckets(policy):
    """Seven tables of two buckets that overlap: every frequency comes up, with many ties; any budget and threshold."""
    lsh = LshConfig(K=1, L=7, bucket_size=9, policy=policy)
    rng = np.random.default_rng(0)
    tables = tables_from_addresses(rng.integers(0, 2, (7, 30)), lsh, 3, 1, 0)
    addresses = rng.integers(0, 2, (12, 7))
    for number in range(1, 32):
        check_top_k(tables, addresses, number)
        check_hard_threshold(tables, addresses, min(number, 8))


def test_s23_more_samples_than_16_bits_can_number():
    """Ranks of samples and frequencies need more bits than numpy sorts by radix."""
    lsh = LshConfig(K=1, L=3, bucket_size=4)
    tables = tables_from_addresses(np.random.default_rng(0).integers(0, 2, (3, 6)), lsh, 3, 1, 0)
    addresses = np.random.default_rng(1).integers(0, 2, (17000, 3))
    found = fast.top_k(tables, addresses, 2)
    for i in (0, 255, 256, 16383, 16384, 16999):
        ids = found.ids[found.indptr[i] : found.indptr[i + 1]]
        assert ids.tolist() == ref.top_k(tables.query(addresses[i]), 2).tolist()


def test_s8_a_bucket_is_cut_at_every_place():
    """Three buckets of at most five neurons that overlap: budgets from 1 to more than there are."""
    lsh, seed = LshConfig(K=1, L=3, bucket_size=5), 3
    in_bucket = np.random.default_rng(0).integers(0, 2, (3, 12))
    tables = tables_from_addresses(in_bucket, lsh, seed, 1, 0)
    samples, addresses = np.arange(20), np.zeros((20, 3), dtype=np.int64)
    for budget in range(1, 14):
        found = rows(fast.vanilla(tables, addresses, budget, Key(seed, 1), samples), len(samples))
        for i in samples:
            expected = ref.vanilla(tables.query(addresses[i]), budget, Key(seed, 1), int(i))
            assert np.array_equal(np.sort(found[i]), np.sort(expected))


def test_s8_s23_s24_overlapping_buckets_tell_the_strategies_apart():
    in_bucket = np.random.default_rng(0).integers(0, 2, (5, 12))
    samples, addresses = np.arange(20), np.random.default_rng(1).integers(0, 2, (20, 5))
    answers, of_codes = set(), [name for name in STRATEGIES if name != "hardest"]
    for strategy in of_codes:
        lsh = LshConfig(K=1, L=5, bucket_size=8, budget=3, threshold=4, strategy=strategy)
        tables = tables_from_addresses(in_bucket, lsh, 3, 1, 0)
        found = [np.sort(ids) for ids in rows(fast.retrieve(tables, addresses, lsh, Key(3, 1), samples), 20)]
        expected = found_by_the_reference(lsh, tables, addresses, 3, 0, samples)
        assert all(np.array_equal(ours, np.sort(theirs)) for ours, theirs in zip(found, expected, strict=True))
        answers.add(str([ids.tolist() for ids in found]))
    assert len(answers) == len(of_codes)


@st.composite
def centroid_tables(draw):
    """Buckets of distinct neurons on both sides, and the buckets that some samples read."""
    n, n_centroids = draw(SIZES), 1 << draw(st.integers(1, 3))
    size, L = draw(st.integers(1, n)), draw(st.integers(1, min(n_centroids, 4)))
    rng = draw(generators())
    ids = np.array([rng.permutation(n)[:size] for _ in range(n_centroids)], dtype=np.int32)
    addresses = np.array([rng.permutation(n_centroids)[:L] for _ in range(draw(st.integers(1, 5)))])
    return CentroidTable(ids, n, np.ones(1, np.int32)), addresses


@given(centroid_tables(), st.data())
def test_s36_hardest_finds_the_same_neurons(problem, data):
    tables, addresses = problem
    budget = data.draw(st.sampled_from([0, 1, 2, 3, 7, tables.n_neurons, 2 * tables.n_neurons + 1]))
    found = rows(fast.hardest(tables, addresses, budget), len(addresses))
    for ids, own in zip(found, addresses, strict=True):
        assert ids.tolist() == ref.hardest(tables.query(own), budget).tolist()


@given(centroid_tables(), SEEDS, st.data())
def test_s8_s23_s24_s36_every_strategy_reads_a_centroid_table(problem, seed, data):
    tables, addresses = problem
    samples, L = np.arange(len(addresses)), addresses.shape[1]
    lsh = LshConfig(
        family="centroid", K=3, L=L, strategy=data.draw(st.sampled_from(STRATEGIES)),
        budget=data.draw(st.integers(0, 9)), threshold=data.draw(st.integers(1, L)),
    )  # fmt: skip
    found = rows(fast.retrieve(tables, addresses, lsh, Key(seed, 1), samples), len(samples))
    for ids, expected in zip(found, found_by_the_reference(lsh, tables, addresses, seed, 0, samples), strict=True):
        assert np.array_equal(np.unique(ids), np.sort(expected))


@given(st.data(), SIZES, SEEDS, STEPS)
def test_s9_padded_sets_are_equal(data, n, seed, step):
    held = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1)))), dtype=np.int64)
    size = data.draw(st.sampled_from([0, 1, n // 2, n - 1, n, n + 3]))
    for purpose, key in ((Purpose.PAD_BATCH, (1, step)), (Purpose.PAD_SAMPLE, (1, 0, step))):
        ours = fast.pad(SCRATCH, held, size, n, seed, purpose, *key)
        theirs = ref.pad(held, size, n, seed, purpose, *key)
        assert ours.dtype == theirs.dtype == np.int64 and np.array_equal(ours, theirs)


def test_s9_long_runs_of_draws_are_equal():
    for n, size in ((1000, 999), (1000, 500), (5000, 100)):
        held = np.arange(0, n, 7)
        ours = fast.pad(SCRATCH, held, size, n, 1, Purpose.PAD_BATCH, 1, 1)
        assert np.array_equal(ours, ref.pad(held, size, n, 1, Purpose.PAD_BATCH, 1, 1))


@given(queries(), st.data(), st.sampled_from(["batch", "sample"]), STEPS)
def test_s9_active_sets_are_equal(problem, data, scope, step):
    lsh, tables, addresses, seed, epoch, samples = problem
    n = tables.ids.shape[1]
    labels = data.draw(label_rows(len(samples), n, min_size=1))
    found = fast.retrieve(tables, addresses, lsh, Key(seed, 1, epoch), samples)
    ours = fast.active_sets(SCRATCH, found, labels, lsh, scope, n, Key(seed, 1, epoch, step), samples)
    assert_equal_sets(ours, found_by_the_reference(*problem), labels, lsh, scope, n, seed, epoch, samples, step)


def assert_equal_sets(ours, retrieved, labels, lsh, scope, n, seed, epoch, samples, step):
    own = [labels.row(i)[0] for i in range(labels.n_rows)]
    expected = ref.active_sets(retrieved, own, lsh, scope, n, Key(seed, 1, epoch, step), samples)
    found = verify.one_by_one(ours, len(samples))
    assert ours.ids.dtype == np.int64 and (ours.mask is None) == (scope == "batch")
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]
    assert np.array_equal(ours.ids, np.unique(np.concatenate(expected)))


def test_s9_scratch_of_a_larger_layer_leaves_no_trace():
    """Ids at both ends, a wide micro-batch before a narrow one, and tables that are gone."""
    for n in (50, 3, 50, 1):
        for scope in ("sample", "batch"):
            labels = rows_from_lists([[0, n - 1], [n - 1], [0]], n)
            nothing = fast.Retrieved(np.zeros(4, dtype=np.int64), np.zeros(0, dtype=np.int32))
            for min_active in (0, n - 1):
                lsh, samples = LshConfig(L=0, min_active=min_active), np.arange(3)
                ours = fast.active_sets(SCRATCH, nothing, labels, lsh, scope, n, Key(0, 1, 0, 1), samples)
                none = [np.zeros(0, dtype=np.int64)] * 3
                assert_equal_sets(ours, none, labels, lsh, scope, n, 0, 0, samples, 1)


def test_s9_neurons_found_twice_or_also_labels_count_once():
    """Each sample has three distinct neurons in five places; with four asked for, one is drawn."""
    labels = rows_from_lists([[1, 4], [0, 2]], 20)
    found = fast.Retrieved(np.array([0, 3, 6]), np.array([7, 4, 7, 5, 5, 2], dtype=np.int32))
    distinct = [np.array([7, 4], dtype=np.int64), np.array([5, 2], dtype=np.int64)]
    for scope in ("sample", "batch"):
        for min_active in (3, 4, 5, 6):
            lsh, samples = LshConfig(min_active=min_active), np.arange(2)
            ours = fast.active_sets(SCRATCH, found, labels, lsh, scope, 20, Key(0, 1, 0, 1), samples)
            assert_equal_sets(ours, distinct, labels, lsh, scope, 20, 0, 0, samples, 1)
