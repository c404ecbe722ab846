"""`slide bench` says which way to train pays, which is faster, and where they are level."""

import json

import numpy as np
import pytest

from slide_fast.cli import bench
from slide_fast.cli.bench import fold, in_full_swing, level_at
from slide_fast.cli.session import read_samples
from slide_fast.cli.ways import CHOSEN, DENSE, TABLES, THROUGHOUT, UNIFORM
from slide_fast.engine import auto_settings
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.schedule import n_epochs, workers_at
from slide_ref.common.storage.model_folder import load_model

QUICK = "--workers 1 --seconds 0.8 --set micro_batch=32 --set hidden=[8] --set lsh.min_active=20 --set lsh.K=4"


@pytest.fixture(autouse=True)
def few_labels(monkeypatch):
    monkeypatch.setattr(bench, "FOLDED", (10, 40))


def figures_of(stdout):
    return json.loads(stdout.splitlines()[-1])


@pytest.mark.slow
def test_bench_measures_all_ways_and_says_which_pays(slide, monkeypatch):
    monkeypatch.setattr(bench._Bench, "can_measure_dense", lambda *_: True)  # however busy the machine is
    code, stdout, stderr = slide(f"bench {{data}}/train.txt {QUICK} --seconds 3 --json")
    figures = figures_of(stdout)
    ways = figures["ways"]
    assert code == 0 and list(ways) == [CHOSEN, THROUGHOUT, UNIFORM, DENSE]
    assert ways[DENSE]["active_neurons"] == 60 and 5 <= ways[UNIFORM]["active_neurons"] < 60
    for way in ways.values():
        assert way["samples_per_second"] > 0 and not way["projected"]
        assert way["seconds_per_epoch"] == pytest.approx(270 / way["samples_per_second"])
        assert 0 < way["precision_at_1"] <= 1 and 0 < way["epochs"] <= 10 and way["trained_seconds"] > 0
    is_faster = ways[DENSE]["samples_per_second"] > ways[CHOSEN]["samples_per_second"]
    assert figures["dense_is_faster"] == is_faster
    assert ("times faster for this problem" if is_faster else "times slower for this problem") in stderr
    assert figures["verdict"]["best"] == max(ways, key=lambda way: ways[way]["precision_at_1"])
    assert " here" in stderr and "of training" in stderr
    assert 0 < figures["latency_milliseconds"]["median"] <= figures["latency_milliseconds"]["max"]
    assert [row["labels"] for row in figures["folded"]] == [10, 40]
    assert figures["planned"]["epochs"] == 10 and figures["dense_options"] == "--set lsh.min_active=all"
    assert figures["planned"]["bench_seconds"] == pytest.approx(4 * figures["planned"]["seconds"] / 0.6)
    assert figures["n_test_samples"] == 30 and "270 samples, P@1 on 30 others" in stderr


def test_bench_plans_as_many_epochs_as_slide_train_which_keeps_no_samples_aside(slide, monkeypatch):
    plans = []

    class Watched:
        def __init__(self, session, config, data, *_):
            plans.append((config.epochs, data.n_samples))

        def run(self, given):
            return {"given": given.epochs}

    monkeypatch.setattr(bench, "_Bench", Watched)
    monkeypatch.setattr(bench, "n_epochs", lambda _, n_samples: n_samples)
    code, _, _ = slide("bench {data}/train.txt --workers 1")
    assert code == 0 and plans == [(300, 270)]


@pytest.mark.slow
def test_bench_compares_settings_without_tables_with_the_default_tables(slide):
    options = "--test {data}/test.txt --set lsh.L=0 --seconds 3 --json"
    code, stdout, stderr = slide(f"bench {{data}}/train.txt {QUICK} {options}")
    figures = figures_of(stdout)
    assert code == 0 and list(figures["ways"]) == [CHOSEN, TABLES, DENSE]
    assert figures["n_test_samples"] == 80 and "300 samples, P@1 on 80 others" in stderr


def test_bench_trains_as_slide_train_would(slide, monkeypatch, tmp_path):
    monkeypatch.setattr(auto_settings, "FEWEST_SAMPLES", 100)
    options = "--set lsh.min_active=20 --set hidden=[8]", "--set epochs=1 --set micro_batch=32"
    for number, settings in enumerate(options):
        run = tmp_path / str(number)
        assert slide(f"train {{data}}/train.txt --out {run} --workers 1 {settings}")[0] == 0
        code, stdout, stderr = slide(f"bench {{data}}/train.txt --workers 1 --seconds 3 {settings} --json")
        config = load_model(run / "model").config
        assert code == 0 and figures_of(stdout)["config"] == config.replace(epochs=n_epochs(config, 300)).to_dict()
        assert ("chosen " in stderr) == (settings == options[1])


