"""What a model folder tells about its training, whoever wrote it, and that labels and answers come back from it."""

import dataclasses
import datetime
import json

import numpy as np
import pytest
from problems import random_dataset

import slide_fast
from slide_fast import DataError, SlideClassifier, fit, load_model
from slide_fast.cli.main import main
from slide_fast.data import write_npz
from slide_fast.engine.checkpoints import Checkpoints
from slide_fast.engine.progress import Progress
from slide_fast.engine.tasks import RangeReport
from slide_fast.engine.training_info import history_table
from slide_fast.estimator.label_decoding import classes_of, form_of, places_of
from slide_fast.estimator.validation import as_labels
from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.common.storage.model_folder import save_model

N = 5
NAMES = ["pear", "apple", "", "é 10", "Fig"]  # in no order


def dataset(lists):
    """Samples whose only feature is their first label, or N."""
    features = [[own[0] if own else N] for own in lists]
    return Dataset(
        SparseRows(np.arange(len(lists) + 1), np.array(features, np.int32).ravel(), None, N + 1),
        rows_from_lists([sorted(own) for own in lists], N),
    )


ONE = dataset([[i % N] for i in range(100)])
SEVERAL = dataset([[i % N, (i + 1) % N] for i in range(100)])
SETTINGS = ["--hidden", "16", "--micro-batch", "10", "--epochs", "20", "--workers", "1", "--learning-rate", "0.05"]


