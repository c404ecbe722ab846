"""Ranks of several workers: what holds exactly of teams that train without locks, and what holds of whole runs."""

import contextlib
import dataclasses
import math
import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from problems import counted, random_dataset
from rank_lockstep import LSH, USUAL
from thread_ranks import on_ranks

import slide_fast.training as fast
from slide_fast.engine.checkpoints import BEST, Checkpoints
from slide_fast.mpi import process_grid, training
from slide_fast.mpi.process_grid import place_of, shared_by_workers
from slide_fast.mpi.rank_engine import RankEngine, follow
from slide_fast.mpi.rank_worker import RankWorker
from slide_fast.mpi.sample_ranges import SharedSamples, pooled, range_of
from slide_fast.mpi.tasks import Level
from slide_fast.mpi.training import conduct, fit_sharded, prepare
from slide_fast.parallel.shared_arrays import SharedArrays
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError, DivergedError, SlideError
from slide_ref.common.schedule import sample_order
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.common.storage.model_folder import load_model

CONFIG = Config.from_dict(USUAL | {"lsh": LSH})
SIZES = [(1, 2), (2, 2), (3, 2), (2, 3)]  # ranks, workers
TRAIN = random_dataset(0)
HIDDEN = ("W0", "b0", "W_v0", "b_v0")


def part_of(data, everyone):
    return None if data is None else data.take(np.array(range_of(data.n_samples, everyone), dtype=np.int64))


def run(size, config, train, test=None, weights=None, **options):
    """Train on threads as ranks and workers; the model, and the events that the first saw."""
    n_ranks, n_workers = size
    events = []

    def work(everyone):
        own = None if weights is None else weights[list(range_of(len(weights), everyone))]
        return fit_sharded(config, part_of(train, everyone), test=part_of(test, everyone), weights=own, ranks=everyone,
                           n_workers=n_workers, callback=events.append, **options)  # fmt: skip

    return on_ranks(n_ranks * n_workers, work)[0], events


def of_kind(events, kind, *keys):
    return [[event[key] for key in keys] for event in events if event["kind"] == kind]


@pytest.mark.parametrize(("n_ranks", "n_workers"), SIZES)
def test_a_process_is_a_worker_of_a_rank_and_a_rank_of_a_team(n_ranks, n_workers):
    def work(everyone):
        place = place_of(everyone, n_workers)
        number = np.array([everyone.rank])
        of_team, of_rank = (np.concatenate(part.allgather(number)).tolist() for part in place[1:])
        return everyone.title(), place.ranks.rank, place.workers.rank, of_team, of_rank

    for number, (title, rank, worker, of_team, of_rank) in enumerate(on_ranks(n_ranks * n_workers, work)):
        assert (rank, worker) == divmod(number, n_workers) and title == f"rank {rank}, worker {worker}"
        assert of_team == list(range(worker, n_ranks * n_workers, n_workers))
        assert of_rank == list(range(rank * n_workers, (rank + 1) * n_workers))


def test_workers_of_a_rank_see_the_same_memory_and_leave_no_trace(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work(everyone):
        place = place_of(everyone, 3)
        with shared_by_workers({"a": ((6,), np.int64), "b": ((2, 2), np.float32)}, place) as block:
            assert not block["a"].any()
            everyone.barrier()
            block["a"][everyone.rank] = 1 + everyone.rank
            everyone.barrier()
            return block["a"].tolist(), block["b"].shape

    assert on_ranks(6, work) == [([1, 2, 3, 0, 0, 0], (2, 2))] * 3 + [([0, 0, 0, 4, 5, 6], (2, 2))] * 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("elsewhere", "why"), [("host", "No route to host"), ("pid", "No such file or directory")])
def test_workers_of_a_rank_on_two_machines_are_an_error_for_all(elsewhere, why, monkeypatch):
    attached = process_grid._attached

    def from_elsewhere(host, pid, handle, n_workers):
        return attached(*((f"{host}-2", pid) if elsewhere == "host" else (host, 2**22 + 1)), handle, n_workers)

    monkeypatch.setattr(process_grid, "_attached", from_elsewhere)
    wanted = f"the 2 workers of a rank must be on one machine with Linux, and this one, on .* {re.escape(f'({why})')}"
    with pytest.raises(ConfigError, match=wanted):
        on_ranks(4, lambda everyone: shared_by_workers({"a": ((6,), np.int64)}, place_of(everyone, 2)))


