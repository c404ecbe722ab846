"""Settings chosen for a problem: within their ranges, the user's untouched, and buckets that hold what they should."""

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.cli.settings import PRESETS, assign
from slide_fast.engine.auto_settings import BUDGETS_FOUND, DIGITS, NAMES, suited, tuned
from slide_fast.kernels.scratch import Scratch
from slide_fast.prediction import hidden_outputs
from slide_ref.common.config import WIDE, Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parameters import array_shapes, initialise, layers_of
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.hash_tables import build_tables
from slide_ref.hashing import addresses_of, hash_constants

SAMPLED = Config().replace(hidden=[32], lsh={"family": "simhash", "min_active": 10})


def data(n_samples=300, n_labels=500):
    return random_dataset(0, n_samples=n_samples, n_features=40, n_labels=n_labels, min_features=3)


@pytest.mark.parametrize(("n_samples", "wanted"), [(1, 64), (64 * 32, 64), (128 * 32, 128), (10**4, 256)])
def test_small_data_have_small_micro_batches(n_samples, wanted):
    assert tuned(Config(), data(n_samples, 12)).micro_batch == wanted


def test_what_the_user_gave_stays():
    settings = {}
    for name, value in zip(NAMES, (7, 3, 5), strict=True):
        assign(settings, name, value)
    config = SAMPLED.replace(**settings)
    assert tuned(config, data(), NAMES) == config
    for name, value in zip(NAMES, (7, 3, 5), strict=True):
        found = tuned(config, data(), {name}).to_dict()
        assert (found | found["lsh"])[name.removeprefix("lsh.")] == value


def test_a_dense_or_tableless_network_keeps_its_digits():
    for lsh in ({"min_active": 500}, {"L": 0}):
        config = Config().replace(lsh={"family": "simhash", "K": 5, "bucket_size": 9} | lsh)
        found = tuned(config, data())
        assert (found.lsh.K, found.lsh.bucket_size) == (5, 9)


def test_buckets_hold_enough_for_the_budget_and_one_digit_more_would_not():
    train = data(n_labels=2000)
    found = tuned(SAMPLED, train)
    assert DIGITS[0] < found.lsh.K < DIGITS[-1]
    shapes = array_shapes(found, train.features.n_columns, 2000)
    layers = layers_of({name: np.empty(shape, np.float32) for name, shape in shapes.items()})
    initialise(layers, found)
    inputs = hidden_outputs(layers, train.features.take(np.arange(256)), Scratch())

    def median(K):
        lsh = found.replace(lsh={"family": "simhash", "K": K, "bucket_size": 2000}).lsh
        constants = hash_constants(lsh, found.seed, 1, 32)
        tables = build_tables(layers[-1].W, constants, lsh, found.seed, 1, 0)
        addresses = addresses_of(inputs, constants, lsh, found.seed, 1)
        return np.median([sum(len(bucket) for bucket in tables.query(row)) for row in addresses])

    wanted = BUDGETS_FOUND * found.lsh.budget
    assert median(found.lsh.K) >= wanted > median(found.lsh.K + 1)


def test_digits_are_those_of_neurons_that_differ_also_where_all_begin_as_zeros():
    assert tuned(SAMPLED.replace(initial_weights="mirrored"), data()).lsh == tuned(SAMPLED, data()).lsh


def several(labels_a_sample=3, n_samples=2_000, n_features=40, n_labels=500):
    """Samples with so many labels each."""
    features = random_dataset(0, n_samples=n_samples, n_features=n_features).features
    ids = np.arange(n_samples)[:, None] % 100 + 100 * np.arange(labels_a_sample)
    return Dataset(features, rows_from_lists(ids.tolist(), n_labels))


def test_samples_of_several_labels_get_a_wide_network():
    config, reason = suited(Config(), several())
    assert (config.hidden, config.lsh.L, config.lsh.min_active, config.epochs) == ((1024,), 0, 0, WIDE["epochs"])
    assert "3.0 labels" in reason and "--preset fast uses 128 neurons, in about a quarter of the time" in reason
    assert suited(Config(epochs=2), several())[0].epochs == 2


@pytest.mark.parametrize(
    ("labels_a_sample", "n_labels", "min_active", "told"),
    [(3, 2_001, 0, False), (4, 2_001, LshConfig.min_active, True), (4, 2_000, LshConfig.min_active, False)],
)
def test_samples_of_many_labels_get_more_negatives(labels_a_sample, n_labels, min_active, told):
    config, reason = suited(Config(), several(labels_a_sample, n_labels=n_labels))
    assert (config.lsh.L, config.lsh.min_active) == (0, min_active)
    assert ("uniform negatives" in reason) == told


@pytest.mark.parametrize("data", [
    several(1), several(n_samples=1_999), several(n_features=1 << 18),
], ids=["one label each", "few samples", "too many weights"])  # fmt: skip
def test_other_samples_get_a_narrow_network(data):
    assert suited(Config(), data) == (Config(), "")


def with_values(rows, values):
    return SparseRows(rows.indptr, rows.indices, values, rows.n_columns)


def of_length(length, n_samples=300):
    """Samples of one label each whose two values make them so long."""
    values = np.tile(np.float32([0.6, 0.8]) * np.float32(length), n_samples)
    features = with_values(rows_from_lists([[0, 1 + i % 9] for i in range(n_samples)], 40), values)
    return Dataset(features, rows_from_lists([[i % 50] for i in range(n_samples)], 50))