def one_hot(n=N):
    return np.eye(n, N + 1, dtype=np.float32)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with samples, names of labels, and a run on those with one label each."""
    monkeypatch.chdir(tmp_path)
    write_npz("one.npz", ONE)
    write_npz("several.npz", SEVERAL)
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return tmp_path


def train(data, out, *more):
    assert main(["train", data, "--test", data, "--out", out, *SETTINGS, *more]) == 0


def check(facts, history):
    """The facts of a model of 100 samples that was tested on some."""
    assert history and facts["history"] == history and history[-1]["kind"] == "end"
    assert {event["kind"] for event in history} == {"epoch", "evaluation", "end"}
    assert facts["metrics"]["precision_at_1"] == history[-1]["precision_at_1"] and "ndcg_at_5" in facts["metrics"]
    assert facts["version"] == slide_fast.__version__ and facts["seconds"] == history[-1]["seconds"] > 0
    made = datetime.datetime.fromisoformat(facts["date"])
    assert made.utcoffset() == datetime.timedelta(0)
    assert abs((datetime.datetime.now(datetime.UTC) - made).total_seconds()) < 3600


def test_both_ways_to_train_leave_the_same_facts(place, capsys):
    train("one.npz", "run")
    model = SlideClassifier(hidden=(16,), micro_batch=10, n_workers=1)  # epochs and rate go by the samples
    model.fit(*ONE, eval_set=ONE).save("model")
    facts = [load_model("run").facts, load_model("model").facts]
    assert facts[0].keys() | {"labels_dtype"} == facts[1].keys() | {"labels_dtype"}
    check(facts[0], SlideClassifier.load("run").history_)
    check(facts[1], model.history_)
    assert SlideClassifier.load("model", mmap=True).history_ == model.history_
    assert [each["planned_epochs"] for each in facts] == [20, 10] and facts[0]["learning_rate"] == 0.05
    assert facts[1]["learning_rate"] == pytest.approx(0.01) and facts[1]["epochs"] == 10
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == facts[0]["history"]


def test_info_shows_it_for_people(place, capsys):
    train("one.npz", "run")
    capsys.readouterr()
    assert main(["info", "run"]) == 0
    facts, told = load_model("run").facts, capsys.readouterr().out
    for text in (
        f"trained        20 of 20 epochs, 200 steps, {facts['rebuilds']} rebuilds, {facts['seconds']:.1f} s",
        "rate           0.05 at most\n",
        "samples        100, 1 labels each, of those that have any\n",
        f"made           {facts['date']}, slide-numpy {slide_fast.__version__}\n",
        f"test           P@1 {facts['metrics']['precision_at_1']:.2%}, P@3 {facts['metrics']['precision_at_3']:.2%}",
        "     epoch   seconds      loss       P@1\n         …\n     11.00 ",
    ):
        assert text in told
    assert "history" not in told and main(["info", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["facts"] == facts


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"epochs": 2.0, "steps": 7},
        {"history": 3, "metrics": [], "epochs": "two"},
        {"history": [1, {}], "metrics": {"precision_at_1": "x"}, "steps": None},
        {"history": [{"epoch": "x", "step": [1]}], "metrics": {"precision_at_1": None}},
    ],
)
def test_folders_that_tell_less_are_read_and_shown(tmp_path, facts, capsys):
    model = dataclasses.replace(fit(Config(hidden=(4,), epochs=1), ONE, n_workers=1), facts=facts)
    save_model(tmp_path / "model", model)
    assert main(["info", str(tmp_path / "model")]) == 0
    loaded = SlideClassifier.load(tmp_path / "model")
    assert all(isinstance(event, dict) for event in loaded.history_) and form_of(model) == ("rows", 1.0)
    assert isinstance(loaded.predict(one_hot()), SparseRows)


def test_history_goes_on_with_further_training(tmp_path):
    model = SlideClassifier(hidden=(4,), n_workers=1).partial_fit(*ONE).partial_fit(*ONE)
    assert model.model_.facts["history"] == model.history_ and len(model.history_) == 4
    model.save(tmp_path)
    loaded = SlideClassifier.load(tmp_path).partial_fit(*ONE)
    assert loaded.history_[:4] == model.history_ and len(loaded.history_) == 6
    assert loaded.model_.facts["history"] == loaded.history_
    assert (
        loaded.set_params(epochs=1).fit(*ONE).model_.facts["history"] == loaded.history_ and len(loaded.history_) == 2
    )


def test_measures_are_those_of_the_very_network(tmp_path):
    config = Config(hidden=(4,), micro_batch=10, epochs=4)
    checkpoints = Checkpoints(tmp_path, every=1.5)
    fit(config, ONE, test=SEVERAL, n_workers=1, checkpoints=checkpoints)
    best = load_model(tmp_path / "best").facts
    assert best["metrics"]["precision_at_1"] == max(
        event["precision_at_1"] for event in best["history"] if event["kind"] == "evaluation"
    )
    goes_on = fit(config, ONE, n_workers=1, state=checkpoints.last())
    assert "metrics" not in goes_on.facts and {e["kind"] for e in goes_on.facts["history"]} >= {"evaluation", "end"}


def test_names_of_labels_are_the_classes_of_the_loaded_estimator(place):
    train("one.npz", "run", "--label-names", "names.txt")
    model = SlideClassifier.load("run")
    assert model.classes_.tolist() == NAMES and model.predict(one_hot()).tolist() == NAMES
    assert model.score(one_hot(), NAMES) == 1 and model.score("one.npz") == 1
    assert model.score(one_hot(), NAMES[::-1]) == 0.2
    wanted = ["Fig", "pear", "Fig"]
    shares = model.predict_proba(one_hot())
    assert np.allclose(model.predict_proba(one_hot(), labels=wanted), shares[:, [4, 0, 4]], rtol=1e-4)
    with pytest.raises(DataError, match="labels holds 'plum'"):
        model.decision_function(one_hot(), labels=["pear", "plum"])
    model.save("again")
    assert SlideClassifier.load("again").predict(one_hot()).tolist() == NAMES
    rows = as_labels([["é 10", "pear"], [], [""]], model.classes_).rows
    assert [sorted(rows.row(i)[0].tolist()) for i in range(3)] == [[0, 3], [], [2]]
    model.partial_fit(one_hot(), NAMES)
    assert model.classes_.tolist() == NAMES and model.predict(one_hot()).tolist() == NAMES


def test_a_name_of_two_labels_is_refused_where_it_matters(place):
    (place / "names.txt").write_text("pear\napple\npear\nfig\n\n", encoding="utf-8")
    train("one.npz", "run", "--label-names", "names.txt")
    model = SlideClassifier.load("run")
    assert model.predict(one_hot()).tolist() == ["pear", "apple", "pear", "fig", ""]
    assert places_of(["fig", "apple"], model.classes_, 1).tolist() == [3, 1]
    for ask in (lambda: model.predict_proba(one_hot(), labels=["fig", "pear"]),
                lambda: model.score(one_hot(2), ["pear", "apple"])):  # fmt: skip
        with pytest.raises(DataError, match="'pear' is the name of more than one label: 0 and 2; "):
            ask()


@pytest.mark.parametrize("named", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_answers_in_the_form_of_its_data(place, named):
    more = ["--label-names", "names.txt"] if named else []
    names = NAMES if named else list(range(N))
    train("one.npz", "one", *more)
    train("several.npz", "several", *more)
    one, several = SlideClassifier.load("one"), SlideClassifier.load("several/model")
    assert isinstance(one.predict(one_hot()), np.ndarray) and one.predict(one_hot()).tolist() == names
    assert one.labels_per_sample_ == 1 and several.labels_per_sample_ == 2
    answer = several.predict(one_hot(1))
    assert [sorted(own) for own in answer] == [sorted(names[:2])]
    assert one.predict_topk(one_hot(), k=1)[0].ravel().tolist() == names


def test_a_sample_without_labels_asks_for_lists():
    data = dataset([[0], [], [1], [2]])
    model = fit(Config(hidden=(4,), epochs=1), data, n_workers=1)
    assert form_of(model) == ("lists", 1.0)
    assert form_of(fit(Config(hidden=(4,), epochs=1), ONE, n_workers=1)) == ("classes", 1.0)


def test_names_of_labels_are_in_checkpoints(place):
    train("one.npz", "run", "--label-names", "names.txt", "--checkpoint-every", "10")
    assert load_model("run/checkpoints/best").label_names == NAMES
    options = ["train", "one.npz", "--test", "one.npz", "--out", "run", "--workers", "1", "--resume"]
    assert main([*options, "--epochs", "21"]) == 0
    model = load_model("run")
    assert model.label_names == classes_of(model).tolist() == NAMES and model.facts["epochs"] == 21
    assert [e["step"] for e in model.facts["history"] if e["kind"] == "epoch"] == list(range(10, 211, 10))


def test_what_is_no_folder_of_a_model_is_told_in_one_line(place):
    (place / "empty").mkdir()
    for path in ("nowhere", "empty", "names.txt", place / "one.npz"):
        with pytest.raises(slide_fast.ModelError, match="give the folder of a model or of a run") as caught:
            SlideClassifier.load(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_an_evaluation_after_which_nothing_was_trained_tells_no_loss():
    """With patience the network that is kept is evaluated at the end, on all test rows."""
    events = []
    fit(Config(hidden=(4,), epochs=3), ONE, test=SEVERAL, patience=5, n_workers=1, callback=events.append)
    evaluations = [event for event in events if event["kind"] == "evaluation"]
    assert [event["step"] for event in evaluations] == [1, 2, 3, 3]
    assert all(event["loss"] > 0 and event["samples_per_second"] > 0 for event in evaluations[:3])
    assert not {"loss", "active_neurons", "samples_per_second"} & set(evaluations[3])


def test_steps_without_labels_tell_no_loss():
    data, events = dataset([[0]] + [[]] * 19), []
    config = Config(hidden=(4,), epochs=1, micro_batch=1)
    fit(config, data, test=SEVERAL, eval_every=0.05, n_workers=1, callback=events.append)
    for kind in ("progress", "evaluation"):
        found = [event for event in events if event["kind"] == kind]
        assert len(found) == 20 and sum("loss" in event for event in found) == 1
        assert all("loss" not in event or event["loss"] > 0 and event["active_neurons"] > 0 for event in found)
    (epoch,) = (event for event in events if event["kind"] == "epoch")
    assert epoch["loss"] > 0 and "0.000" not in history_table(events)


def test_an_evaluation_of_a_restored_network_has_a_row_of_its_own(capsys):
    events = []
    config = Config(hidden=(4,), epochs=30, learning_rate=0.05)
    fit(config, ONE, test=ONE, patience=2, n_workers=1, callback=events.append)
    *_, last, kept = (event for event in events if event["kind"] == "evaluation")
    assert kept["step"] == last["step"] > kept["kept_epoch"] and "kept_epoch" not in last
    rows = history_table(events).splitlines()[-2:]
    assert [row.split()[0] for row in rows] == [f"{last['epoch']:.2f}", f"{kept['kept_epoch']:.2f}"]
    assert rows[0].split()[2:] == [f"{last['loss']:.3f}", f"{last['precision_at_1']:.2%}"]
    assert rows[1].split()[2:] == [f"{kept['precision_at_1']:.2%}"]


def test_s37_a_run_that_memorises_its_samples_says_so_once():
    data, events = random_dataset(0, n_samples=30, n_labels=9), []
    lsh = {"family": "simhash", "K": 2, "L": 2, "min_active": 2}
    settings = {"hidden": [8], "epochs": 6, "micro_batch": 5, "in_batch": 0.4, "overfit_limit": 0.0, "rebuild_gap": 2}
    fit(Config.from_dict({**settings, "learning_rate": 0.1, "lsh": lsh}), data, n_workers=1, callback=events.append)
    assert max(event.get("rebuilds", 0) for event in events) > 3
    assert [event["step"] for event in events if event["kind"] == "by_heart"] == [14]


@pytest.mark.parametrize("shards", [1, 2])
def test_buckets_used_is_the_share_of_the_buckets_of_all_shards(shards):
    data, events = random_dataset(0, n_samples=30, n_labels=40), []
    lsh = {"family": "simhash", "K": 1, "L": 3, "min_active": 2}  # two buckets in a table, both used
    settings = {"hidden": [8], "epochs": 1, "in_batch": 0.0, "shards": shards, "lsh": lsh}
    fit(Config.from_dict(settings), data, n_workers=1, callback=events.append)
    (epoch,) = (event for event in events if event["kind"] == "epoch")
    assert epoch["buckets_used"] == 1 and epoch["entries_kept"] == 1


def test_a_range_says_how_long_a_step_takes():
    progress = Progress()
    progress.add(RangeReport(12, 10, 1.0, 1.0, 6.0), 3)
    assert progress.step_seconds == 2 and (progress.n_samples, progress.n_unlabelled) == (12, 2)
