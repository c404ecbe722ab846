"""``slide train --resume``: what a run left is taken up again."""

import json
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.cli import training_run
from slide_fast.cli.main import main
from slide_fast.cli.run_folder import RunFolder
from slide_fast.data import write_xmc
from slide_fast.display.plots import read_curves
from slide_fast.engine import checkpoints
from slide_ref.common.errors import ConfigError
from slide_ref.common.storage.model_folder import load_model

TRAIN = ["train", "train.txt", "--test", "test.txt", "--workers", "1", "--epochs", "4", "--micro-batch", "7"]
SMALL = ["--hidden", "8", "--set", "lsh.min_active=10", "--set", "lsh.K=3", "--set", "lsh.L=2"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_xmc("train.txt", random_dataset(0, n_samples=60))
    write_xmc("test.txt", random_dataset(1, n_samples=20))


def interrupt_at(monkeypatch, step):
    fit = training_run.fit

    def interrupted(*args, callback, **options):
        def cut(event):
            callback(event)
            if event.get("step", 0) >= step:
                raise OSError("the power failed")

        return fit(*args, callback=cut, **options)

    monkeypatch.setattr(training_run, "fit", interrupted)


def steps_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["kind"], line["step"]) for line in lines]


def test_a_run_that_failed_goes_on_to_the_same_bytes(files, tmp_path, monkeypatch):
    assert main([*TRAIN, *SMALL, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 22)
        assert main([*TRAIN, *SMALL, "--out", "cut", "--checkpoint-every", "0.5", "--keep", "1"]) == 1
    left = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert left == ["best", "step-000000018"]
    assert main(["train", "train.txt", "--test", "test.txt", "--out", "cut", "--workers", "1", "--resume"]) == 0
    whole, cut = (load_model(tmp_path / run / "model") for run in ("whole", "cut"))
    assert all(np.array_equal(whole.arrays[name], cut.arrays[name]) for name in whole.arrays)
    assert steps_of(tmp_path / "whole") == steps_of(tmp_path / "cut")
    assert np.array_equal(*(read_curves(tmp_path / run)["precision_at_1"] for run in ("whole", "cut")))


def test_a_new_run_in_the_folder_clears_what_the_old_one_kept(files, tmp_path, capsys):
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    assert main(["info", "run"]) == 0
    assert "checkpoints step-000000027, step-000000036" in " ".join(capsys.readouterr().out.split())
    assert main([*TRAIN, *SMALL, "--out", "run"]) == 2
    assert main([*TRAIN, *SMALL, "--out", "run", "--overwrite"]) == 0
    assert not any((tmp_path / "run" / "checkpoints").glob("*"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")) == []


def test_what_a_kill_left_of_checkpoints_is_repaired_by_the_next_run(files, tmp_path):
    """One that was not complete is removed; one between the two renames of a replacement is found."""
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    kept = tmp_path / "run" / "checkpoints"
    (kept / ".step-000000030.saving" / "new").mkdir(parents=True)
    (kept / ".step-000000030.saving" / "new" / "W0.npy").write_bytes(b"half")
    for name in ("best", "step-000000036"):
        (kept / f".{name}.saving").mkdir()
        (kept / name).rename(kept / f".{name}.saving" / "old")
    assert main([*TRAIN, *SMALL, "--out", "run", "--epochs", "5", "--resume", "--keep", "3"]) == 0
    left = sorted(path.name for path in kept.iterdir())
    assert left == ["best", "step-000000027", "step-000000036", "step-000000045"]
    (kept / ".step-000000030.saving" / "new").mkdir(parents=True)
    assert main([*TRAIN, *SMALL, "--out", "run", "--overwrite"]) == 0
    assert list(kept.iterdir()) == []


def content_of(run):
    return {path.relative_to(run): zlib.crc32(path.read_bytes()) for path in run.rglob("*") if path.is_file()}


ANOTHER = ["train", "train.txt", "--out", "run", "--workers", "1", "--hidden", "4", "--overwrite"]


@pytest.mark.parametrize("more", [["--learning-rate", "1e20"], ["--labels", "missing"], ["--checkpoint-every", "1"]])
def test_a_new_run_that_fails_leaves_the_old_one_to_be_resumed(files, tmp_path, monkeypatch, more):
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    before = content_of(tmp_path / "run")
    assert len([path for path in before if path.name == "config.json"]) == 4  # model, best and two steps
    with monkeypatch.context() as patch:
        if "--checkpoint-every" in more:

            def full(*arguments):
                raise OSError(28, "No space left on device")

            patch.setattr(checkpoints, "save_arrays", full)
        assert main([*ANOTHER, *more]) == 1
    assert content_of(tmp_path / "run") == before
    assert main(["train", "train.txt", "--test", "test.txt", "--out", "run", "--resume", "--workers", "1"]) == 0


def test_what_a_new_run_saves_takes_the_place_of_old_checkpoints(files, tmp_path, monkeypatch):
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    interrupt_at(monkeypatch, 22)
    more = ["--checkpoint-every", "0.5", "--keep", "1", "--epochs", "4", "--micro-batch", "7"]
    assert main([*ANOTHER, *more]) == 1
    left = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["step-000000018"] and "hidden = [4]" in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize("has_saved", [False, True])
def test_after_a_kill_the_next_run_goes_on_with_what_belongs_together(files, tmp_path, has_saved):
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    before, run = content_of(tmp_path / "run"), tmp_path / "run"
    code = (
        "import os, sys; from slide_fast.cli import run_folder, training_run; from slide_fast.cli.main import main\n"
        "def die(self, event):\n"
        "    saved = any((self.path / 'checkpoints').glob('step-*'))\n"
        "    if event.get('step', 0) > 5 and saved == (sys.argv[1] == 'True'): os._exit(9)\n"
        "run_folder.RunFolder.record = die\n"
        "main(sys.argv[2:])"
    )
    more = [*ANOTHER, "--micro-batch", "7", *(["--checkpoint-every", "0.5"] if has_saved else [])]
    assert subprocess.run([sys.executable, "-c", code, str(has_saved), *more]).returncode == 9
    assert (run / ".before").exists() and content_of(run) != before
    with pytest.raises(ConfigError, match="--resume continues"), RunFolder(run):
        pass
    assert not (run / ".before").exists() and (content_of(run) == before) == (not has_saved)
    assert main(["train", "train.txt", *([] if has_saved else ["--test", "test.txt"]), "--out", "run", "--resume"]) == 0
    assert load_model(run / "model").config.hidden == ((4,) if has_saved else (8,))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--out", "nowhere", "--resume"], 1, "no checkpoint to resume from; train with --checkpoint-every"),
        (["--out", "run", "--resume", "--set", "lsh.K=5"], 2, "the run to resume has lsh.K=3, not lsh.K=5"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (["--out", "run", "--resume", "--preset", "wide"], 2, "the run to resume has hidden="),
                (["--out", "run", "--resume", "--epochs", "0"], 2, "'0' is not a whole number of 1 or more"),
                (["--out", "new", "--checkpoint-every", "0"], 2, "'0' is not a number above 0"),
                (["--out", "new", "--patience", "0"], 2, "'0' is not a whole number of 1 or more"),
            )
        ),
    ],
)
def test_what_cannot_be_resumed_is_refused_in_one_line(files, tmp_path, capsys, options, code, message):
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "4"]) == 0
    capsys.readouterr()
    try:
        found = main(["train", "train.txt", "--test", "test.txt", *options])
    except SystemExit as exit:
        found = exit.code
    errors = capsys.readouterr().err.strip().splitlines()
    assert found == code and message in errors[-1]