def test_no_memory_on_one_rank_is_an_error_for_all(monkeypatch):
    create = SharedArrays.create

    def fail_once(layout):
        if layout["a"][0] == (1,):
            raise MemoryError("not enough")
        return create(layout)

    def work(everyone):
        try:
            shared_by_workers({"a": ((everyone.rank // 2,), np.int64)}, place_of(everyone, 2))
        except (MemoryError, SlideError) as error:
            return str(error)

    monkeypatch.setattr(SharedArrays, "create", fail_once)
    assert all("not enough" in text for text in on_ranks(4, work))


@pytest.mark.parametrize(("n_ranks", "n_workers"), SIZES)
@pytest.mark.parametrize("has_values", [True, False])
def test_samples_of_workers_come_in_the_order_asked_for(n_ranks, n_workers, has_values):
    features, labels = random_dataset(0)
    data = Dataset(SparseRows(features.indptr, features.indices, features.data if has_values else None, 30), labels)
    weights, wanted = np.arange(40) / 3, np.random.default_rng(0).permutation(40)[:31]

    def work(everyone):
        place = place_of(everyone, n_workers)
        own = pooled(part_of(data, everyone), weights[list(range_of(40, everyone))], place)
        return SharedSamples(own[0], place.ranks, own[1]).take(wanted)

    expected = data.take(wanted)
    for found, found_weights in on_ranks(n_ranks * n_workers, work):
        assert found_weights.tolist() == weights[wanted].tolist()
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.indptr.tolist() == theirs.indptr.tolist() and ours.indices.tolist() == theirs.indices.tolist()
        assert found.features.data.tolist() == (expected.features.data.tolist() if has_values else [1] * found[0].nnz)


@pytest.mark.parametrize("size", [1, 2])
def test_ids_of_64_bits_and_weights_of_32_are_sent_as_what_they_are(size):
    data = random_dataset(0)
    wide = Dataset(*(dataclasses.replace(part, indices=part.indices.astype(np.int64)) for part in data))
    weights = np.linspace(0, 1, data.n_samples, dtype=np.float32)

    def work(ranks):
        own = list(range_of(data.n_samples, ranks))
        return SharedSamples(wide.take(np.array(own)), ranks, weights[own]).take(np.arange(5))

    for taken, taken_weights in on_ranks(size, work):
        assert taken.features.data.tolist() == data.take(np.arange(5)).features.data.tolist()
        assert taken_weights.tolist() == weights[:5].tolist()


def test_a_state_that_fits_on_one_process_only_is_an_error_for_all(tmp_path):
    checkpoints, train = Checkpoints(tmp_path, every=1.0), random_dataset(0)
    fast.fit(CONFIG, train, n_workers=1, checkpoints=checkpoints)
    right = checkpoints.last()

    def work(ranks):
        state = dataclasses.replace(right, data="0" * 16) if ranks.rank else right
        with pytest.raises(DataError):
            fit_sharded(CONFIG, part_of(train, ranks), ranks=ranks, state=state)
        return True

    assert on_ranks(2, work) == [True, True]


@pytest.mark.parametrize(
    ("options", "error"), [({"patience": 1}, "patience needs samples"), ({}, "holds checkpoints of another run")]
)
def test_a_run_over_ranks_is_refused_where_one_on_a_machine_is(tmp_path, options, error):
    checkpoints, train = Checkpoints(tmp_path, every=1.0), random_dataset(0)
    fast.fit(CONFIG, train, n_workers=1, checkpoints=checkpoints)
    there = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ConfigError, match=error):
        run((1, 1), CONFIG, train, **options, **({} if options else {"checkpoints": checkpoints}))
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_ctrl_c_gives_a_whole_model_back(monkeypatch):
    pressed = threading.Event()
    monkeypatch.setattr(training, "deferred_interrupt", lambda: contextlib.nullcontext(pressed))

    def press(event):
        if event["kind"] == "progress":
            pressed.set()

    def work(ranks):
        try:
            return fit_sharded(CONFIG, part_of(TRAIN, ranks), ranks=ranks, callback=press)
        except fast.TrainingInterrupted as stop:
            return np.asarray(stop.model.arrays["W1"]).shape

    assert on_ranks(2, work) == [(TRAIN.labels.n_columns, CONFIG.hidden[-1]), None]


@pytest.mark.parametrize("size", [(2, 2), (4, 1)])
def test_processes_that_count_other_labels_or_have_no_weights_are_an_error_for_all(size):
    train = random_dataset(0)

    def work(everyone, n_labels, has_weights):
        features, labels = part_of(train, everyone)
        own = Dataset(features, SparseRows(labels.indptr, labels.indices, None, n_labels))
        weights = np.ones(own.n_samples) if has_weights else None
        prepare(CONFIG.replace(shards=4), own, None, everyone, None, size[1], weights)

    with pytest.raises(DataError, match="the ranks count different features or labels"):
        on_ranks(4, lambda everyone: work(everyone, 60 + (everyone.rank == 3), True))
    with pytest.raises(DataError, match="some ranks give weights of their samples, some do not"):
        on_ranks(4, lambda everyone: work(everyone, 60, everyone.rank == 3))


@pytest.mark.parametrize(("n_ranks", "n_workers"), SIZES)
def test_s13_s31_every_sample_is_trained_once_an_epoch_by_one_team(n_ranks, n_workers, monkeypatch):
    train, steps, seen = random_dataset(2, min_features=1), [], []
    micro_batch = RankWorker.micro_batch

    def note(self, epoch, step):
        batch = micro_batch(self, epoch, step)
        steps.append((batch.step, self.ranks.rank, self.workers.rank))
        if self.ranks.rank == 0:
            seen.extend((batch.epoch, sample) for sample in batch.samples.tolist())
        return batch

    monkeypatch.setattr(RankWorker, "micro_batch", note)
    monkeypatch.setattr("slide_ref.common.schedule.STEPS_A_WORKER", 6)  # one more team in the second epoch
    _, events = run((n_ranks, n_workers), CONFIG, train)
    labelled = np.flatnonzero(np.diff(train.labels.indptr)).tolist()
    assert sorted(seen) == [(epoch, sample) for epoch in range(2) for sample in labelled]
    assert of_kind(events, "end", "samples", "step", "epoch") == [[80, 12, 2.0]]
    assert of_kind(events, "start", "n_workers") == [[n_ranks * n_workers]]
    workers = {step: worker for step, _, worker in steps}
    assert sorted(steps) == [(step, rank, workers[step]) for step in range(1, 13) for rank in range(n_ranks)]
    assert set(workers.values()) == set(range(n_workers))
    assert {worker for step, worker in workers.items() if step <= 6} == {0, 1}


def test_s33_teams_join_as_steps_are_done():
    def of_team(worker, first_step, n_steps, steps_before=0):
        state = SimpleNamespace(steps_before=steps_before, workers=SimpleNamespace(rank=worker, size=3))
        return list(RankWorker.steps(state, first_step, n_steps))

    assert [of_team(worker, 100, 6) for worker in range(3)] == [[100, 102, 104], [101, 103, 105], []]
    assert [of_team(worker, 101, 6) for worker in range(3)] == [[101, 104], [102, 105], [103, 106]]
    assert [of_team(worker, 1, 3, steps_before=100) for worker in range(3)] == [[1], [2], [3]]


@pytest.mark.parametrize(("n_ranks", "n_workers"), SIZES)
@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_s31_where_nothing_is_learned_teams_do_what_one_worker_does(n_ranks, n_workers, scope, tmp_path):
    """The learning rate is too small to change a weight: order and races do not matter, and all else must be equal."""
    config = CONFIG.replace(optimizer="sgd", learning_rate=1e-30, scope=scope, lsh={"policy": "reservoir"})
    train, test, states = random_dataset(2, min_features=1), random_dataset(1, n_samples=23), []
    figures = ("loss", "active_neurons", "bucket_load", "entries_kept")
    scores = [f"precision_at_{k}" for k in (1, 3, 5)]
    sides = []
    for name, size in (("alone", (n_ranks, 1)), ("teams", (n_ranks, n_workers))):
        checkpoints = Checkpoints(tmp_path / name, every=1)
        _, events = run(size, config, train, test, checkpoints=checkpoints)
        sides.append((of_kind(events, "epoch", *figures), of_kind(events, "end", *scores)))
        states.append(checkpoints.last())
    assert np.allclose(sides[0][0], sides[1][0], rtol=1e-12, atol=0) and sides[0][1] == sides[1][1]
    assert states[0].arrays.keys() == states[1].arrays.keys()
    for name, array in states[0].arrays.items():
        if not name.startswith("b"):
            assert array.tobytes() == states[1].arrays[name].tobytes(), name


@pytest.mark.parametrize(("n_ranks", "n_workers"), SIZES)
def test_s31_where_all_meet_hidden_layers_become_those_of_the_first_rank(n_ranks, n_workers):
    def work(everyone):
        own, _ = prepare(CONFIG, part_of(random_dataset(0), everyone), None, everyone, None, n_workers)
        output = own.parameters["W1"].copy()
        if own.workers.rank == 0:
            for name in HIDDEN:
                shape = own.parameters[name].shape
                own.parameters[name][:] = np.random.default_rng([own.ranks.rank, len(name)]).random(shape)
        everyone.barrier()
        own.run(Level())
        assert np.array_equal(own.parameters["W1"], output)
        return [own.parameters[name].copy() for name in HIDDEN]

    for arrays in on_ranks(n_ranks * n_workers, work):
        for name, array in zip(HIDDEN, arrays, strict=True):
            assert np.array_equal(array, np.random.default_rng([0, len(name)]).random(array.shape).astype(np.float32))


def test_s31_hidden_layers_are_the_same_on_all_ranks_when_training_has_ended(monkeypatch):
    micro_batch = RankWorker.micro_batch

    def drift(self, epoch, step):
        self.parameters["b0"] += 0.01 * self.ranks.rank
        return micro_batch(self, epoch, step)

    def work(everyone):
        own, facts = prepare(CONFIG, part_of(random_dataset(0), everyone), None, everyone, None, 2)
        if everyone.rank:
            follow(own)
        else:
            with RankEngine(own) as engine:
                assert conduct(engine, facts).facts["steps"] == 12
        return own.drifts, b"".join(own.parameters[name].tobytes() for name in HIDDEN)

    monkeypatch.setattr(RankWorker, "micro_batch", drift)
    found = on_ranks(4, work)
    assert found == [(True, found[0][1])] * 4


@pytest.mark.parametrize(("before", "after"), [((2, 2), (3, 1)), ((1, 3), (2, 2)), ((2, 1), (1, 2)), ((2, 2), (1, 1))])
def test_a_checkpoint_resumes_with_any_number_of_ranks_and_workers(before, after, tmp_path):
    config, train, test = CONFIG.replace(epochs=4), random_dataset(0), random_dataset(1)
    checkpoints = Checkpoints(tmp_path, every=1)
    whole, _ = run(before, config.replace(epochs=2), train, test, checkpoints=checkpoints)
    state = checkpoints.last(mmap=True)
    for name, array in whole.arrays.items():
        assert np.array_equal(state.arrays[name], array)
    resumed, events = run(after, config, train, test, state=state, checkpoints=Checkpoints(tmp_path / "more"))
    alone = fast.fit(config, train, test=test, n_workers=1, state=checkpoints.last())
    assert events[0]["step"] == 12 and counted(resumed.facts) == counted(alone.facts)
    for name, array in alone.arrays.items():
        assert after != (1, 1) or array.tobytes() == resumed.arrays[name].tobytes()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (2, 2)])
def test_the_best_network_is_kept_also_when_a_run_is_resumed(size, tmp_path):
    """So large a learning rate that learning does not last."""
    config, train, test = CONFIG.replace(epochs=40, learning_rate=0.5), random_dataset(0), random_dataset(0)
    sides = []
    for name in ("ours", "alone"):
        checkpoints = Checkpoints(tmp_path / name, every=1)
        events, options = [], {"test": test, "patience": 2, "checkpoints": checkpoints}
        if name == "ours":
            model, events = run(size, config, train, **options)
        else:
            model = fast.fit(config, train, n_workers=1, callback=events.append, **options)
        scores = [score for (score,) in of_kind(events, "evaluation", "precision_at_1")]
        best = load_model(checkpoints.folder / BEST).arrays
        assert of_kind(events, "end", "precision_at_1")[0][0] == max(scores) == scores[-1]
        assert len(scores) < 40
        for key, array in best.items():
            assert array.tobytes() == model.arrays[key].tobytes()
        if name == "ours":
            again, _ = run(size, config, train, state=checkpoints.last(mmap=True), **options)
            for key, array in best.items():
                assert array.tobytes() == again.arrays[key].tobytes()
        sides.append(model)
    if size == (1, 1):
        for key, array in sides[1].arrays.items():
            assert array.tobytes() == sides[0].arrays[key].tobytes()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 1), (2, 2)])
