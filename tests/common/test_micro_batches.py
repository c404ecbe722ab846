"""S10, S13 and S32: which samples a step trains on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import datasets, some_weights

from slide_ref.common.config import Config
from slide_ref.common.micro_batches import micro_batch, samples_of
from slide_ref.common.schedule import learning_rate, sample_order, steps_per_epoch, total_steps
from slide_ref.common.sparse_rows import Dataset, rows_from_lists


def tiny():
    features = rows_from_lists([[0], [1], [2], [0, 1], [2]], 3)
    return Dataset(features, rows_from_lists([[0], [], [1, 2], [2], [0]], 3))


def test_s13_a_step_has_its_place_in_the_order_of_the_epoch():
    order = np.array([4, 2, 0, 1, 3])
    found = [samples_of(Config(micro_batch=2), 5, order, step).tolist() for step in range(1, 5)]
    assert found == [[4, 2], [0, 1], [3], [4, 2]]  # the fourth begins the next epoch


def test_s10_rows_without_labels_or_weight_are_left_out():
    config, order = Config(micro_batch=3, epochs=1), np.arange(5)
    batch = micro_batch(config, tiny(), order, 0, 1)
    assert batch.samples.tolist() == [0, 2] and batch.n_unlabelled == 1 and batch.weights is None
    assert batch.data.labels.indices.tolist() == [0, 1, 2] and batch.data.features.indices.tolist() == [0, 2]
    weighted = micro_batch(config, tiny(), order, 0, 1, np.array([0.0, 1, 2, 3, 4]))
    assert weighted.samples.tolist() == [2] and weighted.weights.tolist() == [2] and weighted.n_unlabelled == 2


@pytest.mark.parametrize(("in_batch", "flags"), [(0.0, [False] * 4), (0.5, [True, True, False, False])])
def test_s32_the_first_steps_query_no_tables(in_batch, flags):
    config = Config(micro_batch=3, epochs=2, in_batch=in_batch)
    assert [micro_batch(config, tiny(), np.arange(5), 0, step).in_batch for step in range(1, 5)] == flags


def test_s27_the_rate_is_that_of_the_whole_run():
    config = Config(micro_batch=3, epochs=2)
    rates = [micro_batch(config, tiny(), np.arange(5), 0, step).rate for step in range(1, 5)]
    assert rates == [learning_rate(config, step, 4) for step in range(1, 5)]


@given(datasets(), st.integers(1, 7), st.integers(0, 3), st.booleans())
def test_s13_an_epoch_visits_every_labelled_sample_once(train, size, epoch, weighted):
    weights = some_weights(train.n_samples) if weighted else None
    config, order = Config(micro_batch=size, epochs=1), sample_order(0, epoch, train.n_samples)
    n = steps_per_epoch(train.n_samples, size)
    assert n == total_steps(config, train.n_samples)
    batches = [micro_batch(config, train, order, epoch, step, weights) for step in range(1, n + 1)]
    counts = np.diff(train.labels.indptr) > 0
    counts = counts if weights is None else counts & (weights > 0)
    assert sorted(np.concatenate([batch.samples for batch in batches]).tolist()) == np.flatnonzero(counts).tolist()
    assert sum(len(batch.samples) + batch.n_unlabelled for batch in batches) == train.n_samples
    for batch in batches:
        assert (np.diff(batch.data.labels.indptr) > 0).all()
        assert weights is None or batch.weights.tolist() == weights[batch.samples].tolist()