def test_with_few_labels_there_is_nothing_to_compare(slide):
    code, stdout, stderr = slide("bench {data}/train.txt --workers 1 --seconds 0.5 --json")
    figures = figures_of(stdout)
    assert code == 0 and list(figures["ways"]) == [CHOSEN] and figures["verdict"] is None
    assert figures["ways"][CHOSEN]["active_neurons"] == 60 and "with so few labels nothing is sampled" in stderr


def test_of_few_labels_folds_tell_what_sampling_would_bring_with_more(slide, monkeypatch):
    monkeypatch.setattr(bench, "FOLDED", (40, 4_000))
    rows = figures_of(slide("bench {data}/train.txt --workers 1 --set lsh.L=0 --seconds 1 --json")[1])["folded"]
    assert rows[0]["sampled"] == rows[0][DENSE] and rows[1]["sampled"] != rows[1][DENSE]


def test_bench_makes_data_where_it_is_given_none(slide, monkeypatch):
    monkeypatch.setattr(bench, "GENERATED_SAMPLES", 100)
    code, stdout, stderr = slide(f"bench --shape wiki10-31k {QUICK}")
    assert code == 0 and "100 samples of the shape wiki10-31k" in stderr and "labels take" in stdout
    assert "P@1" not in stdout + stderr


def test_dense_is_projected_where_a_step_takes_too_long(slide, monkeypatch):
    monkeypatch.setattr(bench._Bench, "can_measure_dense", lambda *_: False)
    figures = figures_of(slide(f"bench {{data}}/train.txt {QUICK} --json")[1])
    dense = figures["ways"][DENSE]
    assert dense["projected"] and dense["samples_per_second"] == pytest.approx(figures["folded"][-1][DENSE] * 40 / 60)
    assert "precision_at_1" not in dense and figures["verdict"]["against"] != DENSE != figures["verdict"]["best"]


def test_no_more_test_samples_are_judged_than_take_a_few_seconds(data, monkeypatch):
    test, config = read_samples(f"{data}/test.txt"), Config(hidden=(8,))
    assert bench.judges(test, config) is test
    monkeypatch.setattr(bench, "FEWEST_JUDGES", 20)
    monkeypatch.setattr(bench, "PRODUCTS", 60 * 8 * 50)
    assert bench.judges(test, config).n_samples == 50
    assert bench.judges(test, config.replace(hidden=(64,))).n_samples == 20


def test_too_little_time_is_told(slide):
    code, _, stderr = slide(f"bench {{data}}/train.txt {QUICK} --seconds 1e-9")
    assert code == 2 and "--seconds 1e-09 is too short: " in stderr and "which the tables took before" in stderr


def test_all_workers_train_from_the_first_step_on(data):
    train, config = read_samples(f"{data}/train.txt"), Config(hidden=(8,))
    state = in_full_swing(config, train, 5)
    assert workers_at(state.past.steps, 5) == 5
    untrained = fit(config, train, n_workers=1, max_seconds=1e-9).arrays
    assert state.arrays.keys() == untrained.keys()
    assert all(array.tobytes() == untrained[name].tobytes() for name, array in state.arrays.items())


def test_labels_are_folded(data):
    samples = read_samples(data / "train.txt")
    folded = fold(samples, 7)
    assert folded.labels.n_columns == 7 and folded.features is samples.features
    for row in range(samples.n_samples):
        assert np.array_equal(folded.labels.row(row)[0], np.unique(samples.labels.row(row)[0] % 7))


def test_the_crossover_is_interpolated_between_logarithms():
    assert level_at([100, 10_000], [0.5, 2.0]) == pytest.approx(1000)
    assert level_at([100, 1000, 10_000], [0.1, 0.5, 2.0]) == pytest.approx(1000 * 10**0.5)
    assert level_at([100, 1000], [1.5, 3.0]) == 0 and level_at([100, 1000], [0.5, 0.9]) is None
    assert level_at([100, 1000], [1.0, 3.0]) == pytest.approx(100)  # the same thing up to here


def test_folds_in_which_all_neurons_are_active_are_level(slide):
    rows = figures_of(slide(f"bench {{data}}/train.txt {QUICK} --json")[1])["folded"]
    assert rows[0]["advantage"] == 1 and rows[0]["sampled"] == rows[0][DENSE] and rows[1]["sampled"] != rows[1][DENSE]
