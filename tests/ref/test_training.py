"""S10, S13, S14 and S18: steps, rebuilds and whole runs of the reference."""

import numpy as np
import pytest

import slide_ref.active_sets
import slide_ref.training
from slide_ref.common.config import Config
from slide_ref.common.schedule import sample_order
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.training import fit, micro_batch, new_network, rebuild, train_step

ARRAYS = ("W", "b", "W_m", "W_v", "b_m", "b_v")


def data(labels, n_features=6, n_labels=6):
    """One sample for each list of labels; its features are its labels, so that it can be learned."""
    lists = [own or [0] for own in labels]
    ids = rows_from_lists(lists, n_features)
    features = SparseRows(ids.indptr, ids.indices, np.ones(ids.nnz, dtype=np.float32), n_features)
    return Dataset(features, rows_from_lists(labels, n_labels))


def settings(**changes):
    lsh = {"family": "simhash", "K": 2, "L": 2, "min_active": 3} | changes.pop("lsh", {})
    base = Config(hidden=(4,), micro_batch=2, epochs=2, learning_rate=0.05, decay="constant", rebuild_gap=3, seed=1)
    return base.replace(**{"in_batch": 0.0} | changes, lsh=lsh)


def state(network):
    arrays = [getattr(layer, name) for layer in network.layers for name in ARRAYS]
    return [array.copy() for array in arrays if array is not None]


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
    monkeypatch.setattr(slide_ref.training, "update", lambda layers, gradients, step, rate, config: steps.append(step))
    fit(settings(micro_batch=1, epochs=1, seed=0), data([[0], [], [1], []]))
    order = sample_order(0, 0, 4).tolist()
    assert steps == [step for step, sample in enumerate(order, start=1) if sample in (0, 2)]


@pytest.mark.parametrize(("growth", "in_batch"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.375)])
def test_s14_rebuilds_come_before_step_one_and_after_their_steps(monkeypatch, growth, in_batch):
    events = []
    monkeypatch.setattr(slide_ref.training, "rebuild", lambda network, number, _: events.append(f"rebuild {number}"))
    step = slide_ref.training.train_step
    monkeypatch.setattr(
        slide_ref.training, "choose_active", lambda n, l, inputs, b: ([np.arange(6)] * len(inputs), None)
    )
    monkeypatch.setattr(
        slide_ref.training, "train_step", lambda network, batch: events.append(batch.step) or step(network, batch)
    )
    fit(settings(rebuild_gap=2, rebuild_growth=growth, in_batch=in_batch), TRAIN)
    if in_batch:  # 3 steps of 8
        assert events == ["rebuild 0", 1, 2, "rebuild 1", 3, "rebuild 2", 4, 5, 6, "rebuild 3", 7, 8]
    elif growth:  # 2 and 2 + 3.3
        assert events == ["rebuild 0", 1, 2, "rebuild 1", 3, 4, 5, "rebuild 2", 6, 7, 8]
    else:
        assert events == ["rebuild 0", 1, 2, "rebuild 1", 3, 4, "rebuild 2", 5, 6, "rebuild 3", 7, 8]


def test_active_sets_can_be_given():
    config = settings()
    network = new_network(config, 6, 6)
    batch = micro_batch(config, data([[0], [1]]), np.arange(2), 0, 1)
    report = train_step(network, batch, {1: [np.array([0, 5]), np.array([1, 2])]})
    assert [ids.tolist() for ids in report.active[1]] == [[0, 5], [1, 2]]
    assert report.gradients[-1].ids.tolist() == [0, 1, 2, 5]


def test_s9_enough_padding_makes_the_layer_dense_without_tables():
    config = settings(lsh={"min_active": 6})
    network = new_network(config, 6, 6)
    report = train_step(network, micro_batch(config, TRAIN, np.arange(7), 0, 1))
    assert [ids.tolist() for ids in report.active[1]] == [list(range(6))] * 2


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("lsh", [{}, {"L": 0}, {"min_active": 6}, {"budget": 1, "bucket_size": 1}])
def test_training_learns(scope, lsh):
    _, losses = fit(settings(scope=scope, lsh=lsh, epochs=30), TRAIN)
    assert len(losses) == 30 and losses[-1] < losses[0] / 2


def deep(**changes):
    """Two hidden layers, the second of 5 neurons with tables; they return what stands in the one bucket."""
    return settings(**{"hidden": (4, 5), "hidden_lsh": {1: {"K": 1, "L": 1}}, **changes})


