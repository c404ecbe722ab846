"""Shards of the output layer, worked out by hand."""

import dataclasses

import numpy as np
import pytest

from slide_ref.active_sets import choose_active
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parts import label_edges, parts_of
from slide_ref.common.rng import Purpose, draw, mix
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.training import micro_batch, new_network, rebuild

LSH = {"budget": 5, "min_active": 4}


def test_s31_shards_are_ranges_of_labels_with_their_share_of_budget_and_padding():
    config = Config(hidden=(3,), shards=3, lsh=LshConfig(**LSH))
    assert label_edges(config, 10) == [0, 3, 6, 10]
    parts = parts_of(config, 10)
    assert list(parts) == [1, 1 + 2**32, 1 + 2 * 2**32]
    assert [(part.first, part.last, part.name) for part in parts.values()] == [
        (0, 3, "1"),
        (3, 6, "1_1"),
        (6, 10, "1_2"),
    ]
    assert {(part.lsh.budget, part.lsh.min_active) for part in parts.values()} == {(2, 2)}
    assert list(parts_of(config, 10, range(1, 2))) == [1 + 2**32]
    assert parts_of(config, 4) == {}  # min_active 4: the whole layer


def test_s31_one_shard_has_the_words_and_settings_of_the_layer():
    config = Config(hidden=(3, 9), lsh=LshConfig(**LSH), hidden_lsh={1: LshConfig(min_active=2)})
    parts = parts_of(config, 10)
    assert {word: part.lsh for word, part in parts.items()} == config.sampled_layers(10)
    assert [(part.first, part.last, part.name) for part in parts.values()] == [(0, 9, "1"), (0, 10, "2")]


def test_s31_no_limit_stays_no_limit():
    parts = parts_of(Config(shards=2, lsh=LshConfig(budget=0, min_active=0)), 10)
    assert {(part.lsh.budget, part.lsh.min_active) for part in parts.values()} == {(0, 0)}


def test_s31_more_shards_than_labels_are_refused():
    with pytest.raises(ConfigError, match="shards is 11; it must be at most the number of labels, which is 10"):
        parts_of(Config(shards=11), 10)
    with pytest.raises(ConfigError, match="shards is 0; it must be 1 or more"):
        Config(shards=0)


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_s31_each_shard_pads_its_own_labels_with_keys_of_its_own(scope):
    """Without tables: 8 labels in 2 shards, a sample with the labels 1 and 2, another with 6."""
    features = SparseRows(np.array([0, 1, 2]), np.array([0, 1], np.int32), np.ones(2, np.float32), 2)
    train = Dataset(features, rows_from_lists([[1, 2], [6]], 8))
    config = Config(hidden=(2,), shards=2, scope=scope, micro_batch=2, seed=5, in_batch=0.0).replace(
        lsh={"L": 0, "min_active": 6}
    )
    network = new_network(config, 2, 8)
    rebuild(network, 0)
    batch = micro_batch(config, train, np.array([0, 1]), 0, 1)
    inputs = [type("", (), {"ids": np.arange(2), "values": np.ones(2, np.float32)})] * 2
    sets, _ = choose_active(network, 1, inputs, batch)

    def padded(labels, shard, *key):
        held, number = set(labels), 0
        while len(held) < 3:  # half of 6
            held.add(int(draw(mix(5, *key[:1], 1 + (shard << 32), *key[1:], number), 4)))
            number += 1
        return sorted(label + 4 * shard for label in held)

    if scope == "batch":
        expected = [padded([1, 2], 0, Purpose.PAD_BATCH, 1) + padded([2], 1, Purpose.PAD_BATCH, 1)] * 2
    else:
        own = ([[1, 2], []], [[], [2]])
        expected = [
            padded(own[i][0], 0, Purpose.PAD_SAMPLE, 0, i) + padded(own[i][1], 1, Purpose.PAD_SAMPLE, 0, i)
            for i in range(2)
        ]
    assert [ids.tolist() for ids in sets] == expected


@pytest.mark.parametrize(("min_active", "n_padded"), [(0, 0), (15, 0), (16, 1), (23, 2)])
def test_s32_in_batch_steps_ask_no_tables_of_the_output(min_active, n_padded):
    """One bucket holds all neurons of a layer, so tables return everything; the samples' labels are 1, 2 and 6."""
    features = SparseRows(np.array([0, 1, 2]), np.array([0, 1], np.int32), np.ones(2, np.float32), 2)
    train = Dataset(features, rows_from_lists([[1, 2], [6]], 70))
    everything = LshConfig(K=1, L=1, budget=0, bucket_bits=1, min_active=min_active)
    config = Config(hidden=(2, 5), micro_batch=2, epochs=2, seed=5, lsh=everything,
                    hidden_lsh={1: dataclasses.replace(everything, min_active=0)})  # fmt: skip
    network = new_network(config, 2, 70)
    for layer in network.layers[1:]:
        layer.W[:] = 1
    rebuild(network, 0)
    inputs = [type("", (), {"ids": np.arange(2), "values": np.ones(2, np.float32)})] * 2
    hidden = [type("", (), {"ids": np.arange(5), "values": np.ones(5, np.float32)})] * 2
    first, second = (micro_batch(config, train, np.array([0, 1]), epoch, epoch + 1) for epoch in range(2))
    assert (first.in_batch, second.in_batch) == (True, False)
    for batch in (first, second):
        assert [ids.tolist() for ids in choose_active(network, 1, inputs, batch)[0]] == [list(range(5))] * 2
    (one, two), _ = choose_active(network, 2, hidden, first)
    assert one.tolist() == two.tolist() and {1, 2, 6} <= set(one) and len(one) == 3 + n_padded
    assert len(choose_active(network, 2, hidden, second)[0][0]) == 70


def test_s32_a_sample_of_its_own_scope_always_asks_tables():
    features = SparseRows(np.array([0, 1]), np.array([0], np.int32), np.ones(1, np.float32), 2)
    train = Dataset(features, rows_from_lists([[1]], 8))
    config = Config(scope="sample", in_batch=1.0)
    assert not micro_batch(config, train, np.array([0]), 0, 1).in_batch
