"""S29: training that runs away stops at the same step on both sides, and names it."""

import os

import numpy as np
import pytest
from problems import random_dataset

import slide_fast.training as fast
import slide_ref.training as ref
from slide_ref.common.config import Config
from slide_ref.common.divergence import check_loss, check_weights
from slide_ref.common.errors import DivergedError
from slide_ref.common.sparse_rows import Dataset, SparseRows


def settings(**changes):
    usual = {"hidden": (8,), "epochs": 3, "micro_batch": 8, "rebuild_gap": 4, "in_batch": 0.0}
    return Config(**usual | changes).replace(lsh={"family": "simhash", "K": 3, "L": 2, "min_active": 10})


def step_of(run, *arguments, **options):
    with pytest.raises(DivergedError) as caught:
        run(*arguments, **options)
    assert str(caught.value).startswith(f"training diverged: at step {caught.value.step} ")
    return caught.value.step


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("rate", [1e5, 1e12, 1e20, 3e38])
def test_s29_a_learning_rate_far_too_high_stops_both_sides_at_the_same_step(optimizer, rate):
    config, train = settings(optimizer=optimizer, learning_rate=rate), random_dataset(0, min_features=1)
    assert step_of(fast.fit, config, train, n_workers=1) == step_of(ref.fit, config, train) > 1


@pytest.mark.parametrize("scale", [1e9, 1e20, 3e38])
def test_s29_features_whose_products_overflow_stop_both_sides_at_the_first_step(scale):
    features, labels = random_dataset(1, min_features=1)
    values = np.sign(features.data) * np.float32(scale)
    train = Dataset(SparseRows(features.indptr, features.indices, values, features.n_columns), labels)
    assert step_of(fast.fit, settings(), train, n_workers=1) == step_of(ref.fit, settings(), train) == 1


@pytest.mark.parametrize("place", [0, 17, 39])
def test_s29_an_error_in_a_worker_names_the_step_and_ends_all_workers(place):
    """One sample overflows: no other step can diverge, whatever the workers do at the same time."""
    pids, config = [], settings(epochs=1)
    features, labels = random_dataset(0, min_features=1)
    order = ref.sample_order(config.seed, 0, features.n_rows)
    sample = next(i for i in order[place:].tolist() + order[:place].tolist() if len(labels.row(i)[0]))
    own = slice(features.indptr[sample], features.indptr[sample + 1])
    features.data[own] = np.sign(features.data[own]) * np.float32(3e38)
    train = Dataset(features, labels)

    def callback(event):
        if event["kind"] == "start":
            pids.extend(event["pids"]())

    wanted = order.tolist().index(sample) // config.micro_batch + 1
    assert step_of(fast.fit, config, train, n_workers=2, callback=callback) == step_of(ref.fit, config, train) == wanted
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.nan, 10_001.0])
def test_s29_losses_that_are_refused(loss):
    with pytest.raises(DivergedError) as caught:
        check_loss(7, float(loss))
    wanted = f"training diverged: at step 7 the mean loss was {loss:.4g}; use a smaller learning rate, or "
    assert str(caught.value).startswith(wanted) and caught.value.step == 7


@pytest.mark.parametrize("loss", [0.0, 14.2, 10_000.0, -1e-7])
def test_s29_losses_that_are_not(loss):
    check_loss(7, loss)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_s29_weights_that_are_not_finite_are_no_model(value):
    W = np.zeros((50, 3), np.float32)
    check_weights(5, {"W0": W, "b0": np.zeros(0, np.float32)})
    W[17, 2] = value
    with pytest.raises(DivergedError, match="at step 5 W0 contained weights that are not finite"):
        check_weights(5, {"W0": W})


def test_s29_a_step_that_diverges_changes_nothing():
    train = random_dataset(1, min_features=1)
    network = ref.new_network(settings(), train.features.n_columns, train.labels.n_columns)
    ref.rebuild(network, 0)
    for layer in network.layers:
        layer.W *= 1e30
    before = [array.copy() for layer in network.layers for array in vars(layer).values() if array is not None]
    batch = ref.micro_batch(settings(), train, np.arange(train.n_samples), 0, 1)
    assert step_of(ref.train_step, network, batch) == 1
    after = [array for layer in network.layers for array in vars(layer).values() if array is not None]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))
