"""S10, S13, S14 and S18: steps, rebuilds and whole runs of the reference."""

import numpy as np
import pytest

import slide_ref.training
from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.schedule import sample_order
from slide_ref.training import fit, micro_batch, new_network, rebuild, train_step

ARRAYS = ("W", "b", "W_m", "W_v", "b_m", "b_v")


def data(labels, n_features=6, n_labels=6):
    """One sample for each list of labels; its features are its labels, so that it can be learned."""
    lists = [own or [0] for own in labels]
    ids = rows_from_lists(lists, n_features)
    features = SparseRows(ids.indptr, ids.indices, np.ones(ids.nnz, dtype=np.float32), n_features)
    return Dataset(features, rows_from_lists(labels, n_labels))


def settings(**changes):
    lsh = {"K": 2, "L": 2, "min_active": 3} | changes.pop("lsh", {})
    return Config(hidden=(4,), micro_batch=2, epochs=2, learning_rate=0.05, rebuild_gap=3, seed=1).replace(
        **changes, lsh=lsh
    )


def state(network):
    return [getattr(layer, name).copy() for layer in network.layers for name in ARRAYS]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


TRAIN = data([[0], [1, 2], [], [3], [4, 5], [5], [0, 4]])


def test_s13_steps_take_their_place_in_the_order_of_the_epoch():
    config, order = settings(), sample_order(1, 0, 7)
    batches = [micro_batch(config, TRAIN, order, 0, step) for step in (1, 2, 3, 4)]
    labelled = [[i for i in order[2 * place : 2 * place + 2] if i != 2] for place in range(4)]
    assert [batch.samples.tolist() for batch in batches] == labelled
    assert sum(len(batch.samples) + batch.n_unlabelled for batch in batches) == 7
    assert sum(batch.n_unlabelled for batch in batches) == 1


def test_s13_step_numbers_go_on_in_the_next_epoch():
    config, order = settings(), sample_order(1, 1, 7)
    batch = micro_batch(config, TRAIN, order, 1, 5)
    assert (batch.epoch, batch.step) == (1, 5)
    assert batch.samples.tolist() == [i for i in order[:2] if i != 2]


def test_s13_data_of_a_step_are_the_rows_of_its_samples():
    config, order = settings(micro_batch=7), sample_order(1, 0, 7)
    batch = micro_batch(config, TRAIN, order, 0, 1)
    for i, sample in enumerate(batch.samples):
        assert batch.data.labels.row(i)[0].tolist() == TRAIN.labels.row(sample)[0].tolist()
        assert batch.data.features.row(i)[0].tolist() == TRAIN.features.row(sample)[0].tolist()


def test_s10_micro_batch_without_labelled_rows_changes_nothing():
    train, config = data([[], [], [1]]), settings()
    network = new_network(config, 6, 6)
    rebuild(network, 0)
    before = state(network)
    report = train_step(network, micro_batch(config, train, np.arange(3), 0, 1))
    assert report.n_labelled == 0 and np.isnan(report.loss) and same(state(network), before)
    train_step(network, micro_batch(config, train, np.arange(3), 0, 2))
    assert not same(state(network), before)


def test_s10_such_a_micro_batch_uses_up_its_step_number(monkeypatch):
    steps = []
    monkeypatch.setattr(slide_ref.training, "update", lambda layers, gradients, step, config: steps.append(step))
    fit(settings(micro_batch=1, epochs=1, seed=0), data([[0], [], [1], []]))
    order = sample_order(0, 0, 4).tolist()
    assert steps == [step for step, sample in enumerate(order, start=1) if sample in (0, 2)]


@pytest.mark.parametrize("growth", [0.0, 0.5])
def test_s14_rebuilds_come_before_step_one_and_after_their_steps(monkeypatch, growth):
    events = []
    monkeypatch.setattr(slide_ref.training, "rebuild", lambda network, number: events.append(f"rebuild {number}"))
    step = slide_ref.training.train_step
    monkeypatch.setattr(slide_ref.training, "choose_active", lambda n, l, inputs, b: [np.arange(6)] * len(inputs))
    monkeypatch.setattr(
        slide_ref.training, "train_step", lambda network, batch: events.append(batch.step) or step(network, batch)
    )
    fit(settings(rebuild_growth=growth), TRAIN)
    if growth:  # 3 and 3 + 4.9
        assert events == ["rebuild 0", 1, 2, 3, "rebuild 1", 4, 5, 6, 7, "rebuild 2", 8]
    else:
        assert events == ["rebuild 0", 1, 2, 3, "rebuild 1", 4, 5, 6, "rebuild 2", 7, 8]


def test_active_sets_can_be_given():
    config = settings()
    network = new_network(config, 6, 6)
    batch = micro_batch(config, data([[0], [1]]), np.arange(2), 0, 1)
    report = train_step(network, batch, [np.array([0, 5]), np.array([1, 2])])
    assert [ids.tolist() for ids in report.active] == [[0, 5], [1, 2]]
    assert report.gradients[-1].ids.tolist() == [0, 1, 2, 5]


def test_s9_enough_padding_makes_the_layer_dense_without_tables():
    config = settings(lsh={"min_active": 6})
    network = new_network(config, 6, 6)
    report = train_step(network, micro_batch(config, TRAIN, np.arange(7), 0, 1))
    assert [ids.tolist() for ids in report.active] == [list(range(6))] * 2


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("lsh", [{}, {"L": 0}, {"min_active": 6}, {"budget": 1, "bucket_size": 1}])
def test_training_learns(scope, lsh):
    _, losses = fit(settings(scope=scope, lsh=lsh, epochs=30), TRAIN)
    assert len(losses) == 30 and losses[-1] < losses[0] / 2


def test_s1_dtype_follows_the_parameters():
    networks = [fit(settings(), TRAIN, dtype)[0] for dtype in (np.float32, np.float64)]
    assert all(array.dtype == np.float32 for array in state(networks[0]))
    assert all(array.dtype == np.float64 for array in state(networks[1]))


def test_s18_a_run_is_reproducible_and_depends_on_the_seed():
    (first, losses), (second, again), (third, _) = (fit(settings(seed=seed), TRAIN) for seed in (7, 7, 8))
    assert same(state(first), state(second)) and losses == again and not same(state(first), state(third))
