"""S13 and S14: the order of samples, the numbers of steps, the rebuilds."""

import itertools
import math

import numpy as np
import pytest

from slide_ref.common.rng import Purpose, mix
from slide_ref.schedule import rebuild_steps, sample_order, steps_per_epoch


def first(n, gap, growth):
    return list(itertools.islice(rebuild_steps(gap, growth), n))


def test_s13_samples_are_visited_in_the_order_of_their_keys():
    order = sample_order(4, 2, 50)
    assert sorted(order.tolist()) == list(range(50))
    keys = mix(4, Purpose.SAMPLE_ORDER, 2, order)
    assert (keys[1:] > keys[:-1]).all()


def test_s13_every_epoch_has_an_order_of_its_own():
    orders = {tuple(sample_order(4, epoch, 50).tolist()) for epoch in range(5)}
    assert len(orders) == 5 and not np.array_equal(sample_order(4, 0, 50), sample_order(5, 0, 50))


@pytest.mark.parametrize(("n", "micro_batch", "steps"), [(1, 1, 1), (10, 5, 2), (11, 5, 3), (4, 5, 1), (5, 1, 5)])
def test_s13_the_short_last_micro_batch_is_kept(n, micro_batch, steps):
    assert steps_per_epoch(n, micro_batch) == steps


def test_s14_without_growth_the_gaps_are_equal():
    assert first(4, 50, 0.0) == [50, 100, 150, 200]


def test_s14_growing_gaps_worked_by_hand():
    # 50, 50 + 55.26, ... + 61.07, ... + 67.49
    assert first(4, 50, 0.1) == [50, 105, 166, 233]
    assert first(3, 1, math.log(2)) == [1, 3, 7]


def test_s14_rebuilds_never_come_twice_after_the_same_step_and_do_not_overflow():
    steps = list(rebuild_steps(1, 2.0))
    assert all(a < b for a, b in itertools.pairwise(steps)) and steps[-1] > 1e300
