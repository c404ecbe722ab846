"""Synthetic data: its form, its sizes, and that something can be learned from it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from slide_fast.data import read_xmc
from slide_fast.datasets import synthetic as generating
from slide_fast.datasets.stdlib_names import co_occurrence
from slide_fast.datasets.synthetic import SHAPES, generate
from slide_ref.common.errors import ConfigError, DataError

SMALL = {"n_samples": 300, "n_test": 100, "n_features": 2000, "n_labels": 300, "nonzeros": 30, "labels_per_sample": 3}


def texts(folder):
    return [(folder / name).read_text(encoding="ascii") for name in ("train.txt", "test.txt")]


def test_s17_files_are_canonical_xmc_text(tmp_path):
    generate(tmp_path / "new" / "folder", **SMALL)
    for name, n_rows in (("train.txt", 300), ("test.txt", 100)):
        text = (tmp_path / "new" / "folder" / name).read_text(encoding="ascii")
        header, *lines = text.splitlines()
        assert header == f"{n_rows} 2000 300"
        assert len(lines) == n_rows
        for line in lines:
            labels, *features = line.split(" ")
            labels = [int(label) for label in labels.split(",")]
            ids = [int(pair.split(":")[0]) for pair in features]
            values = np.array([float(pair.split(":")[1]) for pair in features])
            assert labels == sorted(set(labels)) and ids == sorted(set(ids))
            assert set(labels) <= set(range(300))
            assert set(ids) <= set(range(2000))
            assert np.all(values > 0)
            assert np.sum(values**2) == pytest.approx(1, abs=1e-3)


def test_rows_depend_on_neither_chunks_nor_their_number(tmp_path, monkeypatch):
    generate(tmp_path / "a", **SMALL)
    monkeypatch.setattr(generating, "CHUNK", 500)
    generate(tmp_path / "b", **SMALL)
    generate(tmp_path / "c", **{**SMALL, "n_samples": 120, "n_test": 20})
    assert texts(tmp_path / "a") == texts(tmp_path / "b")
    for long, short in zip(texts(tmp_path / "a"), texts(tmp_path / "c"), strict=True):
        short_lines = short.splitlines()[1:]
        assert long.splitlines()[1 : len(short_lines) + 1] == short_lines


def test_the_seed_changes_the_rows(tmp_path):
    generate(tmp_path / "a", **SMALL)
    generate(tmp_path / "b", **SMALL, seed=1)
    assert not set(texts(tmp_path / "a")[0].splitlines()[1:]) & set(texts(tmp_path / "b")[0].splitlines())


@pytest.mark.parametrize("shape", SHAPES)
def test_means_are_those_of_the_shape(tmp_path, shape):
    generate(tmp_path, shape, n_samples=400, n_test=1)
    data = read_xmc(tmp_path / "train.txt")
    sizes = SHAPES[shape]
    assert data.features.n_columns == sizes.n_features
    assert data.labels.n_columns == sizes.n_labels
    assert data.features.nnz / 400 == pytest.approx(sizes.nonzeros, rel=0.06)
    assert data.labels.nnz / 400 == pytest.approx(sizes.labels_per_sample, rel=0.1)
    assert len(np.unique(np.diff(data.features.indptr))) > 10


def test_long_tails_and_something_to_learn(tmp_path):
    generate(tmp_path, n_samples=4000, n_test=500, n_features=5000, n_labels=2000, nonzeros=40, labels_per_sample=3)
    task = SimpleNamespace(train=read_xmc(tmp_path / "train.txt"), test=read_xmc(tmp_path / "test.txt"))
    of_labels = np.sort(np.bincount(task.train.labels.indices, minlength=2000))[::-1]
    of_features = np.sort(np.bincount(task.train.features.indices, minlength=5000))[::-1]
    assert of_labels[:200].sum() > 0.4 * of_labels.sum()
    assert of_features[:500].sum() > 0.3 * of_features.sum()
    commonest = np.argmax(np.bincount(task.train.labels.indices))
    by_frequency = np.mean([commonest in task.test.labels.row(i)[0] for i in range(500)])
    assert by_frequency < 0.1
    assert 3 * by_frequency < co_occurrence(task) < 0.9


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_features": 1, "n_labels": 1, "nonzeros": 1, "labels_per_sample": 1},
        {"n_features": 5, "n_labels": 4, "nonzeros": 5, "labels_per_sample": 4},
    ],
)
def test_the_smallest_shapes(tmp_path, sizes):
    generate(tmp_path, n_samples=3, n_test=1, **sizes)
    assert read_xmc(tmp_path / "train.txt").n_samples == 3
    assert read_xmc(tmp_path / "test.txt").n_samples == 1


@pytest.mark.parametrize(
    "settings",
    [{"shape": "wiki"}, {"n_samples": 0}, {"n_labels": -1}, {"nonzeros": 3.5}, {"n_features": 10, "nonzeros": 11}],
)
def test_settings_out_of_range(tmp_path, settings):
    with pytest.raises(ConfigError):
        generate(tmp_path / "data", **settings)
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="ascii")
    for folder in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(DataError, match="file.*cannot write"):
            generate(folder, **SMALL)
    assert (tmp_path / "file").read_text(encoding="ascii") == "mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(tmp_path, monkeypatch, error):
    (tmp_path / "train.txt").write_text("before", encoding="ascii")
    plain_lines, calls = generating.xmc_lines, []

    def failing(data):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return plain_lines(data)

    monkeypatch.setattr(generating, "xmc_lines", failing)
    monkeypatch.setattr(generating, "CHUNK", 3000)
    with pytest.raises((DataError, KeyboardInterrupt)):
        generate(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]
    assert (tmp_path / "train.txt").read_text(encoding="ascii") == "before"