@pytest.mark.parametrize(("length", "scale"), [(0.3, 1), (1, 1), (15, 1), (20, 1 / 20), (0.125, 8)])
def test_s39_unusual_inputs_are_scaled(length, scale):
    config, reason = suited(Config(), of_length(length))
    assert config.input_scale == pytest.approx(scale) and config == Config(input_scale=config.input_scale)
    assert ("input_scale=" in reason) == (scale != 1)
    assert suited(Config(input_scale=3.0), of_length(length), {"input_scale"}) == (Config(input_scale=3.0), "")


def test_s39_values_that_are_all_1_have_no_unit():
    long = Dataset(rows_from_lists([list(range(300))] * 9, 300), rows_from_lists([[0]] * 9, 2))
    assert suited(Config(), long) == (Config(), "")
    ones = np.ones(long.features.nnz, dtype=np.float32)
    assert suited(Config(), long._replace(features=with_values(long.features, ones))) == (Config(), "")
    twos = suited(Config(), long._replace(features=with_values(long.features, 2 * ones)))[0]
    assert twos.input_scale == pytest.approx(1 / np.sqrt(1200))


def test_s39_a_wide_network_for_scaled_inputs_has_both_reasons():
    samples = several()
    features = with_values(samples.features, 1000 * samples.features.data)
    config, reason = suited(Config(), samples._replace(features=features))
    assert config.hidden == (1024,) and config.input_scale < 0.01
    assert "labels each" in reason and "input_scale=" in reason


def dense(n_samples=2_000, n_features=5, length=1.0):
    """Samples that store three of five values, or all."""
    stored = [0, 1, 3] if n_features == 5 else range(n_features)
    features = rows_from_lists([list(stored)] * n_samples, n_features)
    return with_values(features, np.full(features.nnz, length / np.sqrt(len(stored)), dtype=np.float32))


def with_labels(features):
    return Dataset(features, rows_from_lists([[i % 50] for i in range(features.n_rows)], 3_000))


def test_dense_inputs_get_a_wide_network():
    config, reason = suited(Config(), with_labels(dense()))
    assert config.hidden == (1020,) and "16 epochs and some uniform negatives, as inputs are dense;" in reason
    assert (config.epochs, config.in_batch, config.lsh.L, config.lsh.min_active) == (16, 1.0, 0, 2000)
    assert (
        "16 epochs, as inputs are dense and samples have 3.0 labels each;"
        in suited(Config(), several()._replace(features=dense()))[1]
    )
    kept, reason = suited(Config(epochs=3, in_batch=0.5), with_labels(dense()), {"epochs", "in_batch"})
    assert (kept.epochs, kept.in_batch, kept.hidden) == (3, 0.5, (1020,)) and "3 epochs" in reason
    assert suited(Config(), with_labels(dense(n_samples=40_000)))[0].epochs == 8


@pytest.mark.parametrize(("n_features", "width"), [(64, 1024), (384, 768), (768, 1536), (1024, 2048), (1100, 1024)])
def test_s40_a_wide_network_has_room_for_all_of_dense_inputs(n_features, width):
    assert suited(Config(), with_labels(dense(n_features=n_features)))[0].hidden == (width,)


@pytest.mark.parametrize(("length", "scale"), [(1, 1), (1.001, 1), (10, 1 / 10), (0.5, 2), (20, 1 / 20)])
def test_s40_dense_inputs_of_any_length_train_as_if_it_were_1(length, scale):
    config, reason = suited(Config(), with_labels(dense(length=length)), {"hidden"})
    assert config == Config(input_scale=config.input_scale, initial_weights="mirrored")
    assert config.input_scale == pytest.approx(scale) and "initial_weights=mirrored, as inputs are dense" in reason
    few, _ = suited(Config(), with_labels(dense(n_samples=1_999, length=length)))
    assert few == Config(input_scale=config.input_scale if length == 20 else 1.0)
    given = suited(Config(), with_labels(dense(length=length)), {"hidden", "input_scale", "initial_weights"})
    assert given == (Config(), "")


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({}, "gaussian"),
        ({"scope": "batch"}, "gaussian"),
        ({"in_batch": 0.5, "scope": "batch"}, "mirrored"),
        ({"lsh": {"min_active": 10}}, "mirrored"),
        ({"lsh": {"L": 0}}, "mirrored"),
        ({"lsh": {"family": "centroid"}}, "mirrored"),
    ],
)
def test_s40_neurons_that_are_hashed_at_once_do_not_all_begin_as_zeros(changes, weights):
    paper = Config.from_dict(PRESETS["paper"])
    assert suited(paper.replace(**changes), with_labels(dense()), {"lsh"})[0].initial_weights == weights


def test_samples_without_features_are_not_dense():
    nothing = rows_from_lists([[]] * 2_000, 0)
    assert suited(Config(), with_labels(nothing)) == (Config(), "")


@pytest.mark.parametrize("name", ["hidden", "hidden_lsh.1.K", "scope", "lsh", "lsh.K"])
def test_a_network_that_the_user_has_chosen_stays(name):
    assert suited(Config(), several(), {name}) == (Config(), "")
