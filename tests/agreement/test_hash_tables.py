"""S6, S7 and S22: both sides hold the same neurons in the same buckets, in the same order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import SEEDS, dyadic_arrays, generators, lsh_configs

import slide_fast.hash_tables as fast
import slide_ref.hash_tables as ref
from slide_fast.hashing import addresses_of, hash_constants
from slide_fast.verify.lockstep import Report, check_buckets
from slide_ref.common.lsh_config import POLICIES, LshConfig

SIZES = st.one_of(st.sampled_from([1, 2]), st.integers(1, 60))
REBUILDS = st.integers(0, 3)


@st.composite
def addressed_neurons(draw, n):
    """Settings and addresses (L, n): anywhere, at both ends, or all in one bucket."""
    lsh = draw(lsh_configs(n))
    last, kind = 2**lsh.address_bits - 1, draw(st.sampled_from(["anywhere", "both ends", "one bucket"]))
    if kind == "one bucket":
        return lsh, np.full((lsh.L, n), draw(st.sampled_from([0, last])))
    addresses = draw(generators()).integers(0, 2 if kind == "both ends" else last + 1, (lsh.L, n))
    return lsh, np.where(addresses == 1, last, addresses)


@given(SIZES.flatmap(addressed_neurons), SEEDS, REBUILDS)
def test_s7_s22_buckets_are_equal(problem, seed, rebuild):
    lsh, addresses = problem
    ours, theirs = (side.tables_from_addresses(addresses, lsh, seed, 1, rebuild) for side in (fast, ref))
    check_buckets(Report(), ours, theirs)


@given(SIZES.flatmap(addressed_neurons), SEEDS, st.data())
def test_s7_s22_queries_are_equal(problem, seed, data):
    lsh, addresses = problem
    ours, theirs = (side.tables_from_addresses(addresses, lsh, seed, 1, 0) for side in (fast, ref))
    last = 2**lsh.address_bits - 1
    query = np.array([data.draw(st.sampled_from([0, last, *own])) for own in addresses.tolist()], dtype=np.int64)
    found, expected = ours.query(query), theirs.query(query)
    assert [bucket.tolist() for bucket in found] == [bucket.tolist() for bucket in expected]
    assert all(bucket.dtype == np.int64 for bucket in (*found, *expected))


@given(st.data(), SIZES, SEEDS, st.integers(1, 2), REBUILDS)
def test_s6_tables_built_from_dyadic_weights_are_equal(data, n, seed, layer, rebuild):
    lsh, W = data.draw(lsh_configs(n)), data.draw(dyadic_arrays(n, 6))
    ours, theirs = (
        side.build_tables(W, hash_constants(lsh, seed, layer, 6), lsh, seed, layer, rebuild) for side in (fast, ref)
    )
    check_buckets(Report(), ours, theirs)
    assert ours.occupancy() == theirs.occupancy()


@pytest.mark.parametrize("policy", POLICIES)
def test_s7_s22_tables_of_24_bits_are_equal(policy):
    lsh = LshConfig(K=30, L=1, bucket_bits=24, bucket_size=2, policy=policy)
    addresses = np.random.default_rng(0).choice([0, 2**16 - 1, 2**16, 2**24 - 1], (1, 50))
    ours, theirs = (side.tables_from_addresses(addresses, lsh, 0, 1, 0) for side in (fast, ref))
    for address in np.unique(addresses):
        assert ours.query(np.array([address]))[0].tolist() == theirs.query(np.array([address]))[0].tolist()
    assert ours.occupancy() == theirs.occupancy()


@settings(max_examples=25)
@given(st.data(), SIZES, SEEDS, st.integers(1, 20))
def test_s6_neurons_hashed_in_parts_have_the_addresses_of_all(data, n, seed, part):
    lsh, W = data.draw(lsh_configs(n)), data.draw(dyadic_arrays(n, 6))
    constants = hash_constants(lsh, seed, 1, 6)
    shape, dtype = fast.array_shapes(lsh, n, 6)["addresses"]
    addresses = np.empty(shape, dtype)
    for first in range(0, n, part):
        fast.hash_rows(W[first : first + part], constants, lsh, seed, 1, addresses[:, first : first + part])
    assert np.array_equal(addresses.T, addresses_of(W, constants, lsh, seed, 1))


def test_s6_neurons_hashed_in_blocks_have_the_addresses_of_all(monkeypatch):
    monkeypatch.setattr(fast, "ROWS_AT_ONCE", 7)
    lsh = LshConfig(K=6, L=3)
    W = np.random.default_rng(0).integers(-16, 17, (30, 5)).astype(np.float32) / 16
    constants = hash_constants(lsh, 2, 1, 5)
    ours, theirs = (side.build_tables(W, constants, lsh, 2, 1, 0) for side in (fast, ref))
    check_buckets(Report(), ours, theirs)
