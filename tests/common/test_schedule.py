"""S13, S14, S27, S32 and S33: the order of samples, the numbers of steps, the rebuilds, learning rates."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.config import Config
from slide_ref.common.rng import Purpose, mix
from slide_ref.common.schedule import (
    fresh_steps,
    in_batch_steps,
    joined_after,
    largest_rate,
    learning_rate,
    learns_by_heart,
    n_epochs,
    rebuild_steps,
    repeated_steps,
    sample_order,
    scaled_to_inputs,
    steps_per_epoch,
    total_steps,
    workers_at,
)


def rebuilds(gap, growth, in_batch=0, total=10**6):
    """The steps of rebuilds of a run of `total` steps, `in_batch` of them in-batch steps."""
    config = Config(rebuild_gap=gap, rebuild_growth=growth, in_batch=in_batch / total)
    assert in_batch_steps(config, total) == in_batch
    return list(itertools.islice(rebuild_steps(config, total), 300))


def first(n, gap, growth):
    return rebuilds(gap, growth)[:n]


def test_s13_samples_are_visited_in_the_order_of_their_keys():
    order = sample_order(4, 2, 50)
    assert sorted(order.tolist()) == list(range(50))
    keys = mix(4, Purpose.SAMPLE_ORDER, 2, order)
    assert (keys[1:] > keys[:-1]).all()


def test_s13_every_epoch_has_an_order_of_its_own():
    orders = {tuple(sample_order(4, epoch, 50).tolist()) for epoch in range(5)}
    assert len(orders) == 5 and not np.array_equal(sample_order(4, 0, 50), sample_order(5, 0, 50))


def test_s13_few_samples_are_visited_more_often():
    n_samples = (1, 15_000, 16_666, 16_667, 20_000, 29_999, 30_000, 10**6)
    assert [n_epochs(Config(), n) for n in n_samples] == [10, 10, 10, 9, 8, 6, 5, 5]
    assert {n_epochs(Config(epochs=3), n) for n in n_samples} == {3}
    assert total_steps(Config(micro_batch=100), 20_001) == 8 * 201


@pytest.mark.parametrize(("n", "micro_batch", "steps"), [(1, 1, 1), (10, 5, 2), (11, 5, 3), (4, 5, 1), (5, 1, 5)])
def test_s13_the_short_last_micro_batch_is_kept(n, micro_batch, steps):
    assert steps_per_epoch(n, micro_batch) == steps


def test_s14_without_growth_the_gaps_are_equal():
    assert first(4, 50, 0.0) == [50, 100, 150, 200]


def test_s14_growing_gaps_worked_by_hand():
    # 50, 50 + 55.26, ... + 61.07, ... + 67.49
    assert first(4, 50, 0.1) == [50, 105, 166, 233]
    assert first(3, 1, math.log(2)) == [1, 3, 7]


@pytest.mark.parametrize(
    ("in_batch", "steps"),
    [
        (0, [50, 100, 150, 200]),
        (1, [1, 100, 150, 200]),
        (50, [50, 100, 150, 200]),
        (51, [50, 51, 150, 200]),
        (99, [50, 99, 150, 200]),
        (100, [50, 100, 150, 200]),
        (120, [50, 100, 120, 200]),
        (255, [50, 100, 150, 200, 255]),
        (256, [50, 100, 150, 200]),
    ],
)
def test_s14_a_rebuild_after_the_in_batch_steps_takes_the_place_of_one_soon_after(in_batch, steps):
    assert rebuilds(50, 0.0, in_batch, total=256) == steps


@pytest.mark.parametrize(
    ("total", "steps"),
    [(149, [50]), (150, [50, 100]), (100, [50]), (99, []), (50, []), (1, [])],
)
def test_s14_no_rebuild_comes_shortly_before_the_end(total, steps):
    assert rebuilds(50, 0.0, total=total) == steps


def test_s14_what_is_short_does_not_grow():
    # after 50 and 50 + 200 steps
    growth = math.log(4)
    assert rebuilds(50, growth, total=300) == [50, 250] and rebuilds(50, growth, total=299) == [50]
    assert rebuilds(50, growth, in_batch=200, total=512) == [50, 200, 250]
    assert rebuilds(50, growth, in_batch=201, total=512) == [50, 201]


def test_s32_a_share_of_the_steps_asks_no_tables():
    shares = (0.0, 0.5, 0.99, 1.0)
    assert [in_batch_steps(Config(in_batch=share), 11) for share in shares] == [0, 5, 10, 11]
    assert [in_batch_steps(Config(in_batch=share, scope="sample"), 11) for share in shares] == [0, 0, 0, 0]


def rates(total, **settings):
    config = Config(learning_rate=1.0, **settings)
    return [learning_rate(config, step, total) for step in range(1, total + 1)]


def test_s27_the_default_rate_falls_with_the_number_of_steps():
    steps = (1, 2000, 2500, 3000, 4000, 10**7)
    assert [largest_rate(Config(), total) for total in steps] == pytest.approx([1e-2, 1e-2, 8.5e-3, 7e-3, 4e-3, 4e-3])
    assert [largest_rate(Config(learning_rate=0.3), total) for total in (1, 10**7)] == [0.3, 0.3]


def test_s27_the_default_rate_falls_with_the_widest_hidden_layer():
    shapes = ((1,), (128,), (8, 128), (1024,), (1024, 16), (16, 1024), (8192,))
    assert [largest_rate(Config(hidden=hidden), 1) for hidden in shapes] == [1e-2, 1e-2, 1e-2, 5e-3, 5e-3, 5e-3, 2.5e-3]
    assert largest_rate(Config(hidden=(511,)), 3000) == pytest.approx(7e-3 * (128 / 511) ** (1 / 3))


def test_s27_the_default_rate_of_a_wide_network_falls_with_the_fourth_root_of_its_steps():
    rates = [largest_rate(Config(hidden=(1024,)), total) for total in (1, 300, 4800, 30_000_000)]
    assert rates == pytest.approx([5e-3, 5e-3, 2.5e-3, 5e-3 / 10**1.25])
    assert largest_rate(Config(hidden=(8, 512)), 4800) == pytest.approx(0.005 * 0.25 ** (1 / 3))
    assert largest_rate(Config(hidden=(1024,), learning_rate=0.3), 1) == 0.3


def test_s27_without_decay_the_rate_stays():
    assert rates(3, decay="constant") == [1.0, 1.0, 1.0]


def test_s27_the_rate_rises_linearly_to_its_largest_value():
    assert rates(6, decay="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_s27_linear_decay_would_reach_0_after_the_last_step():
    assert rates(4, decay="linear") == [1.0, 0.75, 0.5, 0.25]
    assert rates(6, decay="linear", warmup_steps=2) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_s27_cosine_decay_worked_by_hand():
    assert rates(4, decay="cosine") == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])


def test_s27_warm_up_may_fill_the_run():
    assert rates(3, decay="cosine", warmup_steps=6) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_s27_beyond_its_end_a_run_has_rate_0(decay):
    config = Config(decay=decay, warmup_steps=2)
    assert [learning_rate(config, step, 5) for step in (6, 7, 100)] == [0.0] * 3


def test_s33_workers_join_as_steps_are_done():
    steps = 0, 99, 100, 199, 200, 1399, 1400, 10**9
    assert [workers_at(step, 16) for step in steps] == [2, 2, 3, 3, 4, 15, 16, 16]
    assert [workers_at(step, n) for n in (1, 2) for step in (0, 1000)] == [1, 1, 2, 2]


@given(st.integers(1, 100))
def test_s33_all_train_from_there_on(n_workers):
    step = joined_after(n_workers)
    assert workers_at(step, n_workers) == n_workers
    assert step == 0 or workers_at(step - 1, n_workers) < n_workers


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_s13_micro_batches_hold_all_samples(n_samples, micro_batch):
    n_steps = steps_per_epoch(n_samples, micro_batch)
    assert (n_steps - 1) * micro_batch < n_samples <= n_steps * micro_batch


@given(st.integers(1, 1000), st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(0, 3)), st.integers(0, 2**12))
def test_s14_rebuilds_come_in_order_and_within_the_run(gap, growth, in_batch):
    total = 2**12
    steps, usual = rebuilds(gap, growth, in_batch, total), first(300, gap, growth)
    assert all(a < b for a, b in itertools.pairwise(steps)) and all(0 < step < total for step in steps)
    assert set(steps) - set(usual) <= {in_batch}
    assert in_batch in steps or in_batch in (0, total) or len(steps) == 300


@pytest.mark.parametrize(
    ("in_batch", "epochs", "fresh", "repeated"),
    [
        (0.6, 5, range(3, 6), range(6, 11)),
        (0.3, 5, range(3, 6), range(6, 8)),
        (0.1, 5, range(3, 3), range(6, 3)),
        (0.0, 5, range(3, 1), range(6, 1)),
        (1.0, 1, range(3, 6), range(6, 6)),
    ],
)
def test_s37_fresh_and_repeated_steps_are_in_batch_steps(in_batch, epochs, fresh, repeated):
    config = Config(micro_batch=2, epochs=epochs, in_batch=in_batch)  # five steps an epoch
    assert list(fresh_steps(config, 9)) == list(fresh) and list(repeated_steps(config, 9)) == list(repeated)


def test_s37_by_heart_means_a_loss_that_falls_by_more_than_the_limit():
    config = Config(overfit_limit=0.25)
    assert [learns_by_heart(config, 4.0, again) for again in (2.9, 3.0, 5.0, math.nan)] == [True, False, False, False]
    assert not learns_by_heart(config, math.nan, 1.0) and not learns_by_heart(Config(overfit_limit=1.0), 4.0, 0.1)


@pytest.mark.parametrize(("gap", "growth"), [(2, 700.0), (1, 1e9), (10**6, 699.0), (100, 709.0), (2, 50.0)])
def test_s14_rebuilds_may_grow_apart_without_end(gap, growth):
    assert rebuilds(gap, growth, total=2**40) == [gap]


def test_s14_the_schedule_of_the_longest_run_ends():
    config = Config(rebuild_gap=2**60, rebuild_growth=1.0, in_batch=0.5)
    steps = list(rebuild_steps(config, 2**63))
    assert steps[0] == 2**60 and steps == sorted(set(steps)) and len(steps) == 3


@pytest.mark.parametrize(("scale", "rate"), [(1e-300, 0.0), (1e-4, 0.5e-8), (1e300, math.inf)])
def test_s39_the_scale_squared_of_sgd_may_leave_what_a_number_holds(scale, rate):
    config = Config(optimizer="sgd", input_scale=scale)
    found, decay, _ = scaled_to_inputs(0.5, config)
    assert found == pytest.approx(rate) and decay == 0