def with_hidden_tables(config, side):
    """A network in which hidden neurons 1 and 3 share bucket 1, the others bucket 0; samples ask for bucket `side`."""
    network = new_network(config, 6, 6, np.float64)
    network.constants[1] = np.array([[1, 0, 0, 0]], dtype=np.int8)
    network.layers[0].W[...], network.layers[0].b[...] = 0, [side, 1, 2, 3]
    network.layers[1].W[:, 0], network.layers[1].b[:] = [-1, 1, -1, 1, -1], 10
    rebuild(network, 0)
    return network


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize(("side", "found"), [(1, [1, 3]), (0, [0, 2, 4])])
def test_s25_a_sampled_hidden_layer_activates_what_its_tables_return(scope, side, found):
    network = with_hidden_tables(deep(scope=scope), side)
    before = state(network)
    report = train_step(network, micro_batch(network.config, data([[0], [1]]), np.arange(2), 0, 1))
    assert [ids.tolist() for ids in report.active[1]] == [found, found]
    assert report.gradients[1].ids.tolist() == found
    hidden, output = report.gradients[1:]
    assert hidden.W.shape == (2 if side else 3, 4)
    assert output.W.shape == (len(output.ids), 5)
    assert np.flatnonzero(output.W.any(axis=0)).tolist() == found  # what is inactive sends nothing forward
    after = state(network)
    for array in (6, 7):  # W and b of layer 1
        moved = (after[array] != before[array]).reshape(5, -1).any(axis=1)
        assert np.flatnonzero(moved).tolist() == found


def test_s25_a_sampled_hidden_layer_is_padded_but_has_no_labels():
    network = with_hidden_tables(deep(hidden_lsh={1: {"K": 1, "L": 1, "min_active": 4}}), 1)
    report = train_step(network, micro_batch(network.config, data([[0], [2]]), np.arange(2), 0, 1))
    assert len(report.active[1][0]) == 4 and {1, 3} <= set(report.active[1][0].tolist())


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_s25_where_nothing_is_retrieved_the_next_layer_sees_zeros(scope):
    config = deep(scope=scope, hidden_lsh={1: {"L": 0}}, lsh={"min_active": 6})
    network = new_network(config, 6, 6)
    rebuild(network, 0)
    network.layers[2].b[:] = np.arange(6)
    report = train_step(network, micro_batch(config, data([[0], [1]]), np.arange(2), 0, 1))
    assert [ids.tolist() for ids in report.active[1]] == [[], []]
    assert report.gradients[1].ids.tolist() == [] and report.gradients[1].W.shape == (0, 4)
    assert not report.gradients[2].W.any() and report.gradients[2].b.any()
    assert report.loss == pytest.approx(np.log(np.exp(np.arange(6.0)).sum()) - 0.5)  # the logits are the biases


def test_s25_the_query_is_the_activation_with_zeros_at_inactive_neurons(monkeypatch):
    config = deep(hidden=(4, 5, 3), hidden_lsh={1: {"K": 1, "L": 1}, 2: {"K": 1, "L": 1}})
    network = with_hidden_tables(config, 1)
    asked, addresses_of = [], slide_ref.active_sets.addresses_of
    monkeypatch.setattr(
        slide_ref.active_sets, "addresses_of", lambda v, *args: asked.append(v[0].tolist()) or addresses_of(v, *args)
    )
    train_step(network, micro_batch(config, data([[0]]), np.arange(1), 0, 1))
    hidden = np.maximum(network.layers[0].b, 0)
    assert len(asked) == 3 and [i for i, value in enumerate(asked[1]) if value] == [1, 3]
    assert hidden.shape == (4,) and asked[0] == [1, 1, 2, 3]


def test_s25_every_layer_with_tables_is_rebuilt():
    config = deep(hidden_lsh={1: {"K": 3, "L": 4, "family": "simhash"}})
    network = new_network(config, 6, 6)
    assert network.tables == {} and {l: len(c) for l, c in network.constants.items()} == {1: 12, 2: 4}
    rebuild(network, 0)
    first = dict(network.tables)
    rebuild(network, 1)
    assert first.keys() == network.tables.keys() == {1, 2} and all(network.tables[l] is not first[l] for l in first)
    assert [len(network.tables[l].tables) for l in (1, 2)] == [4, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [{"optimizer": "sgd", "learning_rate": 0.5}, {"warmup_steps": 9, "decay": "linear"}]
)
@pytest.mark.parametrize("hidden_lsh", [{}, {1: {"K": 2, "L": 3}}, {1: {"L": 0, "min_active": 4}}])
def test_s25_s26_s27_deeper_networks_learn(optimizer, hidden_lsh):
    config = settings(hidden=(8, 10), hidden_lsh=hidden_lsh, epochs=80, **optimizer)
    _, losses = fit(config, TRAIN)
    assert losses[-1] < losses[0] * 0.9