def test_resume_with_other_data_is_refused(files, tmp_path, capsys):
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "4"]) == 0
    assert main(["train", "test.txt", "--out", "run", "--resume"]) == 1
    assert "differ from those of the run to resume" in capsys.readouterr().err
    assert load_model(tmp_path / "run" / "model")


def test_checkpoints_alone_are_resumed(files, tmp_path, capsys):
    """Copied to another place, or all that is left of a run."""
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    shutil.copytree("run/checkpoints", "copy/checkpoints")
    assert main([*TRAIN, *SMALL, "--out", "copy"]) == 2
    assert "copy: holds checkpoints of a run; --resume continues from its last" in capsys.readouterr().err
    assert main(["train", "train.txt", "--test", "test.txt", "--out", "copy", "--workers", "1", "--resume"]) == 0
    whole, again = (load_model(tmp_path / run / "model").arrays for run in ("run", "copy"))
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    Path("other/checkpoints/step-000000009").mkdir(parents=True)  # of something else
    assert main([*TRAIN, *SMALL, "--out", "other", "--overwrite"]) == 1
    assert "other: contains files other than those of a run" in capsys.readouterr().err


def test_curves_are_drawn_though_the_resumed_run_has_no_test_samples(files, capsys):
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    Path("run/curves.png").write_bytes(b"old")
    capsys.readouterr()
    assert main(["train", "train.txt", "--out", "run", "--epochs", "5", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["curves"] == "run/curves.png"
    assert Path("run/curves.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_says_where_the_best_network_is(files, capsys, monkeypatch):
    fit = training_run.fit

    def interrupted(*args, callback, **options):
        def press(event):
            callback(event)
            if event["kind"] == "evaluation" and event["step"] == 18:
                signal.raise_signal(signal.SIGINT)

        return fit(*args, callback=press, **options)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(training_run, "fit", interrupted)
    try:
        assert main([*TRAIN, *SMALL, "--out", "run", "--patience", "9"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    told = "the model is in run/model; the best network so far is in run/checkpoints/best; train with --resume"
    assert told in capsys.readouterr().err and load_model("run/checkpoints/best").facts["steps"] in (9, 18)


def test_patience_needs_test_samples(files, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "train.txt", "--out", "run", "--patience", "3"])
    assert "needs samples to evaluate on" in capsys.readouterr().err
    assert main([*TRAIN, *SMALL, "--out", "run", "--patience", "1", "--epochs", "99", "--learning-rate", "0.3"]) == 0
    assert load_model("run/model").facts["epochs"] < 99


@pytest.mark.parametrize(
    "ended_by", [["--epochs", "4"], ["--patience", "1", "--epochs", "99", "--learning-rate", "0.3"]]
)
def test_a_complete_run_says_so_and_its_files_stay_as_they_are(files, tmp_path, capsys, ended_by):
    command = [*TRAIN, *SMALL, *ended_by, "--out", "run", "--checkpoint-every", "1"]
    assert main(command) == 0
    metrics, history = (tmp_path / "run" / "metrics.jsonl").read_bytes(), load_model("run/model").facts["history"]
    assert "nothing is left to train" not in capsys.readouterr().err
    for _ in range(2):
        assert main([*command, "--resume"]) == 0
        assert "run: the run is complete, nothing is left to train; give more --epochs" in capsys.readouterr().err
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
        assert load_model("run/model").facts["history"] == history


def test_a_new_run_that_is_interrupted_before_its_first_step_leaves_what_was_there(files, capsys, monkeypatch):
    assert main([*TRAIN, *SMALL, "--out", "run"]) == 0
    before = content_of(Path("run"))
    fit = training_run.fit

    def interrupted(*args, callback, **options):
        def press(event):
            if event["kind"] == "memory":
                signal.raise_signal(signal.SIGINT)
            callback(event)

        return fit(*args, callback=press, **options)

    monkeypatch.setattr(training_run, "fit", interrupted)
    assert main([*TRAIN, *SMALL, "--out", "new"]) == 130
    stderr = capsys.readouterr().err
    assert "interrupted before the first step; nothing is saved" in stderr and "is complete" not in stderr
    assert not Path("new").exists()
    assert main([*ANOTHER]) == 130 and content_of(Path("run")) == before


@pytest.mark.parametrize("more", [[], ["--checkpoint-every", "0.5", "--patience", "2"]])
def test_a_new_run_whose_time_is_over_before_its_first_step_leaves_what_was_there(files, capsys, more):
    command = [*TRAIN, *SMALL, *more, "--out"]
    assert main([*command, "run"]) == 0
    before = content_of(Path("run"))
    for run in ("run", "new"):
        capsys.readouterr()
        assert main([*command, run, "--overwrite", "--max-seconds", "1e-9"]) == 2
        stderr = capsys.readouterr().err
        assert "--max-seconds 1e-09 were over before the first step; nothing is saved; give more" in stderr
    assert content_of(Path("run")) == before and not Path("new").exists()


def test_what_a_resumed_run_trained_is_where_the_next_one_begins(files, capsys):
    """Also where it wrote no checkpoints on its way."""
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 0
    assert main([*TRAIN, *SMALL, "--out", "run", "--resume", "--epochs", "6"]) == 0
    assert main([*TRAIN, *SMALL, "--out", "run", "--resume", "--epochs", "4"]) == 2
    assert "the run to resume has done 54 steps, and 36 are planned" in capsys.readouterr().err
    assert load_model("run/model").facts["steps"] == 54


def test_a_finished_run_that_goes_on_keeps_its_last_evaluation(files):
    command = [*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]
    assert main(command) == 0
    before = [line for line in Path("run/metrics.jsonl").read_text().splitlines() if '"end"' not in line]
    for epochs in ("6", "6", "7"):
        with Path("run/metrics.jsonl").open("a") as file:
            file.write("[1]\n")  # of something else
        assert main([*command, "--epochs", epochs, "--resume"]) == 0
        after = Path("run/metrics.jsonl").read_text().splitlines()
        assert after[: len(before)] == before and len(steps_of(Path("run"))) == len({*steps_of(Path("run"))})


def test_metrics_that_are_gone_are_written_from_the_checkpoint(files):
    command = [*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]
    assert main(command) == 0
    before = steps_of(Path("run"))
    Path("run/metrics.jsonl").unlink()
    assert main([*command, "--resume"]) == 0 and steps_of(Path("run")) == before


def test_a_second_signal_within_training_says_what_is_left(files, capsys, monkeypatch):
    fit = training_run.fit

    def interrupted(*args, callback, **options):
        def press(event):
            callback(event)
            if event.get("step", 0) >= 22:
                raise KeyboardInterrupt

        return fit(*args, callback=press, **options)

    monkeypatch.setattr(training_run, "fit", interrupted)
    for more, left in (
        ([], "what was trained is lost"),
        (["--checkpoint-every", "1"], "--resume continues from the last"),
    ):
        assert main([*TRAIN, *SMALL, "--out", "run", *more]) == 130
        assert f"slide: interrupted; {left}" in capsys.readouterr().err


def test_ctrl_c_while_curves_are_drawn_says_where_the_model_is(files, capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "plot", pressed)
    assert main([*TRAIN, *SMALL, "--out", "run"]) == 130
    model = Path("run") / "model"
    assert f"slide: interrupted; the model is in {model}" in capsys.readouterr().err and model.is_dir()


@pytest.fixture
def spoil(monkeypatch):
    """Remove the run folder, or put a file in its place, once some steps are trained."""

    def at(step, with_file):
        fit = training_run.fit

        def spoiled(*args, callback, **options):
            def remove(event):
                if event.get("step", 0) >= step and Path("run/metrics.jsonl").exists():
                    shutil.rmtree("run")
                    if with_file:
                        Path("run").touch()
                callback(event)

            return fit(*args, callback=remove, **options)

        monkeypatch.setattr(training_run, "fit", spoiled)

    return at


def test_a_folder_removed_during_training_gets_the_model_and_a_line_says_what_is_lost(files, capsys, spoil):
    spoil(9, with_file=False)
    assert main([*TRAIN, *SMALL, "--out", "run"]) == 0
    told = "run: was removed during training; the model is complete, but config.toml and metrics.jsonl are lost"
    assert told in capsys.readouterr().err.splitlines()
    assert load_model("run/model").facts["epochs"] == 4


@pytest.mark.parametrize("more", [[], ["--checkpoint-every", "1"]])
def test_where_nothing_can_be_written_any_more_a_line_says_what_is_lost(files, capsys, spoil, more):
    spoil(9, with_file=True)
    assert main([*TRAIN, *SMALL, "--out", "run", *more]) == 1
    place, why = ("run/checkpoints/best", "Not a directory") if more else ("run/model", "File exists")
    told = f"{place}: cannot be written ({why}); choose another folder or free some space; what was trained is lost"
    assert capsys.readouterr().err.splitlines()[-1] == f"slide: error: {told}"


def test_a_run_that_fails_before_its_first_checkpoint_leaves_its_best_network(files, capsys, monkeypatch):
    command = [*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "99"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 22)
        assert main(command) == 1
    told = "the power failed; the best network so far is in run/checkpoints/best"
    assert capsys.readouterr().err.splitlines()[-1] == f"slide: error: {told}"
    assert load_model("run/checkpoints/best").n_labels and Path("run/config.toml").exists()
    assert main(command) == 2
    assert "run: holds the best model of a run; --overwrite replaces it" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0 and load_model("run/model").facts["epochs"] == 4


def test_a_run_that_fails_after_a_checkpoint_says_how_it_continues(files, capsys, monkeypatch):
    interrupt_at(monkeypatch, 22)
    assert main([*TRAIN, *SMALL, "--out", "run", "--checkpoint-every", "1"]) == 1
    told = "the power failed; --resume continues from the last checkpoint"
    assert capsys.readouterr().err.splitlines()[-1] == f"slide: error: {told}"
