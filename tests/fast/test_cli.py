"""The command line as its users meet it: what it writes, what it prints, and how it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slide_fast import training_commands
from slide_fast.cli import main
from slide_fast.demo import build_task
from slide_fast.generate import SHAPES, generate
from slide_fast.plots import PlotError
from slide_fast.prediction import predict_topk
from slide_fast.training import TrainingInterrupted
from slide_ref.common.config import Config
from slide_ref.common.model_folder import load_model

COMMANDS = ("demo", "train", "evaluate", "predict", "info", "plot", "generate")
FIGURES = ("precision_at_1", "precision_at_3", "precision_at_5", "samples_per_second", "seconds", "seconds_total",
           "epochs", "workers", "peak_memory_bytes", "model")  # fmt: skip
SMALL = ("--workers", "1", "--epochs", "2", "--micro-batch", "64", "--hidden", "16", "--set", "lsh.min_active=20")
SMALL += ("--set", "lsh.K=4", "--set", "rebuild_gap=3")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with small data sets, good and bad."""
    folder = tmp_path_factory.mktemp("data")
    generate(folder, "wiki10-31k", n_samples=300, n_test=80, n_features=150, n_labels=60, nonzeros=9,
             labels_per_sample=2)  # fmt: skip
    files = {
        "tiny": "3 4 5\n0,1 0:1\n4 1:1\n 2:1\n",
        "wide": "1 151 5\n0 8:1\n",
        "many-labels": "1 4 61\n0 1:1\n",
        "short": "3 4 5\n0 0:1\n1 1:1\n",
        "nan": "2 4 5\n0 0:1\n1 1:nan\n",
        "infinite": "1 4 5\n0 0:1e99\n",
        "range": "1 4 5\n0 4:1\n",
        "empty": "",
        "no-samples": "0 4 5\n",
        "no-labels": "1 4 5\n 0:1\n",
        "tiny-names": "a:b\nc\td\ne f\né\ng\n",
        "few-names": "a\n",
        "bad.toml": "epochs = 1\nlsh.K = = 3\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", f"{data}/train.txt", "--test", f"{data}/test.txt", "--out", f"{folder}", *SMALL]) == 0
    return folder


