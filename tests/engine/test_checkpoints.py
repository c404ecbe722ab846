"""Runs that go on: resumed from a checkpoint to the bit, trained further, stopped early with the best network kept."""

import dataclasses
import json
import math
import shutil
import signal

import numpy as np
import pytest
from problems import random_dataset, without_clock

from slide_fast.engine.checkpoints import Checkpoints, PastRuns, TrainingState, load_state, save_state
from slide_fast.engine.learner import Learner
from slide_fast.engine.progress import Progress
from slide_fast.engine.run import Run
from slide_fast.training import TrainingInterrupted, fit, fit_with_state
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.model_folder import load_model

TRAIN, TEST = random_dataset(0, n_samples=60), random_dataset(1, n_samples=30)
CONFIG = Config(hidden=(8,), micro_batch=7, epochs=4, rebuild_gap=4, learning_rate=0.02, decay="constant").replace(
    lsh={"family": "simhash", "K": 4, "L": 3, "bucket_size": 4, "budget": 5, "min_active": 10}
)
TWO_TABLES = CONFIG.replace(hidden=(8, 12), hidden_lsh={1: {"K": 3, "L": 2, "budget": 4}}, decay="cosine")
HIDDEN_TABLES = TWO_TABLES.replace(lsh={"min_active": 10**6})  # the output layer has none


def assert_same_bytes(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if first[name].tobytes() != second[name].tobytes()] == []


class Cut(Exception):
    """What ends a run in the middle."""


def cut_at(step):
    def callback(event):
        if event.get("step", 0) >= step:
            raise Cut

    return callback


@pytest.mark.parametrize("cut", [1, 14, 36, *(pytest.param(cut, marks=pytest.mark.slow) for cut in (9, 30))])
@pytest.mark.parametrize("every", [0.3, 1.0])
@pytest.mark.parametrize("config", [
    TWO_TABLES, HIDDEN_TABLES, *(pytest.param(config, marks=pytest.mark.slow)
                  for config in (CONFIG, CONFIG.replace(optimizer="sgd", momentum=0.5)))
])  # fmt: skip
def test_s18_a_resumed_run_ends_with_the_bytes_of_one_that_was_not_cut(tmp_path, config, every, cut):
    weights = np.random.default_rng(0).exponential(size=60)
    whole, state = fit_with_state(config, TRAIN, n_workers=1, test=TEST, weights=weights)
    checkpoints = Checkpoints(tmp_path, every, keep=1)
    options = {"n_workers": 1, "test": TEST, "weights": weights, "checkpoints": checkpoints}
    with pytest.raises(Cut):
        fit(config, TRAIN, callback=cut_at(cut), **options)
    earlier = checkpoints.last() if checkpoints.saved() else None
    resumed, end = fit_with_state(config, TRAIN, state=earlier, **options)
    assert_same_bytes(whole.arrays, resumed.arrays)
    assert_same_bytes(state.arrays, end.arrays)
    assert without_clock(whole.facts) == without_clock(resumed.facts) and state.past == end.past


def test_a_run_goes_on_with_another_number_of_workers(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1.0)
    with pytest.raises(Cut):
        fit(CONFIG, TRAIN, n_workers=2, checkpoints=checkpoints, callback=cut_at(20))
    steps = []
    model = fit(
        CONFIG, TRAIN, n_workers=3, checkpoints=checkpoints, state=checkpoints.last(),
        callback=lambda event: steps.append(event["step"]) if "step" in event else None,
    )  # fmt: skip
    assert steps[0] == 18 and model.facts["steps"] == 36 and model.facts["epochs"] == 4


