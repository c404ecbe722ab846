"""S8 and S9: both sides choose the same neurons."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from problems import SEEDS, dyadic_arrays, label_rows, lsh_configs

import slide_fast.sampling as fast
import slide_fast.verify as verify
import slide_ref.sampling as ref
from slide_fast.hash_tables import build_tables, tables_from_addresses
from slide_fast.hashing import addresses_of, hash_constants
from slide_fast.scratch import Scratch
from slide_ref.common.config import LshConfig
from slide_ref.common.rng import Purpose
from slide_ref.common.sparse_rows import rows_from_lists

SIZES = st.one_of(st.sampled_from([1, 2]), st.integers(1, 40))
EPOCHS = st.integers(0, 3)
STEPS = st.integers(1, 1000)
SCRATCH = Scratch()  # shared by all examples, so that it holds what others left


@st.composite
def queries(draw):
    """Tables of dyadic weights, and vectors that look into them."""
    n, seed = draw(SIZES), draw(SEEDS)
    lsh = draw(lsh_configs(n, bits=4))
    constants = hash_constants(lsh, seed, 1, 4)
    tables = build_tables(draw(dyadic_arrays(n, 4)), constants, lsh, seed, 1, 0)
    vectors = draw(dyadic_arrays(draw(st.integers(1, 5)), 4))
    addresses = addresses_of(vectors, constants, lsh, seed, 1)
    samples = draw(st.lists(st.integers(0, 10**6), min_size=len(vectors), max_size=len(vectors), unique=True))
    return lsh, tables, addresses, seed, draw(EPOCHS), np.array(samples)


def found_by_the_reference(lsh, tables, addresses, seed, epoch, samples):
    buckets = [tables.query(own) for own in addresses]
    return [ref.vanilla(own, lsh.budget, seed, 1, epoch, int(i)) for own, i in zip(buckets, samples, strict=True)]


def row(retrieved, i):
    return retrieved.ids[retrieved.indptr[i] : retrieved.indptr[i + 1]]


@given(queries())
def test_s8_vanilla_finds_the_same_neurons(problem):
    lsh, tables, addresses, seed, epoch, samples = problem
    found = fast.vanilla(tables, addresses, lsh.budget, seed, 1, epoch, samples)
    assert len(found.indptr) == len(samples) + 1 and found.indptr[0] == 0 and found.indptr[-1] == len(found.ids)
    for i, expected in enumerate(found_by_the_reference(*problem)):
        assert len(expected) == len(set(expected.tolist()))
        assert np.array_equal(np.unique(row(found, i)), np.sort(expected))
        assert len(expected) <= (lsh.budget or tables.ids.size)


def test_s8_a_bucket_is_cut_at_every_place():
    """Three buckets of at most five neurons that overlap: budgets from 1 to more than there are."""
    lsh, seed = LshConfig(K=1, L=3, bucket_size=5), 3
    in_bucket = np.random.default_rng(0).integers(0, 2, (3, 12))
    tables = tables_from_addresses(in_bucket, lsh, seed, 1, 0)
    samples, addresses = np.arange(20), np.zeros((20, 3), dtype=np.int64)
    for budget in range(1, 14):
        found = fast.vanilla(tables, addresses, budget, seed, 1, 0, samples)
        for i in samples:
            expected = ref.vanilla(tables.query(addresses[i]), budget, seed, 1, 0, int(i))
            assert np.array_equal(np.sort(row(found, i)), np.sort(expected))


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
    found = fast.vanilla(tables, addresses, lsh.budget, seed, 1, epoch, samples)
    ours = fast.active_sets(SCRATCH, found, labels, lsh, scope, n, seed, 1, epoch, samples, step)
    assert_equal_sets(ours, found_by_the_reference(*problem), labels, lsh, scope, n, seed, epoch, samples, step)


def assert_equal_sets(ours, retrieved, labels, lsh, scope, n, seed, epoch, samples, step):
    own = [labels.row(i)[0] for i in range(labels.n_rows)]
    expected = ref.active_sets(retrieved, own, lsh, scope, n, seed, 1, epoch, samples, step)
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
                ours = fast.active_sets(SCRATCH, nothing, labels, lsh, scope, n, 0, 1, 0, samples, 1)
                none = [np.zeros(0, dtype=np.int64)] * 3
                assert_equal_sets(ours, none, labels, lsh, scope, n, 0, 0, samples, 1)
