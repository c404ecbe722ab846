"""What the commands write and print."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import content_without_clock

from slide_fast.cli import demo, training_run
from slide_fast.cli.evaluate import _comparison
from slide_fast.cli.main import main
from slide_fast.cli.session import read_samples
from slide_fast.datasets.stdlib_names import build_task
from slide_fast.datasets.synthetic import SHAPES
from slide_fast.display.plots import PlotError
from slide_fast.prediction import predict_topk, predict_topk_index
from slide_ref.common.config import Config
from slide_ref.common.index import size_for
from slide_ref.common.metrics import recall_at
from slide_ref.common.parameters import layers_of
from slide_ref.common.schedule import largest_rate, n_epochs
from slide_ref.common.storage.model_folder import load_model, save_model

COMMANDS = ("demo", "train", "evaluate", "predict", "verify", "bench", "info", "plot", "generate")
FIGURES = ("precision_at_1", "precision_at_3", "precision_at_5", "samples_per_second", "seconds", "seconds_total",
           "epochs", "workers", "peak_memory_bytes", "model")  # fmt: skip


def last_object(out):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(out.splitlines()[-1], parse_constant=refuse)


@pytest.fixture
def library(tmp_path):
    """A few source files, to stand for the standard library."""
    folder = tmp_path / "library"
    folder.mkdir()
    for i in range(12):
        (folder / f"m{i}.py").write_text("for item in range(len(items)):\n    items.append(item)\n" * 5)
    return folder


def test_train_writes_a_run_folder_and_prints_its_figures(slide, tmp_path):
    out = tmp_path / "run"
    code, stdout, stderr = slide("train {data}/train.txt --test {data}/test.txt --json {small} --out", out)
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
    code, stdout, _ = slide("train {data}/train.txt --json {small} --out", tmp_path / "run")
    figures = last_object(stdout)
    assert code == 0 and figures["precision_at_1"] is None and figures["curves"] is None
    assert not (tmp_path / "run" / "curves.png").exists()
    code, stdout, _ = slide("train {data}/train.txt {small} --overwrite --out", tmp_path / "run")
    assert code == 0 and "per cent" not in stdout and stdout.startswith("trained        2 epochs in ")


def test_thousands_of_epochs_are_written_out(slide, tmp_path):
    small = "--workers 1 --epochs 1500 --hidden 2 --micro-batch 64 --set lsh.min_active=all"
    code, stdout, _ = slide("train {data}/tiny --out", tmp_path / "run", *small.split())
    assert code == 0 and "trained        1,500 epochs in " in stdout
    assert "trained        1,500 of 1,500 epochs, 1,500 steps, " in slide("info", tmp_path / "run")[1]


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


def test_s28_evaluate_through_an_index_tells_what_it_misses(slide, data, trained):
    code, stdout, _ = slide("evaluate {run} {data}/test.txt --mode lsh --workers 2 --json")  # its earlier name
    figures = last_object(stdout)
    assert code == 0 and figures["mode"] == "index" and figures.keys() >= set(FIGURES)
    model, features = load_model(trained / "model"), read_samples(data / "test.txt").features
    layers, size = layers_of(model.arrays), size_for(model.index, 5, 0.95, model.n_labels)
    ids, _ = predict_topk_index(layers, features, 5, model.index, size)
    assert figures["candidates_per_sample"] == size and figures["seconds_to_build_index"] is None
    assert figures["missing_places"] == 0 and figures["recall"] == 0.95 <= figures["recall_kept_aside"]
    assert figures["recall_at_5"] == pytest.approx(recall_at(ids, predict_topk(layers, features, 5)[0], 5))
    assert figures["exact_samples_per_second"] > 0
    shown = slide("evaluate {run} {data}/test.txt --mode index")[1]
    assert f"recall@5       {100 * figures['recall_at_5']:.2f} %" in shown and "\nP  " in shown
    assert "saved with the model" in shown and "95.00%; found" in shown


@pytest.mark.parametrize(
    ("found", "seconds", "is_advised"), [(0.9, None, True), (0.945, None, False), (0.9, 1.0, False)]
)
def test_an_index_that_finds_less_than_wanted_comes_with_advice(found, seconds, is_advised):
    figures = {"recall": 0.95, "recall_at_5": found, "recall_kept_aside": 0.95, "seconds_to_build_index": seconds}
    figures |= dict.fromkeys(("missing_places", "samples_per_second", "exact_samples_per_second"), 1.0)
    shown = _comparison(figures | {"candidates_per_sample": 9.0})
    assert ("`slide index MODEL SAMPLES` finds more" in shown) == is_advised
    assert "9.0 labels per sample" in shown


def test_auto_says_what_it_chose(slide, tmp_path):
    more = "--epochs 1 --workers 1 --set lsh.family=simhash --set lsh.min_active=10 --set lsh.L=2"
    code, _, stderr = slide("train {data}/train.txt --auto", *more.split(), "--out", tmp_path / "run")
    config = load_model(tmp_path / "run" / "model").config
    wanted = f"micro-batches of {config.micro_batch}; lsh.K {config.lsh.K}, lsh.bucket_size {config.lsh.bucket_size}"
    assert code == 0 and any(line.split(maxsplit=1) == ["chosen", wanted] for line in stderr.splitlines())


def test_s28_predict_through_an_index(slide, data, trained):
    code, stdout, _ = slide("predict {run} {data}/test.txt -k 3 --mode index --recall 0.5")
    model, features = load_model(trained / "model"), read_samples(data / "test.txt").features
    size = size_for(model.index, 3, 0.5, model.n_labels)
    ids, _ = predict_topk_index(layers_of(model.arrays), features, 3, model.index, size)
    assert code == 0
    assert [[int(pair.split(":")[0]) for pair in line.split()] for line in stdout.splitlines()] == ids.tolist()


def test_s28_the_index_of_a_model_is_made_anew(slide, data, trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path / "model")
    before = load_model(tmp_path / "model")
    save_model(tmp_path / "model", dataclasses.replace(before, index=None))
    assert "index          none" in slide(f"info {tmp_path}/model")[1]
    code, stdout, _ = slide(f"evaluate {tmp_path}/model {{data}}/train.txt --mode index")
    assert code == 0 and "of these samples" in stdout  # 300, which are enough
    code, stdout, _ = slide(f"index {tmp_path}/model {{data}}/train.txt --kept-aside {{data}}/test.txt --json")
    figures, after = last_object(stdout), load_model(tmp_path / "model")
    assert code == 0 and figures["index_recall"] >= 0.95 and figures["model"] == f"{tmp_path}/model"
    assert all(np.array_equal(*arrays) for arrays in zip(after.arrays.values(), before.arrays.values(), strict=True))
    assert len(after.index.places) == 80
    code, stdout, _ = slide(f"info {tmp_path}/model --json")
    assert last_object(stdout)["index"] == {key: figures[key] for key in ("index_recall", "index_candidates")}


def test_s28_a_model_trained_without_tables_is_searched_too(slide, tmp_path):
    slide("train {data}/train.txt {small} --set lsh.L=0 --out", tmp_path / "run")
    code, stdout, _ = slide(f"evaluate {tmp_path}/run {{data}}/test.txt --mode index --json")
    assert code == 0 and last_object(stdout)["recall_at_5"] >= 0.9


def test_rows_without_labels_are_told(slide, data, tmp_path):
    slide("train {data}/tiny {small} --out", tmp_path / "run")
    assert "3 test samples, 1 of them without labels" in slide(f"evaluate {tmp_path}/run {data}/tiny")[1]


def test_predict_streams_a_line_a_sample(slide, data, trained):
    code, stdout, stderr = slide("predict {run} {data}/test.txt -k 3")
    assert code == 0 and stderr == ""
    ids = [[int(pair.split(":")[0]) for pair in line.split(" ")] for line in stdout.splitlines()]
    model = load_model(trained / "model")
    layers = layers_of(model.arrays)
    wanted, scores = predict_topk(layers, read_samples(data / "test.txt").features, 3)
    assert np.array_equal(ids, wanted)
    assert stdout.splitlines()[0].split(" ")[0] == f"{wanted[0, 0]}:{scores[0, 0]:.6g}"


def test_predict_uses_names_and_tabs(slide, data, tmp_path):
    slide(f"train {data}/tiny --label-names {data}/tiny-names {{small}} --out", tmp_path / "run")
    code, stdout, stderr = slide(f"predict {tmp_path}/run {data}/tiny -k 9 --json --out", tmp_path / "out.txt")
    figures = last_object(stdout)
    assert code == 0 and figures["samples"] == 3 and figures["out"] == str(tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert sorted(pair.rpartition(":")[0] for pair in line.split("\t")) == ["a:b", "c d", "e f", "g", "é"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("more", ["", "--mode index --recall 0.5", "--threshold 0.01"])
def test_predict_asked_for_more_labels_than_there_are_writes_all(slide, more):
    whole = slide(f"predict {{run}} {{data}}/test.txt -k 60 {more}")
    assert whole[0] == 0 and slide(f"predict {{run}} {{data}}/test.txt -k {10**12} {more}") == whole


def test_predict_ignores_labels_and_takes_no_samples_at_all(slide):
    assert slide("predict {run} {data}/many-labels")[0] == 0
    assert slide("predict {run} {data}/no-samples") == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_predict_writes_to_a_named_pipe_without_replacing_it(slide, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert slide("predict {run} {data}/test.txt -k 1 --out", tmp_path / "pipe")[0] == 0
    assert os.read(reader, 10**6).count(b"\n") == 80
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_info_shows_settings_and_sizes(slide):
    code, stdout, _ = slide("info {run}")
    assert code == 0 and "150 → 16 → 60, buckets of the nearest of 16 centroids" in stdout and "\nK = 4\n" in stdout
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


def test_generate_replaces_files_only_where_that_is_said(slide, tmp_path):
    sizes = "--shape wiki10-31k --samples 20 --test-samples 5 --labels 9 --labels-per-sample 2"
    (tmp_path / "test.txt").write_text("mine")
    code, stdout, stderr = slide(f"generate {tmp_path} {sizes}")
    wanted = f"slide: error: {tmp_path}: holds test.txt; choose another folder, or replace with --overwrite\n"
    assert (code, stdout, stderr) == (2, "", wanted)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "train.txt").write_text("mine too")
    assert "holds train.txt and test.txt; " in slide(f"generate {tmp_path} {sizes}")[2]
    assert slide(f"generate {tmp_path} {sizes} --overwrite")[0] == 0
    assert (tmp_path / "train.txt").read_text().startswith("20 ")
    assert (tmp_path / "test.txt").read_text().startswith("5 ")


def test_config_toml_repeats_a_run(slide, trained, tmp_path):
    files = "--test {data}/test.txt --config {run}/config.toml --workers 1 --out"
    assert slide(f"train {{data}}/train.txt {files}", tmp_path / "again")[0] == 0
    assert content_without_clock(tmp_path / "again" / "model") == content_without_clock(trained / "model")


def test_options_go_over_the_file_and_set_over_both(slide, tmp_path):
    options = "--config {run}/config.toml --epochs 3 --hidden 8,4 --set epochs=1 --set lsh.min_active=all --workers 1"
    assert slide(f"train {{data}}/train.txt {options} --out", tmp_path / "run")[0] == 0
    config = load_model(tmp_path / "run" / "model").config
    assert (config.epochs, config.hidden, config.lsh.min_active, config.lsh.K) == (1, (8, 4), 60, 4)


@pytest.mark.parametrize("workers", [1, 2])
def test_s25_s26_a_deep_network_is_set_on_the_command_line(slide, tmp_path, workers):
    options = "--epochs 2 --micro-batch 32 --hidden 8,20 --learning-rate 0.5 --set hidden_lsh.1.K=4 --set lsh.K=5"
    options += " --set hidden_lsh.1.min_active=3 --set lsh.min_active=9 --set optimizer=sgd --set momentum=0.5"
    options += " --set decay=linear --set warmup_steps=2 --set scope=sample --set rebuild_gap=3"
    files = "train {data}/train.txt --test {data}/test.txt"
    code, stdout, stderr = slide(f"{files} {options} --json --workers", workers, "--out", tmp_path / "run")
    figures = last_object(stdout)
    assert code == 0 and figures["steps"] == 20 and figures["rebuilds"] >= 4 and 0 < figures["loss"] < 10
    assert "150 → 8 → 20 → 60, buckets of the nearest of 32 centroids, at least 9 active in a sample; " in stderr
    assert "learning rate" in stderr and "0.5 at most, over 20 steps, 2 epochs" in stderr
    assert "\n[hidden_lsh.1]\n" in (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    config = load_model(tmp_path / "run" / "model").config
    assert dict(config.hidden_lsh)[1].K == 4 and (config.optimizer, config.momentum) == ("sgd", 0.5)
    slide(f"{files} --config {tmp_path}/run/config.toml --workers 1 --out", tmp_path / "again")
    assert load_model(tmp_path / "again" / "model").config == config


@pytest.mark.parametrize(
    ("settings", "step"),
    [("", 6), ("--set in_batch=1", 10), ("--set lsh.L=0", 6)]
    + [(f"--set {name}", None) for name in ("in_batch=0", "scope=sample", "lsh.min_active=all")]
    + [("--set lsh.L=0 --set lsh.min_active=3", None)],
)
def test_s32_training_tells_when_tables_are_queried(slide, tmp_path, settings, step):
    options = f"--epochs 1 --micro-batch 32 --hidden 8 --set lsh.min_active=29 --workers 1 {settings}"
    code, _, stderr = slide(f"train {{data}}/train.txt {options} --out", tmp_path / "run")
    assert code == 0 and ("no tables" in stderr) == (step is not None)
    assert step is None or f"up to step {step} no tables: the labels of a micro-batch, at least 7 active" in stderr


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
    code = "import sys, slide_fast.cli.main, slide_fast.cli.options as o; o.parser(); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_without_matplotlib_there_is_a_hint(slide, monkeypatch, tmp_path):
    def plot(self, baselines):
        raise PlotError("install it")

    monkeypatch.setattr(training_run.RunFolder, "plot", plot)
    code, stdout, stderr = slide("train {data}/train.txt --test {data}/test.txt {small} --out", tmp_path / "run")
    assert code == 0 and "no learning curves: install it\n" in stderr and "curves" not in stdout


def test_the_callers_training_data_go_to_fit_alone(slide, monkeypatch, tmp_path):
    def fit(config, train, *, test, **options):
        raise MemoryError(f"{sys.getrefcount(train.take())} {sys.getrefcount(test.take())}")

    monkeypatch.setattr(training_run, "fit", fit)
    _, _, stderr = slide("train {data}/train.txt --test {data}/test.txt --out", tmp_path / "run")
    alone = sys.getrefcount(object())  # as many as the call itself needs
    assert [*map(int, stderr.split()[-2:])] == [alone, alone]


def test_demo_tells_its_baselines_and_shows_predictions(slide, monkeypatch, library, tmp_path):
    monkeypatch.setattr(demo, "build_task", lambda: build_task(library))
    out = tmp_path / "demo"
    code, stdout, stderr = slide(f"demo --workers 1 --json --out {out}")
    figures = last_object(stdout)
    assert code == 0 and figures.keys() >= {*FIGURES, "baselines", "counts"}
    assert figures["baselines"].keys() == {"most_common", "co_occurrence"} and figures["counts"]["files"] == 12
    assert load_model(figures["model"]).label_names == ["item", "range", "len", "items", "append"]
    assert (out / "metrics.jsonl").exists() and "P, co-occurrence" in stderr
    assert sum("▢" in line and "→" in line for line in stderr.splitlines()) == 12


def test_demo_uses_two_workers_at_least(slide, monkeypatch, library, tmp_path):
    def fit(config, train, *, n_workers, **options):
        raise MemoryError(f"workers {n_workers}")

    monkeypatch.setattr(demo, "build_task", lambda: build_task(library))
    monkeypatch.setattr(demo, "available_cpus", lambda: 1)
    monkeypatch.setattr(training_run, "fit", fit)
    assert "workers 2" in slide("demo --out", tmp_path / "run")[2]


def test_defaults_in_the_help_are_those_of_the_settings(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"neurons of the hidden layers, such as 256,128 (default: {Config().hidden[0]})" in text
    short, long = largest_rate(Config(), 2000), largest_rate(Config(), 4000)
    assert f"(default: {short} up to 2,000 steps, {long} from 4,000 steps)" in text
    few, many = n_epochs(Config(), 1), n_epochs(Config(), 30_000)
    assert f"(default: {many}; below 30,000 samples up to {few})" in text