@pytest.fixture
def ctrl_c():
    """Ctrl-C works, also where the tests run in the background of a shell that has put it out of use."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("in_batch", [0.6, 1.0])
@pytest.mark.parametrize("after", [3, 9, 18, 21, 27])
def test_s18_a_run_resumed_after_ctrl_c_ends_with_the_bytes_of_one_without(tmp_path, ctrl_c, after, in_batch):
    evaluations = {"whole": [], "parts": []}

    def note(name):
        def callback(event):
            if event["kind"] == "evaluation":
                evaluations[name].append((event["step"], event["precision_at_1"]))
            if name == "parts" and event.get("step") == after and not pressed:
                pressed.append(True)
                signal.raise_signal(signal.SIGINT)

        return callback

    pressed, config = [], CONFIG.replace(in_batch=in_batch)
    whole = fit(config, TRAIN, n_workers=1, test=TEST, callback=note("whole"))
    checkpoints = Checkpoints(tmp_path)
    options = {"n_workers": 1, "test": TEST, "checkpoints": checkpoints, "callback": note("parts")}
    with pytest.raises(TrainingInterrupted):
        fit(config, TRAIN, **options)
    resumed = fit(config, TRAIN, state=checkpoints.last(), **options)
    assert_same_bytes(whole.arrays, resumed.arrays)
    in_two = {"history": "with an epoch in two parts"}
    assert without_clock(whole.facts) | in_two == without_clock(resumed.facts) | in_two
    assert evaluations["parts"] == evaluations["whole"]


def test_the_last_checkpoints_and_the_best_model_are_kept(tmp_path):
    scores = {}

    def callback(event):
        if event["kind"] == "evaluation" and event["step"] not in scores:
            scores[event["step"]] = event["precision_at_1"]

    checkpoints = Checkpoints(tmp_path, every=0.5, keep=3)
    fit(CONFIG, TRAIN, n_workers=1, test=TEST, eval_every=0.5, checkpoints=checkpoints, callback=callback)
    assert [path.name for path in checkpoints.saved()] == ["step-000000027", "step-000000032", "step-000000036"]
    del scores[36]  # the evaluation after the end, on all rows
    best = load_model(tmp_path / "best")
    assert best.facts["steps"] == max(scores, key=lambda step: (scores[step], -step))
    assert checkpoints.all_saved() == [*checkpoints.saved(), tmp_path / "best"]
    assert {*checkpoints.all_saved()} == {*tmp_path.iterdir()}
    for path in checkpoints.all_saved():
        shutil.rmtree(path)
    assert checkpoints.all_saved() == []
    with pytest.raises(ModelError, match="no checkpoint"):
        checkpoints.last()


def test_a_finished_run_goes_on_for_more_epochs(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=2.0)
    config = CONFIG.replace(in_batch=0.0)
    whole = fit(config, TRAIN, n_workers=1)
    fit(config.replace(epochs=2), TRAIN, n_workers=1, checkpoints=checkpoints)
    further = fit(config, TRAIN, n_workers=1, checkpoints=checkpoints, state=checkpoints.last())
    assert_same_bytes(whole.arrays, further.arrays)


@pytest.mark.parametrize(  # rebuilds come after 4, 6 and 8
    "n_steps", [6, 7, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 10))]
)
@pytest.mark.parametrize(
    "config",
    [CONFIG, TWO_TABLES, CONFIG.replace(lsh={"L": 0}), CONFIG.replace(lsh={"min_active": 60})],
    ids=["one layer", "two layers", "no tables", "dense"],
)
def test_s32_a_run_of_fewer_epochs_than_were_wanted_asks_tables_that_are_built(tmp_path, monkeypatch, config, n_steps):
    config, checkpoints = config.replace(in_batch=0.34, epochs=2), Checkpoints(tmp_path, every=0.01)
    with pytest.raises(Cut):
        fit(config.replace(epochs=99), TRAIN, n_workers=1, checkpoints=checkpoints, callback=cut_at(n_steps))
    state, step, asked = checkpoints.last(), Learner.train_step, []

    def train_step(self, batch):
        if not batch.in_batch:
            asked.append(batch.step)
            assert all(tables.offsets[:, -1].all() for tables in self.tables.values() if tables.offsets.size)
        return step(self, batch)

    monkeypatch.setattr(Learner, "train_step", train_step)
    first = state.progress.step + 1
    model = fit(config, TRAIN, n_workers=1, checkpoints=checkpoints, state=state)
    assert asked == list(range(max(first, 7), 19)) and model.facts["steps"] == 18  # 6 of 18 steps ask none


def test_s32_a_finished_run_that_asked_no_table_builds_none_when_it_is_resumed(tmp_path, monkeypatch):
    config, checkpoints = CONFIG.replace(in_batch=1.0), Checkpoints(tmp_path, every=4.0)
    whole = fit(config, TRAIN, n_workers=1, checkpoints=checkpoints)
    monkeypatch.setattr(Run, "rebuild", lambda run: pytest.fail("tables are built"))
    resumed = fit(config, TRAIN, n_workers=1, checkpoints=checkpoints, state=checkpoints.last())
    assert_same_bytes(whole.arrays, resumed.arrays)


def test_patience_ends_a_run_and_gives_the_best_network_back():
    seen = {}

    def callback(event):
        if event["kind"] == "evaluation":
            seen.setdefault(event["step"], event["precision_at_1"])

    config = CONFIG.replace(epochs=50, in_batch=0.0, learning_rate=0.3)
    model = fit(config, TRAIN, n_workers=1, test=TEST, patience=3, callback=callback)
    steps = list(seen)
    best = max(steps, key=lambda step: (seen[step], -step))
    assert steps.index(best) == len(steps) - 4 and len(steps) < 50
    epochs = best // 9
    alone = fit(config.replace(epochs=epochs), TRAIN, n_workers=1)
    assert_same_bytes(model.arrays, alone.arrays)


def test_patience_survives_an_end(tmp_path):
    config = CONFIG.replace(epochs=50, learning_rate=0.3)
    options = {"n_workers": 1, "test": TEST, "patience": 3}
    whole = fit(config, TRAIN, **options)
    checkpoints = Checkpoints(tmp_path, every=1.0)
    with pytest.raises(Cut):
        fit(config, TRAIN, checkpoints=checkpoints, callback=cut_at(whole.facts["steps"] - 2), **options)
    resumed = fit(config, TRAIN, checkpoints=checkpoints, state=checkpoints.last(), **options)
    assert_same_bytes(whole.arrays, resumed.arrays)


def test_s13_further_training_counts_on():
    """Two runs, one after the other, are one run where nothing but the numbers of steps and epochs ties them."""
    config = CONFIG.replace(epochs=1, in_batch=0.0, lsh={"min_active": 60})
    whole = fit(config.replace(epochs=3), TRAIN, n_workers=1)
    state = None
    for _ in range(3):
        model, state = fit_with_state(config, TRAIN, n_workers=1, state=state)
    assert_same_bytes(whole.arrays, model.arrays)
    assert model.facts["epochs"] == 3 and model.facts["steps"] == 27 and state.past == PastRuns(27, 3, 6)


def test_a_state_comes_back_from_its_folder(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1.0, keep=9)
    fit(TWO_TABLES, TRAIN, n_workers=1, checkpoints=checkpoints)
    state = checkpoints.last()
    save_state(tmp_path / "again", state)
    again = load_state(tmp_path / "again")
    assert_same_bytes(state.arrays, again.arrays)
    assert (again.config, again.past, again.progress, again.data) == (
        state.config, state.past, state.progress, state.data,
    )  # fmt: skip


def test_s12_second_moments_of_each_weight_are_read_as_their_means_over_the_rows(tmp_path):
    """Earlier releases had one a weight."""
    checkpoints = Checkpoints(tmp_path, every=4.0)
    fit(CONFIG, TRAIN, n_workers=1, checkpoints=checkpoints)
    state = checkpoints.last()
    ones = {f"W_v{l}": np.ones_like(state.arrays[f"W{l}"]) * np.arange(8, dtype=np.float32) for l in (0, 1)}
    save_state(tmp_path / "old", dataclasses.replace(state, arrays=state.arrays | ones))
    again = load_state(tmp_path / "old").arrays
    assert_same_bytes(again, state.arrays | {name: np.full(len(v), 3.5, np.float32) for name, v in ones.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "model"}, "does not describe a checkpoint"),
        ({"format_version": 99}, "format 99 is newer than this release reads; upgrade"),
        ({"progress": {}}, "incomplete checkpoint"),
        ({"before": {"steps": 1, "hours": 2}}, "incomplete checkpoint"),
        ({"config": {"epochs": -1}}, "incomplete checkpoint"),
        ({"n_labels": 3}, "its arrays do not match its settings"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, change, message):
    checkpoints = Checkpoints(tmp_path, every=4.0)
    fit(CONFIG, TRAIN, n_workers=1, checkpoints=checkpoints)
    path = checkpoints.saved()[-1] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        checkpoints.last()


def test_a_damaged_checkpoint_says_from_which_one_the_run_can_go_on(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1.0)
    fit(CONFIG, TRAIN, n_workers=1, checkpoints=checkpoints)
    (checkpoints.saved()[-1] / "W0.npy").write_bytes(b"")
    with pytest.raises(ModelError, match="036/W0.npy: .*; or remove this checkpoint to resume from step-000000027$"):
        checkpoints.last()
    shutil.rmtree(checkpoints.saved()[-1])
    fit(CONFIG, TRAIN, n_workers=1, checkpoints=checkpoints, state=checkpoints.last())


def test_a_best_network_that_is_gone_says_how_the_run_can_go_on(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1.0)
    fit(CONFIG, TRAIN, n_workers=1, test=TEST, checkpoints=checkpoints)
    shutil.rmtree(tmp_path / "best")
    longer, more = CONFIG.replace(epochs=5), {"n_workers": 1, "test": TEST, "checkpoints": checkpoints}
    with pytest.raises(ModelError, match="best/config.json: cannot be read .*; or go on without patience$"):
        fit(longer, TRAIN, patience=3, state=checkpoints.last(), **more)
    fit(longer, TRAIN, state=checkpoints.last(), **more)


def test_a_run_does_not_go_on_with_other_data_or_settings(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=4.0)
    fit(CONFIG, TRAIN, n_workers=1, checkpoints=checkpoints)
    state = checkpoints.last()
    with pytest.raises(ConfigError, match="has lsh.K=4, not lsh.K=5"):
        fit(CONFIG.replace(lsh={"family": "simhash", "K": 5}), TRAIN, state=state)
    with pytest.raises(DataError, match="differ from .*; give the same file, weights and validation fraction"):
        fit(CONFIG, TEST, state=state)
    with pytest.raises(DataError, match="differ from those of the run to resume"):
        fit(CONFIG, TRAIN, weights=np.arange(60.0), state=state)
    with pytest.raises(DataError, match="50 labels, but the network was trained on 60"):
        fit(CONFIG, random_dataset(0, n_labels=50), state=state)
    with pytest.raises(ConfigError, match="the network cannot be trained further"):
        fit(CONFIG.replace(hidden=(9,)), TRAIN, state=TrainingState(CONFIG, 30, 60, state.arrays))


@pytest.mark.parametrize(("every", "keep"), [(0, 1), (math.nan, 1), ("1", 1), (1, 0), (1, 2.5)])
def test_a_schedule_of_checkpoints_must_make_sense(tmp_path, every, keep):
    with pytest.raises(ConfigError, match=r"^every is .* above 0|^keep is .* 1 or more"):
        Checkpoints(tmp_path, every, keep)


@pytest.mark.parametrize("lsh", [{"family": "centroid"}, {"family": "simhash", "K": 3, "L": 4}])
def test_s37_tables_filled_in_a_shorter_run_are_empty_in_one_with_more_epochs(tmp_path, lsh):
    config = Config(hidden=(16,), micro_batch=20, epochs=1, overfit_limit=0.01).replace(lsh={"min_active": 10, **lsh})
    train = random_dataset(5, n_samples=200, n_labels=60)
    checkpoints = Checkpoints(tmp_path, every=1.0)
    fit(config, train, n_workers=1, checkpoints=checkpoints)
    assert checkpoints.last().progress.all_rebuilt > 0
    longer, events, own = config.replace(epochs=5), [], []
    fit(longer, train, n_workers=1, state=checkpoints.last(), callback=events.append)
    fit(longer, train, n_workers=1, callback=own.append)
    epochs, as_one = ([e for e in some if e["kind"] == "epoch"] for some in (events, own))
    assert "by_heart" in [event["kind"] for event in own]  # else this test says nothing
    for event, other in zip(epochs[1:], as_one[2:], strict=False):
        assert "bucket_load" not in event and event["active_neurons"] == pytest.approx(
            other["active_neurons"], rel=0.05
        )


def test_a_run_resumed_with_evaluations_closer_together_goes_on(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1.0)
    fit(CONFIG, TRAIN, test=TEST, n_workers=1, eval_every=9.0, checkpoints=checkpoints)
    options = {"test": TEST, "n_workers": 1, "checkpoints": checkpoints, "state": checkpoints.last()}
    epochs = []

    def note(event):
        if event["kind"] == "evaluation":
            epochs.append(event["epoch"])

    fit(CONFIG.replace(epochs=6), TRAIN, callback=note, **options)
    assert epochs == [4, 5, 6]


def test_the_last_checkpoint_knows_the_best_network_that_is_kept_with_it(tmp_path, monkeypatch):
    scores = iter([0.1, 0.9, 0.9, 0.5, 0.6, 0.9])  # of four epochs, and at the end of both runs, of the network kept
    evaluate = Run.evaluate

    def scored(run, *args, **options):
        return evaluate(run, *args, **options) | {"precision_at_1": next(scores)}

    monkeypatch.setattr(Run, "evaluate", scored)
    checkpoints = Checkpoints(tmp_path, every=1.0)
    options = {"test": TEST, "n_workers": 1, "patience": 9, "checkpoints": checkpoints}
    first = fit(CONFIG.replace(epochs=2), TRAIN, **options)
    state, best = checkpoints.last(), load_model(tmp_path / "best")
    assert state.progress.best_score == 0.9 and state.progress.best_step == best.facts["steps"]
    model, _ = fit_with_state(CONFIG, TRAIN, state=state, **options)
    assert_same_bytes(model.arrays, first.arrays)  # 0.5 and 0.6 are worse


def test_a_run_that_did_not_look_for_the_best_network_leaves_no_lack_of_progress(tmp_path, monkeypatch):
    """Else the next run with patience ends at once, with the best network of the first in place of a better one."""
    scores = iter([0.5, 0.1, 0.5, 0.6, 0.9, 0.9, 0.9, 0.9])  # of three runs of two epochs, each with that of its end
    evaluate = Run.evaluate

    def scored(run, *args, **options):
        return evaluate(run, *args, **options) | {"precision_at_1": next(scores)}

    monkeypatch.setattr(Run, "evaluate", scored)
    checkpoints, watched = Checkpoints(tmp_path), Checkpoints(tmp_path, every=1.0)
    fit(CONFIG.replace(epochs=2), TRAIN, test=TEST, n_workers=1, patience=1, checkpoints=watched)
    assert checkpoints.last().progress.n_worse == 1
    options = {"test": TEST, "n_workers": 1, "checkpoints": checkpoints}
    better = fit(CONFIG.replace(epochs=4), TRAIN, state=checkpoints.last(), **options)
    model = fit(CONFIG.replace(epochs=4), TRAIN, state=checkpoints.last(), patience=1, **options)
    assert_same_bytes(model.arrays, better.arrays)


def test_a_row_about_the_best_network_tells_no_loss_of_a_later_one(tmp_path, monkeypatch):
    checkpoints, events = Checkpoints(tmp_path, every=1.0), []
    monkeypatch.setattr(Run, "judge_last", lambda run: None)
    state = None
    for patience in (9, 1):
        fit(CONFIG, TRAIN, test=TEST, n_workers=1, checkpoints=checkpoints, state=state, patience=patience,
            callback=events.append)  # fmt: skip
        state = checkpoints.last()
        state.progress.n_worse = 1
    last = [event for event in events if event["kind"] == "evaluation"][-1]
    assert "kept_epoch" in last and "loss" not in last


def test_s13_an_epoch_that_was_begun_is_counted_where_the_state_was_not_kept():
    model = fit(CONFIG.replace(epochs=1), TRAIN, n_workers=1)
    begun = dataclasses.replace(model, facts=model.facts | {"epochs": 1.25})  # as a run has that its time ended
    assert TrainingState.of(begun).past.epochs == 2


def test_s32_tables_built_after_the_last_in_batch_step_are_kept():
    config = Config(scope="batch", in_batch=0.5, epochs=2, micro_batch=1)
    progress = Progress(step=4, rebuilds=2, rebuilt=4, all_rebuilt=4)
    state = TrainingState(config, 1, 2 * config.lsh.min_active, {}, progress=progress)
    assert not state.has_early_tables(config, 4)
    assert state.has_early_tables(config.replace(epochs=3), 4)


def test_a_state_without_arrays_is_refused():
    _, state = fit_with_state(CONFIG.replace(epochs=1), TRAIN, n_workers=1)
    with pytest.raises(ConfigError, match="state lacks the arrays W0, W1, b0, b1"):
        fit(CONFIG, TRAIN, n_workers=1, state=state.without_arrays())


def test_samples_of_another_kind_are_refused():
    with pytest.raises(DataError, match="training data: features and labels must be SparseRows"):
        fit(CONFIG, Dataset([[1.0]], [[0]]), n_workers=1)
