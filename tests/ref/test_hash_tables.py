"""S6, S7 and S22: insertion order and bounded buckets."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.rng import Purpose, mix, permutation
from slide_ref.hash_tables import HashTables, build_tables, tables_from_addresses
from slide_ref.hashing import addresses_of, hash_constants


def lists(buckets):
    return [bucket.tolist() for bucket in buckets]


def test_s7_full_bucket_evicts_oldest():
    tables = HashTables(L=1, bucket_size=2)
    for neuron in (4, 7, 1):
        tables.insert(neuron, np.array([3]))
    assert lists(tables.query(np.array([3]))) == [[7, 1]]


def test_s7_members_stand_in_the_order_of_insertion():
    tables = HashTables(L=1, bucket_size=5)
    for neuron in (9, 2, 5):
        tables.insert(neuron, np.array([0]))
    assert lists(tables.query(np.array([0]))) == [[9, 2, 5]]


def test_s7_every_table_has_buckets_of_its_own():
    tables = HashTables(L=2, bucket_size=1)
    tables.insert(1, np.array([0, 5]))
    tables.insert(2, np.array([0, 6]))
    assert lists(tables.query(np.array([0, 5]))) == [[2], [1]]
    assert lists(tables.query(np.array([5, 6]))) == [[], [2]]
    assert tables.query(np.array([5, 6]))[0].dtype == np.int64


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2, 3])))
def test_s22_overflowing_bucket_drops_its_member_of_largest_priority(order):
    priorities = np.array([[30, 10, 40, 20]], dtype=np.uint64)
    tables = HashTables(L=1, bucket_size=2)
    for neuron in order:
        tables.insert_by_priority(neuron, np.array([3]), priorities)
    assert lists(tables.query(np.array([3]))) == [[1, 3]]


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_s22_equal_priorities_go_to_the_lower_id(order):
    tables = HashTables(L=1, bucket_size=2)
    for neuron in order:
        tables.insert_by_priority(neuron, np.array([3]), np.array([[2**64 - 1, 7, 2**64 - 1]], dtype=np.uint64))
    assert lists(tables.query(np.array([3]))) == [[1, 0]]


def test_s22_priorities_are_keyed_by_layer_rebuild_table_and_neuron():
    lsh = LshConfig(K=3, L=2, bucket_size=4, policy="reservoir")
    kept = lists(tables_from_addresses(np.zeros((2, 50), dtype=int), lsh, 8, 1, 3).query(np.array([0, 0])))
    for table in (0, 1):
        keys = [int(mix(8, Purpose.RESERVOIR, 1, 3, table, neuron)) for neuron in range(50)]
        assert kept[table] == sorted(range(50), key=lambda neuron: keys[neuron])[:4]
    assert kept[0] != kept[1]


def check_uniform(counts, n_cells):
    """Pearson's statistic against the tail of its distribution (Laurent and Massart 2000, lemma 1), once in 10^9."""
    n_trials, free, x = sum(counts.values()), n_cells - 1, math.log(1e9)
    expected = n_trials / n_cells
    assert expected > 100
    statistic = sum((counts.get(cell, 0) - expected) ** 2 / expected for cell in counts)
    statistic += (n_cells - len(counts)) * expected
    assert statistic < free + 2 * math.sqrt(free * x) + 2 * x


def test_s22_every_subset_of_a_reservoir_has_the_same_chance():
    """Six neurons at one address, three places; one trial for each table of each rebuild."""
    lsh = LshConfig(K=3, L=25, bucket_size=3, policy="reservoir")
    counts = {}
    for rebuild in range(200):
        for bucket in tables_from_addresses(np.zeros((25, 6), dtype=int), lsh, 5, 1, rebuild).query(np.zeros(25)):
            kept = frozenset(bucket.tolist())
            counts[kept] = counts.get(kept, 0) + 1
    assert all(len(kept) == 3 for kept in counts)
    check_uniform(counts, math.comb(6, 3))


def test_s22_two_tables_and_two_rebuilds_keep_neurons_independently():
    """Three neurons at one address, one place: all pairs of survivors are equally frequent."""
    lsh = LshConfig(K=3, L=2, bucket_size=1, policy="reservoir")
    between_tables, between_rebuilds, before = {}, {}, None
    for rebuild in range(2000):
        buckets = tables_from_addresses(np.zeros((2, 3), dtype=int), lsh, 5, 1, rebuild).query(np.zeros(2))
        first, second = (int(bucket[0]) for bucket in buckets)
        between_tables[first, second] = between_tables.get((first, second), 0) + 1
        if before is not None:
            between_rebuilds[before, first] = between_rebuilds.get((before, first), 0) + 1
        before = first
    check_uniform(between_tables, 9)
    check_uniform(between_rebuilds, 9)


def test_no_tables_hold_nothing():
    assert HashTables(L=0, bucket_size=1).query(np.zeros(0, dtype=np.int64)) == []
    assert HashTables(L=0, bucket_size=1).occupancy() == {"entries": 0, "neurons": 0, "buckets": 0, "fullest": 0}


def test_occupancy_counts_what_is_held():
    tables = HashTables(L=2, bucket_size=2)
    for neuron, addresses in enumerate([(0, 0), (0, 1), (0, 2)]):
        tables.insert(neuron, np.array(addresses))
    assert tables.occupancy() == {"entries": 5, "neurons": 5, "buckets": 4, "fullest": 2}


def test_s6_neurons_are_inserted_in_a_keyed_order_that_all_tables_share():
    lsh = LshConfig(K=3, L=2, bucket_size=100)
    W = np.zeros((50, 4), dtype=np.float32)  # all in bucket 0
    tables = build_tables(W, hash_constants(lsh, 8, 1, 4), lsh, seed=8, layer=1, rebuild=3)
    order = permutation(8, Purpose.INSERTION, 1, 3, n=50).tolist()
    assert lists(tables.query(np.array([0, 0]))) == [order, order]


def test_s6_another_rebuild_keeps_other_neurons():
    lsh = LshConfig(K=3, L=1, bucket_size=5)
    constants = hash_constants(lsh, 8, 1, 4)
    kept = [
        build_tables(np.zeros((50, 4)), constants, lsh, 8, 1, rebuild).query(np.array([0]))[0].tolist()
        for rebuild in range(4)
    ]
    for rebuild, bucket in enumerate(kept):
        assert bucket == permutation(8, Purpose.INSERTION, 1, rebuild, n=50)[-5:].tolist()
    assert len({tuple(bucket) for bucket in kept}) == 4


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.integers(1, 4))
def test_s6_large_buckets_hold_every_neuron_at_its_address(seed, n, K, L):
    lsh = LshConfig(K=K, L=L, bucket_size=40)
    W = np.random.default_rng(seed).standard_normal((n, 5))
    constants = hash_constants(lsh, seed, 1, 5)
    tables = build_tables(W, constants, lsh, seed, 1, 0)
    for neuron, addresses in enumerate(addresses_of(W, constants, lsh, seed, 1)):
        assert all(neuron in bucket for bucket in tables.query(addresses))
    assert tables.occupancy()["entries"] == n * L