def test_s10_samples_have_weights(size, tmp_path):
    train, test = random_dataset(0, min_features=1), random_dataset(1)
    weights = np.random.default_rng(0).integers(0, 4, 40) / 2.0
    sides = []
    for weigh in (lambda **more: run(size, CONFIG, train, test, weights=weights, **more)[0],
                  lambda **more: fast.fit(CONFIG, train, test=test, weights=weights, n_workers=1, **more)):  # fmt: skip
        checkpoints = Checkpoints(tmp_path / str(len(sides)), every=1)
        sides.append((weigh(checkpoints=checkpoints), checkpoints.last()))
    (ours, state), (alone, other) = sides
    assert state.data == other.data and state.progress.n_unlabelled == other.progress.n_unlabelled > 0
    for name, array in alone.arrays.items():
        assert size[1] > 1 or np.allclose(array, ours.arrays[name], rtol=0, atol=1e-3)
        assert size != (1, 1) or array.tobytes() == ours.arrays[name].tobytes()


def test_what_cannot_be_trained_is_an_error_for_every_worker():
    train = random_dataset(0)
    with pytest.raises(ConfigError, match="4 processes cannot be ranks of 3 workers each; start a multiple of 3"):
        on_ranks(4, lambda everyone: place_of(everyone, 3))
    with pytest.raises(ConfigError, match="shards is 5, and 2 ranks cannot share them equally"):
        run((2, 2), CONFIG.replace(shards=5), train)
    with pytest.raises(DivergedError, match="training diverged: at step"):
        run((2, 2), CONFIG.replace(learning_rate=1e30, optimizer="sgd"), train)
    with pytest.raises(DataError, match="no sample has a label"):
        run((2, 2), CONFIG, train.take(np.flatnonzero(np.diff(train.labels.indptr) == 0)))


