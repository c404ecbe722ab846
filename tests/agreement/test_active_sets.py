"""Parts of a network: label ranges, labels and active sets in each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import SEEDS, datasets, dyadic_arrays, generators, lsh_configs, random_dataset

import slide_fast.active_sets as fast
import slide_ref.active_sets as ref
from slide_fast import hash_tables
from slide_fast.kernels.scratch import Scratch
from slide_fast.verify.lockstep import Report, check_inclusion, one_by_one
from slide_ref.common.config import SCOPES, Config
from slide_ref.common.micro_batches import micro_batch
from slide_ref.common.parts import parts_of
from slide_ref.common.schedule import sample_order
from slide_ref.hash_tables import tables_from_addresses


@st.composite
def problems(draw):
    """A micro-batch, settings with shards, and one part of the network."""
    train = draw(datasets(dyadic_arrays))
    n = train.labels.n_columns
    lsh = draw(lsh_configs(n))
    config = Config(
        hidden=(4, 9), hidden_lsh={1: draw(lsh_configs(9))}, lsh=lsh, micro_batch=draw(st.integers(1, 5)),
        scope=draw(st.sampled_from(SCOPES)), shards=draw(st.integers(1, n)), seed=draw(SEEDS),
        in_batch=draw(st.sampled_from([0.0, 0.0, 0.0, 1.0])),
    )  # fmt: skip
    batch = micro_batch(config, train, sample_order(config.seed, 1, train.n_samples), 1, 1)
    parts = list(parts_of(config, n).values())
    return config, batch, draw(st.sampled_from(parts)) if parts else None


@given(problems())
def test_s32_settings_in_a_part_are_equal(problem):
    config, batch, part = problem
    if part is not None:
        assert fast.settings_in(part, config, batch) == ref.settings_in(part, config, batch)


@pytest.mark.parametrize("min_active", [0, 3, 4, 7, 39, 2000])
def test_s32_in_batch_steps_have_the_same_part_of_the_padding(min_active):
    """Small layers have so little padding that hardly a part of it is told from another."""
    train = random_dataset(0, n_labels=3000)
    config = Config(hidden=(4,), micro_batch=5, in_batch=1.0).replace(lsh={"min_active": min_active})
    batch = micro_batch(config, train, np.arange(train.n_samples), 0, 1)
    (part,) = parts_of(config, 3000).values()
    assert batch.in_batch and fast.settings_in(part, config, batch) == ref.settings_in(part, config, batch)


@given(problems())
def test_s31_labels_in_a_part_are_equal(problem):
    config, batch, part = problem
    if part is None:
        return
    ours, theirs = (side.labels_in(part, config, batch) for side in (fast, ref))
    assert ours.n_rows == len(theirs) and ours.indices.dtype == np.int32
    for i, ids in enumerate(theirs):
        assert ours.row(i)[0].tolist() == ids.tolist()


@settings(max_examples=100)
@given(problems(), generators())
def test_s31_active_sets_in_a_part_are_equal(problem, rng):
    config, batch, part = problem
    if part is None or not len(batch.samples):
        return
    n, n_addresses, word = part.last - part.first, 2**part.lsh.address_bits, part.word
    of_neurons = rng.integers(0, n_addresses, (part.lsh.L, n))
    of_samples = rng.integers(0, n_addresses, (len(batch.samples), part.lsh.L))
    if n:
        shared = rng.random(of_samples.shape) < 0.7  # else hardly a bucket that is asked for holds a neuron
        of_samples[shared] = of_neurons.T[rng.integers(0, n, len(batch.samples))][shared]
    tables = (side(of_neurons, part.lsh, config.seed, word, 0)
              for side in (hash_tables.tables_from_addresses, tables_from_addresses))  # fmt: skip
    scratch = Scratch()
    priors = rng.random(batch.data.labels.n_columns) if part.layer == 2 and rng.random() < 0.5 else None
    own = None if priors is None else priors[part.first : part.last]
    ours = fast.choose_in_part(part, next(tables), of_samples, config, batch, scratch, own)
    theirs, probabilities = ref.choose_in_part(part, next(tables), of_samples, config, batch, priors)
    assert (ours.inclusion is None) == (probabilities is None) == (priors is None)
    if priors is not None:
        own_labels = fast.labels_in(part, config, batch)
        check_inclusion(Report(), ours._replace(ids=ours.ids - part.first), probabilities, own_labels)
    for mine, other in zip(one_by_one(ours, len(theirs)), theirs, strict=True):
        assert mine.dtype == other.dtype and mine.tolist() == other.tolist()


@pytest.mark.parametrize("scope", SCOPES)
def test_s31_shards_are_padded_with_keys_of_their_own(scope):
    train = random_dataset(0, min_features=1)
    config = Config(hidden=(4,), micro_batch=5, scope=scope, shards=3).replace(
        lsh={"family": "simhash", "L": 0, "min_active": 24}
    )
    batch = micro_batch(config, train, sample_order(config.seed, 1, train.n_samples), 1, 1)
    nothing, places = np.empty((len(batch.samples), 0), dtype=np.int64), []
    for part in parts_of(config, train.labels.n_columns).values():
        of_neurons = np.empty((0, part.last - part.first), dtype=np.int64)
        tables = (side(of_neurons, part.lsh, config.seed, part.word, 0)
                  for side in (hash_tables.tables_from_addresses, tables_from_addresses))  # fmt: skip
        ours = one_by_one(
            fast.choose_in_part(part, next(tables), nothing, config, batch, Scratch()), len(batch.samples)
        )
        theirs, _ = ref.choose_in_part(part, next(tables), nothing, config, batch, None)
        assert [ids.tolist() for ids in ours] == [ids.tolist() for ids in theirs]
        places.append((ours[0] - part.first).tolist())
    assert places[0] != places[1] != places[2]


@given(problems())
def test_s31_the_labels_of_all_parts_are_those_of_the_samples(problem):
    config, batch, _ = problem
    n = batch.data.labels.n_columns
    parts = [part for part in parts_of(config.replace(lsh={"min_active": 0}), n).values() if part.layer == 2]
    assert [part.first for part in parts] == [0, *(part.last for part in parts[:-1])] and parts[-1].last == n
    found = [fast.labels_in(part, config, batch) for part in parts]
    for i in range(len(batch.samples)):
        ids = np.concatenate([rows.row(i)[0] + part.first for rows, part in zip(found, parts, strict=True)])
        assert ids.tolist() == batch.data.labels.row(i)[0].tolist()