def test_s26_s27_the_rate_of_the_step_is_what_the_optimizer_gets():
    config = settings(optimizer="sgd", learning_rate=0.5, warmup_steps=4, micro_batch=7, epochs=9)
    network = new_network(config, 6, 6, np.float64)
    rebuild(network, 0)
    before = network.layers[1].b.copy()
    batch = micro_batch(config, TRAIN, np.arange(7), 0, 2)
    gradient = train_step(network, batch).gradients[1]
    assert batch.rate == 0.25
    assert network.layers[1].b[gradient.ids] == pytest.approx(before[gradient.ids] - 0.25 * gradient.b)


def with_values(rows, values):
    return SparseRows(rows.indptr, rows.indices, values, rows.n_columns)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_s39_inputs_in_other_units_train_alike(optimizer):
    """Times a power of two, to the bit."""
    one = settings(optimizer=optimizer, learning_rate=0.05, weight_decay=2.0, epsilon=1e-3, input_scale=2.0)
    values = np.ones(TRAIN.features.nnz, dtype=np.float32) if TRAIN.features.data is None else TRAIN.features.data
    longer = TRAIN._replace(features=with_values(TRAIN.features, values * np.float32(16)))
    (network, losses), (other, same_losses) = fit(one, TRAIN), fit(one.replace(input_scale=1 / 8), longer)
    assert losses == same_losses
    assert np.array_equal(network.layers[0].W, other.layers[0].W * np.float32(16))
    assert np.array_equal(network.layers[0].b, other.layers[0].b)
    assert np.array_equal(network.layers[1].W, other.layers[1].W)
    assert not np.array_equal(network.layers[1].W, fit(one.replace(input_scale=1.0), TRAIN)[0].layers[1].W)


def test_s1_dtype_follows_the_parameters():
    networks = [fit(settings(), TRAIN, dtype)[0] for dtype in (np.float32, np.float64)]
    assert all(array.dtype == np.float32 for array in state(networks[0]))
    assert all(array.dtype == np.float64 for array in state(networks[1]))


def test_s18_a_run_is_reproducible_and_depends_on_the_seed():
    (first, losses), (second, again), (third, _) = (fit(settings(seed=seed), TRAIN) for seed in (7, 7, 8))
    assert same(state(first), state(second)) and losses == again and not same(state(first), state(third))


def test_s1_initial_weights_are_gaussian_draws_of_seed_and_layer():
    network = new_network(Config(hidden=(300,), seed=7), 500, 400)
    for l, (layer, deviation) in enumerate(zip(network.layers, (0.1, 1 / np.sqrt(900)), strict=True)):
        wanted = np.random.default_rng([7, l]).standard_normal(layer.W.shape, dtype=np.float32) * np.float32(deviation)
        assert np.array_equal(layer.W, wanted) and not layer.b.any() and not layer.W_v.any() and not layer.b_v.any()


def test_s40_without_features_there_is_nothing_to_mirror():
    layers = new_network(Config(hidden=(4,), initial_weights="mirrored"), 0, 9).layers
    assert layers[0].W.shape == (0, 4) and not layers[1].W.any()


@pytest.mark.parametrize("hidden", [(8,), (16,), (5,), (20, 3)])
def test_s40_mirrored_neurons_see_all_of_dense_inputs(hidden):
    config, n_features = Config(hidden=hidden, seed=7, input_scale=2.0, initial_weights="mirrored"), 4
    first, *others, last = new_network(config, n_features, 9).layers
    half = -(-hidden[0] // 2)
    one, other = first.W[:, :half], first.W[:, half:]
    assert np.array_equal(other, -one[:, : other.shape[1]]) and not last.W.any()
    directions = one / (0.4 * 2.0 * np.sqrt(n_features))
    for begin in range(0, half, n_features):
        basis = directions[:, begin : begin + n_features]
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-6)
    gaussian = new_network(config.replace(initial_weights="gaussian"), n_features, 9).layers
    assert all(np.array_equal(layer.W, same.W) for layer, same in zip(others, gaussian[1:-1], strict=True))
    assert not np.array_equal(first.W, new_network(config.replace(seed=8), n_features, 9).layers[0].W)