def test_s29_a_team_that_diverges_alone_ends_the_others():
    """One sample overflows: no other step can diverge, whatever the teams do at the same time."""
    config = CONFIG.replace(epochs=1, optimizer="sgd", learning_rate=1e-30)
    for place in (0, 20):
        features, labels = random_dataset(0, min_features=1)
        order = sample_order(config.seed, 0, features.n_rows)
        sample = next(i for i in order[place:].tolist() if len(labels.row(i)[0]))
        own = slice(features.indptr[sample], features.indptr[sample + 1])
        features.data[own] = np.sign(features.data[own]) * np.float32(3e38)
        step = order.tolist().index(sample) // config.micro_batch + 1
        with pytest.raises(DivergedError) as caught:
            run((2, 2), config, Dataset(features, labels))
        assert caught.value.step == step


@pytest.mark.slow
def test_s18_s31_whole_runs_of_teams_stay_in_the_spread_of_seeds():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    labels, extras = rng.integers(0, 60, 1500), 60 + rng.integers(0, 40, 1500)
    ids = rows_from_lists([sorted(map(int, pair)) for pair in zip(labels, extras, strict=True)], 100)
    features = SparseRows(ids.indptr, ids.indices, np.ones(ids.nnz, np.float32), 100)
    train = Dataset(features, rows_from_lists([[int(label)] for label in labels], 60))

    def last_loss(n_workers, seed):
        config = Config(hidden=(16,), epochs=4, micro_batch=50, rebuild_gap=20, seed=seed, shards=2)
        config = config.replace(learning_rate=0.01, lsh={"family": "simhash", "K": 4, "L": 3, "min_active": 20})
        return of_kind(run((2, n_workers), config, train)[1], "epoch", "loss")[-1][0]

    alone = [last_loss(1, seed) for seed in range(10)]
    together = [last_loss(2, seed) for seed in range(5)]
    # The interval in which one more run with one worker a rank would lie but for a chance of 1e-5 (Student, 9 degrees).
    reach = stats.t.ppf(1 - 0.5e-5, 9) * np.std(alone, ddof=1) * math.sqrt(1 + 1 / 10)
    print(f"one worker a rank {np.mean(alone):.4f} ± {reach:.4f}, two workers a rank {together}")
    assert np.abs(np.array(together) - np.mean(alone)).max() < reach
    assert reach < 0.5 * (math.log(60) - np.mean(alone))  # half of what is learned
