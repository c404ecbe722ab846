"""S8, S9, S23 and S24: sampling strategies and active sets."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.lsh_config import STRATEGIES, LshConfig
from slide_ref.common.rng import Key, Purpose, draw, mix, permutation
from slide_ref.sampling import active_sets, hard_threshold, hardest, pad, retrieve, top_k, vanilla

KEY = {"key": Key(6, 1, 2), "sample": 9}
BUCKETS = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=12), max_size=5)


def arrays(lists):
    return [np.array(ids, dtype=np.int64) for ids in lists]


def test_s8_without_budget_the_union_is_found_in_keyed_table_order():
    buckets = arrays([[1, 2], [3, 1], [4]])
    in_order = [buckets[table] for table in permutation(6, Purpose.TABLE_ORDER, 1, 2, 9, n=3)]
    expected = list(dict.fromkeys(np.concatenate(in_order).tolist()))
    assert vanilla(buckets, 0, **KEY).tolist() == expected


def test_s8_bucket_that_would_pass_the_budget_is_read_cyclically_from_a_keyed_start():
    bucket = [10, 11, 12, 13, 14]
    assert draw(mix(6, Purpose.BUCKET_START, 1, 2, 13, 0), 5) == 3
    assert vanilla(arrays([bucket]), 4, **KEY | {"sample": 13}).tolist() == [13, 14, 10, 11]


def test_s8_bucket_that_meets_the_budget_exactly_is_read_from_its_beginning():
    assert vanilla(arrays([[10, 11, 12, 13, 14]]), 5, **KEY).tolist() == [10, 11, 12, 13, 14]


def test_s8_neurons_held_already_do_not_count_against_the_budget():
    assert sorted(vanilla(arrays([[1, 2, 3], [3, 2, 1, 4]]), 4, **KEY)) == [1, 2, 3, 4]


def test_s8_no_tables_find_nothing():
    found = vanilla([], 5, **KEY)
    assert found.dtype == np.int64 and found.tolist() == []


@given(BUCKETS, st.integers(1, 20), st.integers(0, 1000), st.integers(0, 1000))
def test_s8_budget_is_met_exactly_or_everything_is_found(buckets, budget, epoch, sample):
    found = vanilla(arrays(buckets), budget, Key(0, 1, epoch), sample).tolist()
    union = {neuron for bucket in buckets for neuron in bucket}
    assert len(set(found)) == len(found) == min(budget, len(union)) and set(found) <= union


def test_s8_every_neuron_of_a_large_bucket_has_the_same_chance():
    n, trials = 10, 4000
    bucket = [np.arange(n)]
    counts = np.zeros(n)
    for sample in range(trials):
        counts[vanilla(bucket, 3, Key(0, 1), sample)] += 1
    bound = math.sqrt(math.log(2 * n / 1e-9) / (2 * trials))  # Hoeffding, all neurons at once
    assert np.abs(counts / trials - 3 / n).max() < bound


OVERLAPPING = arrays([[7, 2, 9], [9, 4, 2], [4, 9], [1]])  # 9 in three, 2 and 4 in two, 1 and 7 in one


def test_s23_neurons_in_most_buckets_come_first_and_ties_go_to_the_lower_id():
    assert [top_k(OVERLAPPING, budget).tolist() for budget in (1, 2, 3, 4)] == [[9], [9, 2], [9, 2, 4], [9, 2, 4, 1]]


def test_s23_without_budget_or_with_a_large_one_all_are_found():
    assert top_k(OVERLAPPING, 0).tolist() == top_k(OVERLAPPING, 99).tolist() == [9, 2, 4, 1, 7]


def test_s24_neurons_in_enough_buckets_are_found():
    found = [hard_threshold(OVERLAPPING, least).tolist() for least in (1, 2, 3, 4)]
    assert found == [[1, 2, 4, 7, 9], [2, 4, 9], [9], []]


def test_s23_s24_no_tables_and_empty_buckets_find_nothing():
    for buckets in ([], arrays([[], []])):
        for found in (top_k(buckets, 5), top_k(buckets, 0), hard_threshold(buckets, 1)):
            assert found.dtype == np.int64 and found.tolist() == []


@given(BUCKETS, st.integers(1, 20), st.integers(1, 6))
def test_s23_s24_follow_their_definitions(buckets, budget, least):
    count = {neuron: sum(neuron in bucket for bucket in buckets) for bucket in buckets for neuron in bucket}
    best = top_k(arrays(buckets), budget).tolist()
    assert len(set(best)) == len(best) == min(budget, len(count)) and set(best) <= set(count)
    worse = set(count) - set(best)
    assert all((-count[kept], kept) < (-count[other], other) for kept in best for other in worse)
    assert hard_threshold(arrays(buckets), least).tolist() == sorted(i for i in count if count[i] >= least)


def test_s8_s23_s24_strategy_and_its_number_come_from_the_settings():
    settings = {"L": 4, "budget": 2, "threshold": 3}
    found = {
        strategy: retrieve(OVERLAPPING, LshConfig(**settings, strategy=strategy), **KEY).tolist()
        for strategy in STRATEGIES
        if strategy != "hardest"
    }
    assert found == {"vanilla": vanilla(OVERLAPPING, 2, **KEY).tolist(), "topk": [9, 2], "threshold": [9]}
    nearest = LshConfig(family="centroid", L=4, budget=2, strategy="hardest")
    assert retrieve(OVERLAPPING, nearest, **KEY).tolist() == [7, 9]


def test_s36_the_first_of_each_bucket_come_before_the_second_of_any():
    found = [hardest(OVERLAPPING, budget).tolist() for budget in (1, 2, 3, 4, 5, 9, 0)]
    assert found == [[7], [7, 9], [7, 9, 4], [7, 9, 4, 1], [7, 9, 4, 1, 2], [7, 9, 4, 1, 2], [7, 9, 4, 1, 2]]


def test_s36_no_bucket_and_empty_buckets_find_nothing():
    for buckets in ([], arrays([[], []])):
        found = hardest(buckets, 3)
        assert found.dtype == np.int64 and found.tolist() == []


def test_s9_padding_takes_draws_in_their_order_and_skips_neurons_held():
    draws = draw(mix(5, Purpose.PAD_BATCH, 1, 7, np.arange(20)), 10).tolist()
    new = [neuron for neuron in dict.fromkeys(draws) if neuron not in (2, 8)]
    padded = pad(np.array([8, 2]), 5, 10, 5, Purpose.PAD_BATCH, 1, 7)
    assert padded.dtype == np.int64 and padded.tolist() == sorted([2, 8, *new[:3]])


def test_s9_a_set_that_is_large_enough_is_not_padded():
    assert pad(np.array([4, 1, 3]), 3, 10, 0, Purpose.PAD_BATCH, 1, 1).tolist() == [1, 3, 4]
    assert pad(np.array([4, 1, 3]), 0, 10, 0, Purpose.PAD_BATCH, 1, 1).tolist() == [1, 3, 4]


def test_s9_all_neurons_are_enough():
    assert pad(np.array([2]), 4, 4, 0, Purpose.PAD_BATCH, 1, 1).tolist() == [0, 1, 2, 3]
    assert pad(np.array([], dtype=np.int64), 99, 4, 0, Purpose.PAD_BATCH, 1, 1).tolist() == [0, 1, 2, 3]


@given(st.sets(st.integers(0, 199)), st.integers(0, 300), st.integers(0, 2**63 - 1))
def test_s9_padded_sets_are_ascending_and_hold_what_they_held(held, size, seed):
    padded = pad(np.array(sorted(held), dtype=np.int64), size, 200, seed, Purpose.PAD_SAMPLE, 1, 0, 3).tolist()
    assert padded == sorted(set(padded)) and held <= set(padded)
    assert len(padded) == max(len(held), min(size, 200)) and padded[-1:] < [200]


def choose(scope, **lsh):
    return active_sets(
        arrays([[3, 1], []]), arrays([[1, 9], [0]]), LshConfig(**lsh), scope, 10, Key(5, 1, 0, 6), np.array([40, 7])
    )


def test_s9_labels_come_on_top_and_samples_keep_their_own_sets_in_scope_sample():
    assert [ids.tolist() for ids in choose("sample", min_active=0)] == [[1, 3, 9], [0]]


def test_s9_samples_share_the_union_in_scope_batch():
    assert [ids.tolist() for ids in choose("batch", min_active=0)] == [[0, 1, 3, 9]] * 2


def test_s9_padding_has_a_key_for_each_sample_in_scope_sample():
    expected = [pad(np.array(ids), 6, 10, 5, Purpose.PAD_SAMPLE, 1, 0, i) for ids, i in (([1, 3, 9], 40), ([0], 7))]
    assert [ids.tolist() for ids in choose("sample", min_active=6)] == [ids.tolist() for ids in expected]


def test_s9_union_is_padded_once_with_the_key_of_the_step_in_scope_batch():
    expected = pad(np.array([0, 1, 3, 9]), 6, 10, 5, Purpose.PAD_BATCH, 1, 6).tolist()
    assert [ids.tolist() for ids in choose("batch", min_active=6)] == [expected] * 2
