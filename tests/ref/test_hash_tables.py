"""S6 and S7: insertion order and bounded buckets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.config import LshConfig
from slide_ref.common.rng import Purpose, permutation
from slide_ref.hash_tables import HashTables, build_tables
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


def test_no_tables_hold_nothing():
    assert HashTables(L=0, bucket_size=1).query(np.zeros(0, dtype=np.int64)) == []
    assert HashTables(L=0, bucket_size=1).occupancy() == {"entries": 0, "buckets": 0, "fullest": 0}


def test_occupancy_counts_what_is_held():
    tables = HashTables(L=2, bucket_size=2)
    for neuron, addresses in enumerate([(0, 0), (0, 1), (0, 2)]):
        tables.insert(neuron, np.array(addresses))
    assert tables.occupancy() == {"entries": 5, "buckets": 4, "fullest": 2}


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
