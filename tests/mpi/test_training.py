"""Ranks that hold a range of the labels each: in lockstep with the reference, and whole runs."""

import itertools
import json
import math

import mpi_run
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import content_without_clock, counted, datasets, random_dataset, real_arrays, without_clock
from rank_lockstep import LSH, TASKS, USUAL, lockstep
from thread_ranks import on_ranks

import slide_fast.training as fast
import slide_fast.verify.lockstep as verify
import slide_ref.training as ref
from slide_fast.engine.checkpoints import Checkpoints
from slide_fast.engine.data_summary import fingerprint
from slide_fast.mpi.communicator import Communicator
from slide_fast.mpi.sample_ranges import SharedSamples, merge_best, range_of
from slide_fast.mpi.tasks import Order, Rebuild
from slide_fast.mpi.training import fit_sharded, prepare
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError, DivergedError
from slide_ref.common.parameters import ARRAYS_OF_A_LAYER
from slide_ref.common.storage.model_folder import load_model, save_model
from slide_ref.prediction import predict_topk


def shares(ranks, *data):
    return [part.take(np.array(range_of(part.n_samples, ranks), dtype=np.int64)) for part in data]


@pytest.mark.parametrize(("size", "task"), [*itertools.product([1, 2, 3], TASKS), (6, "batch"), (6, "sample")])
def test_s31_ranks_in_lockstep_with_the_reference(size, task):
    for report in on_ranks(size, lambda ranks: lockstep(task, ranks)):
        assert {"initial weights", "samples", "loss", "predictions", "gradients W of layer 0"} <= report.compared.keys()
        assert task == "dense" or any(report.compared[stage] for stage in report.compared if stage.startswith("bucket"))


@mpi_run.needs_mpi
@pytest.mark.parametrize("size", [2, 3])
def test_s31_mpi_ranks_in_lockstep_with_the_reference(size):
    done = mpi_run.python(mpi_run.SUPPORT / "rank_lockstep.py", "mpi", ranks=size)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(TASKS)