@pytest.fixture
def slide(capsys, data, trained):
    """Run a command, in which {data} and {run} stand for the folders; returns its exit code, output and errors."""

    def run(command, *more):
        arguments = [word.format(data=data, run=trained) for word in command.split()]
        code = main([*arguments, *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def last_object(out):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(out.splitlines()[-1], parse_constant=refuse)


def model_bytes(run):
    return {path.name: path.read_bytes() for path in (run / "model").iterdir()}


def test_train_writes_a_run_folder_and_prints_its_figures(slide, tmp_path):
    out = tmp_path / "run"
    code, stdout, stderr = slide("train {data}/train.txt --test {data}/test.txt --json --out", out, *SMALL)
    figures = last_object(stdout)
    assert code == 0 and len(stdout.splitlines()) == 1
    assert figures.keys() >= set(FIGURES) and figures["epochs"] == 2 and figures["workers"] == 1
    assert figures["samples_per_second"] == pytest.approx(600 / figures["seconds"])
    assert figures["peak_memory_bytes"] > 1e6 and figures["seconds_total"] > figures["seconds"]
    kinds = [json.loads(line)["kind"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert kinds == ["evaluation", "epoch", "epoch", "evaluation", "end"]
    assert load_model(figures["model"]).config.lsh.K == 4
    heads = next(line for line in stderr.splitlines() if "samples/s" in line)
    assert heads.split() == ["epoch", "loss", "P@1", "active", "samples/s", "bucket", "fullest", "kept", "left"]
    assert f"{100 * figures['precision_at_5']:.2f}" in stderr


def test_without_test_data_there_are_no_scores(slide, tmp_path):
    code, stdout, _ = slide("train {data}/train.txt --json --out", tmp_path / "run", *SMALL)
    figures = last_object(stdout)
    assert code == 0 and figures["precision_at_1"] is None and figures["curves"] is None
    assert not (tmp_path / "run" / "curves.png").exists()
    code, stdout, _ = slide("train {data}/train.txt --out", tmp_path / "run", *SMALL)
    assert code == 0 and "per cent" not in stdout and stdout.startswith("trained     2 epochs in ")


def test_evaluate_prints_what_train_printed(slide, trained):
    code, stdout, _ = slide("evaluate {run} {data}/test.txt")
    assert code == 0 and "80 test samples" in stdout and "\nPSP " in stdout
    end = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    for k, shown in zip((1, 3, 5), stdout.splitlines()[1].split()[1:], strict=True):
        assert shown == f"{100 * end[f'precision_at_{k}']:.2f}"
    code, stdout, _ = slide("evaluate {run}/model {data}/test.txt --workers 2 --json")
    figures = last_object(stdout)
    assert figures.keys() >= set(FIGURES) and figures["precision_at_1"] == end["precision_at_1"]
    assert 0 <= figures["psp_at_1"] <= 1 and figures["model"].endswith("model")


def test_rows_without_labels_are_told(slide, data, tmp_path):
    slide("train {data}/tiny --out", tmp_path / "run", *SMALL)
    assert "3 test samples, 1 of them without labels" in slide(f"evaluate {tmp_path}/run {data}/tiny")[1]


def test_predict_streams_a_line_a_sample(slide, data, trained):
    code, stdout, stderr = slide("predict {run} {data}/test.txt -k 3")
    assert code == 0 and stderr == ""
    ids = [[int(pair.split(":")[0]) for pair in line.split(" ")] for line in stdout.splitlines()]
    model = load_model(trained / "model")
    layers = training_commands.layers_of(model.arrays)
    wanted, scores = predict_topk(layers, training_commands.read_samples(data / "test.txt").features, 3)
    assert np.array_equal(ids, wanted)
    assert stdout.splitlines()[0].split(" ")[0] == f"{wanted[0, 0]}:{scores[0, 0]:.6g}"


def test_predict_uses_names_and_tabs(slide, data, tmp_path):
    slide(f"train {data}/tiny --label-names {data}/tiny-names --out", tmp_path / "run", *SMALL)
    code, stdout, stderr = slide(f"predict {tmp_path}/run {data}/tiny -k 9 --json --out", tmp_path / "out.txt")
    figures = last_object(stdout)
    assert code == 0 and figures["samples"] == 3 and figures["out"] == str(tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert sorted(pair.rpartition(":")[0] for pair in line.split("\t")) == ["a:b", "c d", "e f", "g", "é"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_predict_ignores_labels_and_takes_no_samples_at_all(slide):
    assert slide("predict {run} {data}/many-labels")[0] == 0
    assert slide("predict {run} {data}/no-samples") == (0, "", "")


def test_predict_writes_to_devices_without_replacing_them(slide, tmp_path):
    (tmp_path / "link").symlink_to(os.devnull)
    assert slide("predict {run} {data}/test.txt --out", tmp_path / "link")[0] == 0
    assert (tmp_path / "link").is_symlink()


def test_info_shows_settings_and_sizes(slide):
    code, stdout, _ = slide("info {run}")
    assert code == 0 and "150 → 16 → 60, simhash K=4" in stdout and "\nK = 4\n" in stdout
    figures = last_object(slide("info {run} --json")[1])
    assert figures["arrays"]["W1"] == [60, 16] and figures["config"]["rebuild_gap"] == 3


def test_plot_draws_runs_side_by_side(slide, tmp_path):
    pytest.importorskip("matplotlib")
    code, stdout, _ = slide("plot {run} {run} --out", tmp_path / "both.png")
    assert code == 0 and stdout == f"{tmp_path / 'both.png'}\n" and (tmp_path / "both.png").stat().st_size > 10_000


def test_generate_writes_both_files(slide, tmp_path):
    sizes = (
        "--shape wiki10-31k --samples 20 --test-samples 5 --features 50 --labels 9 --nonzeros 4 --labels-per-sample 2"
    )
    code, stdout, _ = slide(f"generate {tmp_path}/new {sizes} --seed 3 --json")
    figures = last_object(stdout)
    assert code == 0 and Path(figures["train"]).read_text().startswith("20 50 9\n")
    assert Path(figures["test"]).read_text().startswith("5 50 9\n")


def test_config_toml_repeats_a_run(slide, trained, tmp_path):
    files = "--test {data}/test.txt --config {run}/config.toml --workers 1 --out"
    assert slide(f"train {{data}}/train.txt {files}", tmp_path / "again")[0] == 0
    assert model_bytes(tmp_path / "again") == model_bytes(trained)


def test_options_go_over_the_file_and_set_over_both(slide, tmp_path):
    options = "--config {run}/config.toml --epochs 3 --hidden 8,4 --set epochs=1 --set lsh.min_active=all --workers 1"
    assert slide(f"train {{data}}/train.txt {options} --out", tmp_path / "run")[0] == 0
    config = load_model(tmp_path / "run" / "model").config
    assert (config.epochs, config.hidden, config.lsh.min_active, config.lsh.K) == (1, (8, 4), 60, 4)


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("train {data}/short", "{data}/short, line 3: "),
        ("train {data}/nan", "{data}/nan, line 3, column 5: "),
        ("train {data}/infinite", "{data}/infinite, line 2, column 5: "),
        ("train {data}/range", "{data}/range, line 2, column 3: "),
        ("train {data}/empty", "{data}/empty, line 1: "),
        ("train {data}/missing", "{data}/missing: "),
        ("train {data}/no-samples", "{data}/no-samples, line 1: there are no samples"),
        ("train {data}/no-labels", "{data}/no-labels: no sample has a label"),
        ("train {data}/train.txt --test {data}/wide", "{data}/wide, line 1: 151 features, but "),
        ("train {data}/train.txt --test {data}/many-labels", "{data}/many-labels, line 1: 61 labels, but "),
        ("train {data}/train.txt --test {data}/missing", "{data}/missing: "),
        ("train {data}/train.txt --label-names {data}/few-names", "{data}/few-names, line 2: 1 names, but "),
        ("train {data}/train.txt --config {data}/bad.toml", "{data}/bad.toml, line 2, column 9: "),
        ("train {data}/train.txt --config {data}/missing", "{data}/missing: cannot be read"),
        ("evaluate {run} {data}/wide", "{data}/wide, line 1: 151 features, but the model has 150"),
        ("evaluate {run} {data}/many-labels", "{data}/many-labels, line 1: 61 labels, but the model has 60"),
        ("evaluate {run} {data}/no-samples", "{data}/no-samples, line 1: there are no samples"),
        ("evaluate {data} {data}/test.txt", "{data}/config.json: cannot be read"),
        ("predict {run} {data}/wide", "{data}/wide, line 1: 151 features, but the model has 150"),
        ("predict {run} {data}/nan --out {data}/out", "{data}/nan, line 3, column 5: "),
        ("predict {run} {data}/test.txt --out {data}/no/out", "{data}/no/out: cannot be written"),
        ("predict {run} {data}/test.txt --out {data}", "{data}: cannot be written"),
        ("info {data}/missing", "{data}/missing/config.json: cannot be read"),
        ("plot {data}", "{data}/metrics.jsonl: cannot be read"),
        ("generate {data}/tiny --shape wiki10-31k --samples 9", "{data}/tiny: "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(slide, data, trained, tmp_path, command, wanted):
    before = sorted(data.iterdir())
    code, stdout, stderr = slide(command, *(["--out", tmp_path / "new" / "run"] if command.startswith("train") else []))
    assert code == 1 and stdout == ""
    assert stderr.splitlines()[-1].startswith("slide: error: " + wanted.format(data=data, run=trained))
    assert len(stderr.splitlines()) == (2 if command.startswith("generate") else 1)
    assert list(tmp_path.iterdir()) == [] and sorted(data.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_found_before_data_are_read(slide, data):
    code, _, stderr = slide("train {data}/missing --out {data}/tiny")
    assert code == 1 and stderr.startswith(f"slide: error: {data}/tiny: cannot be written (")
    code, _, stderr = slide("train {data}/missing --out {data}")
    assert code == 1 and stderr.startswith(f"slide: error: {data}: holds files, but not those of a run")


def test_a_damaged_model_is_named(slide, tmp_path):
    slide("train {data}/tiny --out", tmp_path / "run", *SMALL)
    np.save(tmp_path / "run" / "model" / "b1.npy", np.zeros(4, dtype=np.float32))
    for command in ("evaluate", "predict", "info"):
        rest = [] if command == "info" else ["{data}/tiny"]
        code, _, stderr = slide(" ".join([command, f"{tmp_path}/run", *rest]))
        assert code == 1 and len(stderr.splitlines()) == 1 and f"{tmp_path}/run/model/b1.npy: " in stderr
    (tmp_path / "run" / "model" / "W0.npy").unlink()
    assert f"{tmp_path}/run/model/W0.npy: cannot be read" in slide(f"info {tmp_path}/run")[2]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("--set lsh.Q=3", "unknown setting lsh.Q; known are"),
        ("--set lsh.K=99", "lsh.K is 99; it must be from 1 to 64"),
        ("--set scope=none", "scope is 'none'; it must be one of batch, sample"),
        ("--set epochs=x.y", "'x.y' is no value"),
        (f"--seed {2**63}", f"seed is {2**63}; it must be from 0"),
    ],
)
def test_bad_settings_are_bad_use(slide, tmp_path, options, wanted):
    code, stdout, stderr = slide(f"train {{data}}/train.txt {options} --out", tmp_path / "run")
    assert code == 2 and stdout == "" and stderr.startswith(f"slide: error: {wanted}")
    assert len(stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    ["", "fly", "train x", "train x --out y --epochs 1.5", "train x --out y --hidden 0", "train x --out y --set K",
     "train x --out y --eval-every 0", "train x --out y --max-seconds nan", "predict x y -k 0", "predict x y --json",
     "generate x --samples many"],
)  # fmt: skip
def test_bad_use_is_one_line(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("slide: error: ") and len(error.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_on_one_line(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and text.splitlines()[-1].startswith(f"Example: slide {command} ")
    assert command != "generate" or all(shape in text.replace("\n", " ") for shape in SHAPES)


def test_version_and_module(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    version = capsys.readouterr().out
    done = subprocess.run([sys.executable, "-m", "slide_fast", "--version"], capture_output=True, text=True)
    assert done.stdout == version and version.startswith("slide ") and done.returncode == 0


def test_help_does_without_numpy():
    code = "import sys, slide_fast.cli; slide_fast.cli._parser(); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("failure", "wanted"),
    [
        (MemoryError("too little"), "too little"),
        (MemoryError(), "out of memory"),
        (OSError(28, "full", "f"), "f: full"),
    ],
)
def test_a_run_that_fails_half_way_leaves_nothing(slide, monkeypatch, tmp_path, failure, wanted):
    def fit(config, train, *, callback, **options):
        callback({"kind": "start", "pids": tuple, "n_samples": 3, "n_workers": 1})
        callback({"kind": "epoch", "epoch": 1.0, "step": 1, "loss": 1, "active_neurons": 2, "samples_per_second": 3})
        raise failure

    monkeypatch.setattr(training_commands, "fit", fit)
    code, _, stderr = slide("train {data}/tiny --out", tmp_path / "run")
    assert code == 1 and stderr.splitlines()[-1] == f"slide: error: {wanted}" and list(tmp_path.iterdir()) == []


def test_an_interrupted_run_keeps_its_model(slide, monkeypatch, trained, tmp_path):
    def fit(config, train, *, callback, **options):
        callback({"kind": "start", "pids": tuple, "n_samples": 3, "n_workers": 1})
        raise TrainingInterrupted(load_model(trained / "model"))

    monkeypatch.setattr(training_commands, "fit", fit)
    code, stdout, stderr = slide("train {data}/train.txt --out", tmp_path / "run")
    last = f"slide: interrupted after 2.00 epochs; the model is in {tmp_path / 'run' / 'model'}"
    assert code == 130 and stdout == "" and stderr.splitlines()[-1] == last
    assert model_bytes(tmp_path / "run") == model_bytes(trained)


def test_without_matplotlib_there_is_a_hint(slide, monkeypatch, tmp_path):
    def plot(self, yardsticks):
        raise PlotError("install it")

    monkeypatch.setattr(training_commands.RunFolder, "plot", plot)
    code, stdout, stderr = slide("train {data}/train.txt --test {data}/test.txt --out", tmp_path / "run", *SMALL)
    assert code == 0 and "no learning curves: install it\n" in stderr and "curves" not in stdout


def test_the_callers_training_data_go_to_fit_alone(slide, monkeypatch, tmp_path):
    def fit(config, train, *, test, **options):
        raise MemoryError(f"{sys.getrefcount(train)} {sys.getrefcount(test)}")

    monkeypatch.setattr(training_commands, "fit", fit)
    _, _, stderr = slide("train {data}/train.txt --test {data}/test.txt --out", tmp_path / "run")
    alone = sys.getrefcount(object())  # as many as the call itself needs
    assert max(map(int, stderr.split()[-2:])) <= alone + 1


@pytest.fixture
def library(tmp_path):
    """A few source files, to stand for the standard library."""
    folder = tmp_path / "library"
    folder.mkdir()
    for i in range(12):
        (folder / f"m{i}.py").write_text("for item in range(len(items)):\n    items.append(item)\n" * 5)
    return folder


def test_demo_tells_its_yardsticks_and_shows_predictions(slide, monkeypatch, library, tmp_path):
    monkeypatch.setattr(training_commands, "build_task", lambda: build_task(library))
    out = tmp_path / "demo"
    code, stdout, stderr = slide(f"demo --workers 1 --json --out {out}")
    figures = last_object(stdout)
    assert code == 0 and figures.keys() >= {*FIGURES, "yardsticks", "counts"}
    assert figures["yardsticks"].keys() == {"most_common", "co_occurrence"} and figures["counts"]["files"] == 12
    assert load_model(figures["model"]).label_names == ["item", "range", "len", "items", "append"]
    assert (out / "metrics.jsonl").exists() and "P, co-occurrence" in stderr
    assert sum("▢" in line and "→" in line for line in stderr.splitlines()) == 12


def test_demo_uses_two_workers_at_least(slide, monkeypatch, library, tmp_path):
    def fit(config, train, *, n_workers, **options):
        raise MemoryError(f"workers {n_workers}")

    monkeypatch.setattr(training_commands, "build_task", lambda: build_task(library))
    monkeypatch.setattr(training_commands, "available_cpus", lambda: 1)
    monkeypatch.setattr(training_commands, "fit", fit)
    assert "workers 2" in slide("demo --out", tmp_path / "run")[2]


def start(*arguments):
    return subprocess.Popen([sys.executable, "-m", "slide_fast", *map(str, arguments)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


@pytest.mark.skipif(
    os.name != "posix" or signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="Ctrl-C is out of use here"
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_training_with_a_model(slide, data, tmp_path, number, code):
    run = tmp_path / "run"
    arguments = ["--test", data / "test.txt", "--out", run, "--epochs", 10**6, "--workers", 2, "--hidden", 8]
    process = start("train", data / "train.txt", *arguments)
    try:
        deadline = time.monotonic() + 60
        while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code and stdout == ""
    assert stderr.splitlines()[-1].startswith("slide: interrupted after ") and "Traceback" not in stderr
    assert slide(f"evaluate {run} {data}/test.txt")[0] == 0


def test_a_closed_pipe_ends_predict_quietly(data, trained, tmp_path):
    rows = 20_000
    (tmp_path / "long.txt").write_text(f"{rows} 150 60\n" + "1 0:1\n" * rows)
    process = start("predict", trained, tmp_path / "long.txt", "-k", 50)
    assert process.stdout.readline().count(":") == 50
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 141
    process.stderr.close()


def test_defaults_in_the_help_are_those_of_the_settings(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"Adam's step size (default: {Config().learning_rate})" in text
