"""The run folder: tried before training, complete or untouched after it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slide_fast.cli.main import main
from slide_fast.cli.run_folder import RunFolder, json_line
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, SlideError
from slide_ref.common.parameters import array_shapes
from slide_ref.common.storage.model_folder import Model, find_model, load_model, save_model

CONFIG = Config(hidden=(2,))


def make_model(bias=0.0):
    shapes = array_shapes(CONFIG, 3, 4)
    arrays = {name: np.full(shape, bias, dtype=np.float32) for name, shape in shapes.items() if "_" not in name}
    return Model(CONFIG, 3, 4, arrays, {}, None, None)


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(path, model=None, failure=None):
    with RunFolder(path, replaces=True) as folder:
        folder.begin(CONFIG, "slide train x\n --out y")
        folder.record({"kind": "progress"})
        folder.record({"kind": "epoch", "loss": float("nan")})
        if failure is not None:
            raise failure
        folder.save(model)


def test_a_run_leaves_its_files(tmp_path):
    path = tmp_path / "a" / "run"
    run(path, make_model(1.0))
    assert (path / "config.toml").read_text().startswith("# slide train x? --out y\nhidden = [2]\n")
    assert json.loads((path / "metrics.jsonl").read_text()) == {"kind": "epoch", "loss": None}
    assert load_model(find_model(path)).arrays["b1"].tolist() == [1.0] * 4
    assert find_model(path / "model") == path / "model"


def test_events_are_on_the_disk_at_once(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.begin(CONFIG, "")
        folder.record({"kind": "end"})
        assert (tmp_path / "run" / "metrics.jsonl").read_text() == '{"kind": "end"}\n'


@pytest.mark.parametrize("failure", [SlideError("no"), KeyboardInterrupt()])
def test_a_failed_run_leaves_nothing_behind(tmp_path, failure):
    with pytest.raises(type(failure)):
        run(tmp_path / "a" / "run", failure=failure)
    assert not (tmp_path / "a").exists()


def test_a_failed_run_leaves_an_earlier_one_as_it_was(tmp_path):
    path = tmp_path / "run"
    run(path, make_model(1.0))
    (path / "curves.png").write_bytes(b"picture")
    before = snapshot(path)
    with pytest.raises(SlideError):
        run(path, failure=SlideError("no"))
    assert snapshot(path) == before


@pytest.mark.parametrize("n_moves", range(6))
def test_files_that_cannot_all_be_set_aside_are_put_back(tmp_path, monkeypatch, n_moves):
    path, replace, calls = tmp_path / "run", Path.replace, []
    run(path, make_model(1.0))
    for name in ("curves.png", "checkpoints/step-000000003/W0.npy", "checkpoints/best/W0.npy", "checkpoints/notes"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"mine")
    before = snapshot(path)

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == n_moves + 1:
            raise OSError(13, "Permission denied")
        return replace(*arguments)

    monkeypatch.setattr(Path, "replace", failing)
    told = "Permission denied" if n_moves < 5 else "no"
    with pytest.raises(SlideError, match=told):
        run(path, failure=SlideError("no"))
    if n_moves == 5:  # a move back fails, which is left to the next run
        with RunFolder(path, replaces=True) as folder:
            assert folder.took_back
    assert snapshot(path) == before


def test_a_new_run_takes_the_place_of_an_earlier_one(tmp_path):
    path = tmp_path / "run"
    run(path, make_model(1.0))
    (path / "curves.png").write_bytes(b"picture")
    (path / "notes.txt").write_text("mine")
    run(path, make_model(2.0))
    assert load_model(path / "model").arrays["b1"].tolist() == [2.0] * 4
    assert not (path / "curves.png").exists() and (path / "notes.txt").read_text() == "mine"


def test_a_finished_run_is_replaced_only_where_that_is_said(tmp_path):
    run(tmp_path / "run", make_model(1.0))
    before = snapshot(tmp_path)
    wanted = r"run: holds a trained model; --overwrite replaces it, or choose another folder"
    with pytest.raises(ConfigError, match=wanted), RunFolder(tmp_path / "run"):
        pass
    assert snapshot(tmp_path) == before


def test_checkpoints_of_an_unfinished_run_are_replaced_only_where_that_is_said(tmp_path):
    (tmp_path / "checkpoints" / "step-000000003").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").touch()
    with (
        pytest.raises(ConfigError, match="checkpoints of a run; --resume continues .*, --overwrite"),
        RunFolder(tmp_path),
    ):
        pass
    with RunFolder(tmp_path, replaces=True):
        pass


def test_what_an_unfinished_run_left_without_a_model_is_replaced(tmp_path):
    for name in ("metrics.jsonl", "config.toml", ".lock"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path) as folder:
        folder.save(make_model(1.0))
    assert load_model(tmp_path / "model").arrays["b1"].tolist() == [1.0] * 4


def test_the_best_model_of_an_unfinished_run_is_replaced_only_where_that_is_said(tmp_path):
    run(tmp_path / "run", make_model())
    shutil.rmtree(tmp_path / "run" / "model")
    save_model(tmp_path / "run" / "checkpoints" / "best", make_model())
    with pytest.raises(ConfigError, match="holds the best model of a run; --overwrite replaces it"):
        run_again(tmp_path / "run")
    assert load_model(tmp_path / "run" / "checkpoints" / "best").n_labels == 4
    run(tmp_path / "run", make_model())


def run_again(path):
    with RunFolder(path):
        pass


@pytest.mark.parametrize("saved", ["nothing", "best", "model", "checkpoint"])
def test_what_a_killed_run_saved_decides_which_run_stays(tmp_path, saved):
    """A new run over one with a model and a checkpoint, killed at its end: nothing of it or all of it."""
    path = tmp_path / "run"
    run(path, make_model())
    (path / "checkpoints" / "step-000000001").mkdir(parents=True)
    before = snapshot(path)
    code = (
        "import os, sys; sys.path[:0] = sys.argv[3:]; from test_run_folder import *; from pathlib import Path\n"
        "folder = RunFolder(sys.argv[1], replaces=True).__enter__(); folder.begin(Config(hidden=(3,)), 'another')\n"
        "checkpoints, saved = Path(sys.argv[1], 'checkpoints'), sys.argv[2]\n"
        "if saved == 'best': save_model(checkpoints / 'best', make_model(1))\n"
        "if saved == 'checkpoint': (checkpoints / 'step-000000002').mkdir(parents=True)\n"
        "folder._earlier.discard = lambda: os._exit(9)\n"
        "folder.save(make_model(1)) if saved == 'model' else os._exit(9)"
    )
    command = [sys.executable, "-c", code, str(path), saved, str(Path(__file__).parent), *sys.path]
    assert subprocess.run(command).returncode == 9
    with RunFolder(path, replaces=True) as folder:
        assert folder.took_back == (saved in ("nothing", "best"))
        steps = sorted(found.name for found in (path / "checkpoints").iterdir())
        config = (path / "config.toml").read_text()
    is_new = not folder.took_back
    assert ("hidden = [3]" in config) == is_new and (path / ".before").exists() is False
    assert steps == {"model": [], "checkpoint": ["step-000000002"]}.get(saved, ["step-000000001"])
    assert load_model(path / "model").arrays["b0"][0] == (saved == "model")
    if not is_new:
        assert {name: raw for name, raw in snapshot(path).items() if name in before} == before


def test_one_run_at_a_time_enters_a_folder(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        for replaces in (False, True):
            with (
                pytest.raises(SlideError, match="run: another run is training there; "),
                RunFolder(folder.path, replaces),
            ):
                pass
    assert list(tmp_path.iterdir()) == []
    with RunFolder(tmp_path / "run"):
        pass


def test_a_run_that_was_killed_keeps_nobody_out(tmp_path):
    code = (
        "import os, sys; from slide_fast.cli.run_folder import RunFolder as Folder\n"
        "with Folder(sys.argv[1]): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "run"]).returncode == 9
    run(tmp_path / "run", make_model(1.0))


@pytest.mark.parametrize("name", ["notes.txt", "config.toml", "model/notes.txt"])
def test_a_folder_with_something_else_in_it_is_refused(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(SlideError, match="contains files other than those of a run"), RunFolder(tmp_path):
        pass
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SlideError, match="cannot be written .*; choose another folder"), RunFolder(path):
            pass
    assert snapshot(tmp_path) == {(tmp_path / "file").relative_to(tmp_path): b"mine"}


def test_json_has_no_figures_that_are_not_finite():
    values = {"a": float("inf"), "b": float("nan"), "c": 1.5, "d": {"e": 2}, "f": None}
    assert json.loads(json_line(values)) == {"a": None, "b": None, "c": 1.5, "d": {"e": 2}, "f": None}
    deep = {"a": {"b": [float("nan"), 1, (2.5, float("inf"))]}}
    assert json.loads(json_line(deep)) == {"a": {"b": [None, 1, [2.5, None]]}}


def test_a_model_that_a_crash_left_beside_its_place_is_found_through_its_run(tmp_path, capsys):
    path = tmp_path / "run"
    run(path, make_model())
    (path / ".model.saving").mkdir()
    (path / "model").rename(path / ".model.saving" / "old")  # between the two renames of a replacement
    assert load_model(find_model(path)).n_labels == 4
    for place in (path, path / "model"):
        assert main(["info", str(place)]) == 0 and "3 → 2 → 4" in capsys.readouterr().out


def test_metrics_of_a_resumed_run_are_replaced_as_a_whole(tmp_path, monkeypatch):
    run(tmp_path / "run", make_model())
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slide_ref.common.storage.complete_file.os.replace", full)
    told = rf"{tmp_path}/run: cannot be written \(No space left on device\); choose another folder or free some space"
    with pytest.raises(SlideError, match=told), RunFolder(tmp_path / "run", replaces=True) as folder:
        folder.begin(CONFIG, "slide train x", history=[])
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("becomes", [None, "file"])
def test_a_folder_that_is_gone_when_training_starts_is_named(tmp_path, becomes):
    path = tmp_path / "run"
    told = f"{path}: cannot be written .*; choose another folder"
    with pytest.raises(SlideError, match=told), RunFolder(path) as new:
        path.rmdir()
        if becomes == "file":
            path.touch()
        new.begin(CONFIG, "slide train x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_names_the_file_of_metrics(tmp_path, monkeypatch):
    told = f"{tmp_path}/run/metrics.jsonl: cannot be written .No space left on device.; choose another folder"
    with pytest.raises(SlideError, match=told), RunFolder(tmp_path / "run") as folder:
        folder.begin(CONFIG, "slide train x")
        folder._metrics.close()
        monkeypatch.setattr(folder, "_metrics", open("/dev/full", "a", buffering=1))  # noqa: SIM115
        folder.record({"kind": "epoch"})