def run(size, config, train, test=None, **options):
    """Train on threads as ranks; the model, and the events that rank 0 saw."""
    events = []

    def work(ranks):
        own = shares(ranks, *([train] if test is None else [train, test]))
        return fit_sharded(config, *own[:1], test=None if test is None else own[1], ranks=ranks,
                           callback=events.append, **options)  # fmt: skip

    return on_ranks(size, work)[0], events


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_s31_one_rank_gives_the_bytes_of_one_worker(scope):
    config, train, test = Config.from_dict(USUAL | {"lsh": LSH, "scope": scope}), random_dataset(0), random_dataset(1)
    one, events = run(1, config, train, test)
    other_events = []
    other = fast.fit(config, train, test=test, n_workers=1, callback=other_events.append)
    assert (
        without_clock(one.facts) == without_clock(other.facts)
        and one.label_counts.tolist() == other.label_counts.tolist()
    )
    for name, array in other.arrays.items():
        assert array.tobytes() == one.arrays[name].tobytes()
    ends = [{key: value for key, value in side[-1].items() if "seconds" not in key} for side in (events, other_events)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_s31_whole_runs_have_the_losses_of_the_reference(size):
    config, train = Config.from_dict(USUAL | {"lsh": LSH, "epochs": 3}), random_dataset(2, min_features=1)
    sides = [ref.fit(config, train, dtype)[1] for dtype in (np.float32, np.float64)]
    model, events = run(size, config, train)
    assert model.label_counts.tolist() == np.bincount(train.labels.indices, minlength=60).tolist()
    alone = [event["active_neurons"] for event in run(1, config, train)[1] if event["kind"] == "epoch"]
    assert [event["active_neurons"] for event in events if event["kind"] == "epoch"] == pytest.approx(alone)
    losses = np.array([event["loss"] for event in events if event["kind"] == "epoch"])
    verify.check_floats(verify.Report(), "losses", losses, *map(np.array, sides), size=1 + np.array(sides[1]))


@settings(max_examples=30)
@given(datasets(real_arrays), st.integers(1, 4), st.data())
def test_samples_of_all_ranks_come_in_the_order_asked_for(data, size, draw):
    cuts = sorted(draw.draw(st.lists(st.integers(0, data.n_samples), min_size=size - 1, max_size=size - 1)))
    edges = [0, *cuts, data.n_samples]
    wanted = np.array(draw.draw(st.lists(st.integers(0, data.n_samples - 1), max_size=9)), dtype=np.int64)

    def work(ranks):
        samples = SharedSamples(data.take(np.arange(edges[ranks.rank], edges[ranks.rank + 1])), ranks)
        number = fingerprint(samples.own, None, samples.first)
        return samples.take(wanted)[0], samples.all_labels(), number

    results = on_ranks(size, work)
    expected = data.take(wanted)
    for found, _, _ in results:
        for ours, theirs in zip(found, expected, strict=True):
            for name in ("indptr", "indices"):
                assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
            assert ours.data is theirs.data is None or ours.data.tolist() == theirs.data.tolist()
    assert results[0][1].indices.tolist() == data.labels.indices.tolist()
    assert results[0][1].indptr.tolist() == data.labels.indptr.tolist()
    assert sum(number for _, _, number in results) % 2**64 == fingerprint(data, None)


def test_fingerprints_differ_where_data_do():
    data = random_dataset(0)
    numbers = {fingerprint(data, None), fingerprint(data.take(np.arange(39)), None), fingerprint(data, np.ones(40)),
               fingerprint(data.take(np.arange(40)[::-1]), None), fingerprint(random_dataset(1), None),
               fingerprint(data, np.arange(40.0)), fingerprint(data, None, 1)}  # fmt: skip
    assert len(numbers) == 7


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_s15_best_of_all_ranks_are_the_best_of_all_labels(size, k, data):
    scores = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=1, max_size=12)), dtype=np.float32)
    edges = [rank * len(scores) // size for rank in range(size + 1)]

    def best(own, first):
        order = np.argsort(-own, kind="stable")[:k]
        missing = k - len(order)
        return (np.append(order + first, np.full(missing, -1)), np.append(own[order], np.full(missing, -np.inf)))

    parts = [best(scores[a:b], a) for a, b in zip(edges, edges[1:], strict=False)]
    ids, values = (np.stack([part[i] for part in parts])[:, None] for i in (0, 1))
    found = merge_best(ids, values, k)
    for ours, theirs in zip(found, best(scores, 0), strict=True):
        assert ours[0].tolist() == theirs.tolist()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_bytes_of_a_step_are_those_of_the_model(size):
    """A step's messages: the samples, a maximum and a sum (float64) per sample and the loss, the hidden gradient."""
    train = random_dataset(3, n_samples=64, min_features=1)
    config = Config.from_dict(USUAL | {"lsh": LSH, "micro_batch": 16, "hidden": [8], "in_batch": 0.0})

    def work(ranks):
        own, _ = prepare(config, *shares(ranks, train), None, ranks, None)
        own.run(Order(0))
        own.run(Rebuild(0, [1]))
        ranks.messages.clear(), ranks.n_bytes.clear()
        batch = own.micro_batch(0, 1)
        own.learner.train_step(batch)
        samples = own.arrays["train_order"][:16]
        return ranks.messages, ranks.n_bytes, len(batch.samples), train.take(samples)

    results = on_ranks(size, work)
    messages, _, b, samples = results[0]
    assert messages == {"allgather": 1, "allreduce": 4}
    gathered = sum(n_bytes["allgather"] for _, n_bytes, _, _ in results)
    assert gathered == 4 * (2 * 16 + 2 * samples.features.nnz + samples.labels.nnz)
    for _, n_bytes, _, _ in results:
        assert n_bytes["allreduce"] == 4 * b * (8 + 2) + 8 * (b + 1)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_rank_holds_its_share_of_the_output_layer(size):
    train, config = random_dataset(3), Config.from_dict(USUAL | {"lsh": LSH})
    hidden = {f"{kind}0" for kind in ARRAYS_OF_A_LAYER}

    def work(ranks):
        own, _ = prepare(config, *shares(ranks, train), None, ranks, None)
        split = {name: array.nbytes for name, array in own.arrays.items() if name not in hidden | {"train_order"}}
        return sum(split.values()), own.train_samples.own.n_samples

    results = on_ranks(size, work)
    whole, _ = on_ranks(1, work)[0]
    assert {n_bytes * size for n_bytes, _ in results} == {whole}
    assert sum(n_samples for _, n_samples in results) == 40 and max(results)[1] <= 14 * 3 / size


@pytest.mark.parametrize(("before", "after"), [(3, 1), (2, 3), (1, 6), (6, 2)])
def test_a_checkpoint_resumes_with_any_number_of_ranks_and_on_one_machine(before, after, tmp_path):
    config, train, test = Config.from_dict(USUAL | {"lsh": LSH, "epochs": 4}), random_dataset(0), random_dataset(1)
    checkpoints = Checkpoints(tmp_path, every=1)
    whole, _ = run(before, config.replace(epochs=2), train, test, checkpoints=checkpoints)
    assert [path.name for path in checkpoints.saved()] == ["step-000000006", "step-000000012"]
    assert load_model(tmp_path / "best").n_labels == 60
    state = checkpoints.last(mmap=True)
    for name in whole.arrays:
        assert np.array_equal(state.arrays[name], whole.arrays[name])
    resumed, events = run(after, config, train, test, state=state, checkpoints=Checkpoints(tmp_path / "more"))
    alone = fast.fit(config, train, test=test, n_workers=1, state=checkpoints.last())
    assert events[0]["step"] == 12 and counted(resumed.facts) == counted(alone.facts)
    for name, array in alone.arrays.items():
        assert np.allclose(array, resumed.arrays[name], rtol=0, atol=1e-3)
        assert after > 1 or array.tobytes() == resumed.arrays[name].tobytes()
    with pytest.raises(DataError, match="differ from those of the run to resume"):
        run(after, config, test, state=state)


@pytest.mark.parametrize("size", [1, 3])
def test_a_model_is_saved_in_blocks_as_it_is_saved_whole(size, tmp_path, monkeypatch):
    monkeypatch.setattr("slide_fast.mpi.rank_engine.BLOCK_BYTES", 100)
    config, train = Config.from_dict(USUAL | {"lsh": LSH}), random_dataset(0)
    whole, _ = run(size, config, train, label_names=[f"label {i}" for i in range(60)])
    run(size, config, train, label_names=[f"label {i}" for i in range(60)],
        finish=lambda model: save_model(tmp_path / "blocks", model))  # fmt: skip
    save_model(tmp_path / "whole", whole)
    assert content_without_clock(tmp_path / "whole") == content_without_clock(tmp_path / "blocks")


def test_what_cannot_be_trained_is_an_error_on_every_rank():
    config, train = Config.from_dict(USUAL | {"lsh": LSH}), random_dataset(0)
    with pytest.raises(ConfigError, match="shards is 6, and 4 ranks cannot share them equally"):
        run(4, config, train)
    with pytest.raises(ConfigError, match="at most the number of labels, which is 60"):
        run(2, config.replace(shards=62), train)
    with pytest.raises(DataError, match="no sample has a label"):
        run(2, config, train.take(np.flatnonzero(np.diff(train.labels.indptr) == 0)))
    with pytest.raises(DivergedError, match="training diverged: at step"):
        run(3, config.replace(learning_rate=1e30, optimizer="sgd"), train)


def test_s29_weights_that_are_not_finite_on_one_rank_end_the_run_on_all():
    config, train = Config.from_dict(USUAL | {"lsh": LSH}), random_dataset(0)

    def work(ranks):
        own, _ = prepare(config, *shares(ranks, train), None, ranks, None)
        own.check(3)
        if ranks.rank == 1:
            own.parameters["W1"][0, 0] = np.nan
        try:
            own.check(3)
        except DivergedError as error:
            return str(error)

    first, second = on_ranks(2, work)
    assert first == second and "step 3" in first


def test_predictions_of_ranks_are_those_of_the_model():
    config, train, test = Config.from_dict(USUAL | {"lsh": LSH}), random_dataset(0), random_dataset(1)
    model, events = run(2, config, train, test)
    layers = verify.weights_in_float64(ref.layers_of(model.arrays))
    ids, _ = predict_topk(layers, test.features, 1)
    hits = [ids[i, 0] in test.labels.row(i)[0] for i in range(test.n_samples)]
    assert math.isclose(events[-1]["precision_at_1"], np.mean(hits))


def test_one_process_says_what_the_others_would(capsys):
    ranks = Communicator()
    assert (ranks.rank, ranks.size, len(ranks.names())) == (0, 1, 1)
    ranks.barrier()
    with pytest.raises(KeyError):
        ranks.give_up(KeyError("x"))
    assert json.dumps(ranks.broadcast({"a": 1})) == '{"a": 1}'
