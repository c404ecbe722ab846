"""Settings written out, and data through pipes."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.cli.main import main
from slide_fast.cli.settings import config_of, read_settings
from slide_fast.data import write_xmc


def test_printed_settings_are_those_of_the_run(tmp_path, capsys):
    given = ["--epochs", "3", "--set", "lsh.K=5", "--hidden", "16,8", "--set", "hidden_lsh.1.K=4"]
    assert main(["train", "--print-config", *given]) == 0
    (tmp_path / "mine.toml").write_text(capsys.readouterr().out)
    config = config_of(read_settings(tmp_path / "mine.toml"))
    assert (config.epochs, config.lsh.K, config.hidden, config.hidden_lsh[0][1].K) == (3, 5, (16, 8), 4)
    assert main(["train", "--print-config", "--json", "--config", str(tmp_path / "mine.toml")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["config"] == config.to_dict()


def test_a_preset_holds_where_nothing_else_is_said(capsys):
    given = ["--preset", "wide", "--epochs", "2", "--set", "lsh.min_active=50", "--json"]
    assert main(["train", "--print-config", *given]) == 0
    config = json.loads(capsys.readouterr().out.splitlines()[-1])["config"]
    assert (config["hidden"], config["epochs"], config["lsh"]["L"], config["lsh"]["min_active"]) == ([1024], 2, 0, 50)
    assert main(["train", "--print-config", "--preset", "wide"]) == 0
    assert "min_active = 0\n" in capsys.readouterr().out


def test_a_preset_does_not_go_with_a_file_of_settings(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--print-config", "--preset", "wide", "--config", str(tmp_path / "mine.toml")])
    assert "--config: not allowed with argument --preset" in capsys.readouterr().err


def test_all_labels_stay_all_in_printed_settings(capsys):
    assert main(["train", "--print-config", "--set", "lsh.min_active=all"]) == 0
    assert 'min_active = "all"' in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["train.txt"], ["--out", "run"]])
def test_train_says_what_it_needs(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", *arguments])
    assert "train needs TRAIN and --out RUN" in capsys.readouterr().err


def test_features_that_svmlight_text_shows_only_later_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = {
        "train": "0 1:1 3:0.5\n1 0:1\n",
        "wide": "1 0:1 4:9 8:9\n0 1:1\n",
        "narrow": "1 0:1\n0 1:1\n",
        "label": "2 0:1\n",
    }
    for name, text in texts.items():
        Path(f"{name}.svm").write_text(text)
    assert main(["train", "train.svm", "--test", "wide.svm", "--out", "run", "--workers", "1"]) == 0
    assert "wide.svm: left out 2 values of features that the training data does not have" in capsys.readouterr().err
    answers = []
    for name in ("wide", "narrow"):
        assert main(["predict", "run", f"{name}.svm"]) == main(["evaluate", "run", f"{name}.svm"]) == 0
        answers.append(capsys.readouterr())
    assert answers[0].out.splitlines()[:2] == answers[1].out.splitlines()[:2]
    assert "that the model does not have" in answers[0].err and "left out" not in answers[1].err
    assert main(["evaluate", "run", "label.svm"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == ["label.svm: left out 1 label that the model does not have",
                    "slide: error: label.svm: the model has none of the labels of these samples"]  # fmt: skip


def test_train_reads_standard_input_beside_a_test_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_xmc("data.txt", random_dataset(0))
    text = io.TextIOWrapper(io.BufferedReader(io.BytesIO((tmp_path / "data.txt").read_bytes())))
    monkeypatch.setattr(sys, "stdin", text)
    small = ["--hidden", "4", "--epochs", "1", "--workers", "1"]
    assert main(["train", "-", "--test", "data.txt", "--out", "run", *small]) == 0
    assert "nDCG" in capsys.readouterr().out


def test_predict_reads_standard_input(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_xmc("train.txt", random_dataset(0))
    assert main(["train", "train.txt", "--out", "run", "--hidden", "4", "--epochs", "1", "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", "train.txt"]) == 0
    expected = capsys.readouterr().out
    text = io.TextIOWrapper(io.BufferedReader(io.BytesIO((tmp_path / "train.txt").read_bytes())))
    monkeypatch.setattr(sys, "stdin", text)
    assert main(["predict", "run", "-"]) == 0
    assert capsys.readouterr().out == expected and expected.count("\n") == 40


def test_scipy_files_go_through_the_commands(tmp_path, monkeypatch, capsys):
    sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.chdir(tmp_path)
    for name, rows in zip("XY", random_dataset(0), strict=True):
        values = np.ones(rows.nnz) if rows.data is None else rows.data
        sparse.save_npz(f"{name}.npz", sparse.csr_array((values, rows.indices, rows.indptr), shape=rows.shape))
    options = ["--hidden", "4", "--epochs", "1", "--workers", "1"]
    both = ["--labels", "Y.npz", "--test", "X.npz", "--test-labels", "Y.npz"]
    assert main(["train", "X.npz", *both, "--out", "run", *options]) == 0
    assert main(["evaluate", "run", "X.npz", "--labels", "Y.npz"]) == 0
    assert main(["predict", "run", "X.npz"]) == 0
    assert main(["train", "X.npz", "--out", "other"]) == 1
    assert "no sample has a label" in capsys.readouterr().err
