"""S13, S14, S27 and S32: both sides agree on what comes when; S33: when workers join."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import SEEDS

import slide_fast.schedule as fast
import slide_ref.schedule as ref
from slide_ref.common.config import SCOPES, Config


@given(SEEDS, st.integers(0, 5), st.integers(0, 300))
def test_s13_sample_orders_are_equal(seed, epoch, n_samples):
    ours, theirs = (side.sample_order(seed, epoch, n_samples) for side in (fast, ref))
    assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_s13_numbers_of_steps_are_equal(n_samples, micro_batch):
    assert fast.steps_per_epoch(n_samples, micro_batch) == ref.steps_per_epoch(n_samples, micro_batch)


@given(st.one_of(st.integers(14_000, 31_000), st.integers(1, 10**9)), st.integers(0, 7), st.integers(1, 1000))
def test_s13_numbers_of_epochs_are_equal(n_samples, epochs, micro_batch):
    config = Config(epochs=epochs, micro_batch=micro_batch)
    assert fast.n_epochs(config, n_samples) == ref.n_epochs(config, n_samples)
    assert fast.total_steps(config, n_samples) == ref.total_steps(config, n_samples)


@pytest.mark.parametrize("n_samples", range(1, 9))
def test_s13_numbers_of_steps_are_equal_around_multiples(n_samples):
    assert fast.steps_per_epoch(n_samples, 4) == ref.steps_per_epoch(n_samples, 4)


@given(
    decay=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.one_of(st.sampled_from([0, 1]), st.integers(0, 50)),
    step=st.integers(1, 60),
    total=st.one_of(st.sampled_from([0, 1, 2]), st.integers(0, 60)),
)
def test_s27_learning_rates_are_equal(decay, warmup, step, total):
    config = Config(learning_rate=0.3, decay=decay, warmup_steps=warmup)
    rate = fast.learning_rate(config, step, total)
    assert rate == ref.learning_rate(config, step, total) and 0 <= rate <= 0.3


def test_s33_workers_join_as_steps_are_done():
    steps = 0, 99, 100, 199, 200, 1399, 1400, 10**9
    assert [fast.workers_at(step, 16) for step in steps] == [2, 2, 3, 3, 4, 15, 16, 16]
    assert [fast.workers_at(step, n) for n in (1, 2) for step in (0, 1000)] == [1, 1, 2, 2]


@given(st.integers(1, 100))
def test_s33_all_train_from_there_on(n_workers):
    step = fast.joined_after(n_workers)
    assert fast.workers_at(step, n_workers) == n_workers
    assert step == 0 or fast.workers_at(step - 1, n_workers) < n_workers


WIDTHS = st.one_of(st.sampled_from([127, 128, 129]), st.integers(1, 4096))


@given(
    st.one_of(st.integers(1900, 5100), st.integers(1, 10**7)),
    st.sampled_from([0.0, 0.3]),
    st.lists(WIDTHS, min_size=1, max_size=3),
)
def test_s27_largest_rates_are_equal(total, learning_rate, hidden):
    config = Config(learning_rate=learning_rate, hidden=tuple(hidden))
    assert fast.largest_rate(config, total) == ref.largest_rate(config, total)
    assert fast.learning_rate(config, 1, total) == ref.learning_rate(config, 1, total)


@given(st.integers(1, 1000), st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(0, 3)), st.data())
def test_s14_rebuilds_come_after_the_same_steps(gap, growth, data):
    usual = list(itertools.islice(ref.rebuild_steps(gap, growth), 300))
    and_after = data.draw(st.one_of(st.sampled_from([0, *usual[:20]]), st.integers(0, 3 * gap)))
    ours, theirs = (list(itertools.islice(side.rebuild_steps(gap, growth, and_after), 300)) for side in (fast, ref))
    assert ours == theirs


@given(st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)), st.sampled_from(SCOPES), st.integers(0, 10**9))
def test_s32_numbers_of_steps_are_equal(in_batch, scope, total):
    config = Config(in_batch=in_batch, scope=scope)
    n_steps = fast.in_batch_steps(config, total)
    assert n_steps == ref.in_batch_steps(config, total) and isinstance(n_steps, int)
