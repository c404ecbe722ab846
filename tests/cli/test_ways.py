"""Ways to train that `slide bench` compares, runs that fit in a time, and what is said about the outcome."""

import numpy as np
import pytest

from slide_fast.cli.bench_report import accuracy_in_words, report
from slide_fast.cli.options import parser
from slide_fast.cli.settings import PRESETS, config_of, settings_of
from slide_fast.cli.ways import (
    CHOSEN,
    DENSE,
    TABLES,
    THROUGHOUT,
    UNIFORM,
    Timing,
    as_it_trains,
    options_of,
    phases,
    run_within,
    seconds_of,
    verdict,
    ways_to_train,
)
from slide_ref.common.config import WIDE, Config
from slide_ref.common.schedule import total_steps
from slide_ref.common.sparse_rows import Dataset, SparseRows

MANY, FEW = 5000, 100
WIDE_UNIFORM = Config().replace(**WIDE | {"lsh": {"L": 0, "min_active": 2000}})


def data_of(n_samples):
    rows = SparseRows(np.arange(n_samples + 1), np.zeros(n_samples, np.int32), None, 3)
    return Dataset(rows, rows)


@pytest.mark.parametrize(
    ("config", "n_labels", "names"),
    [
        (Config(), MANY, [CHOSEN, THROUGHOUT, UNIFORM, DENSE]),
        (Config(in_batch=0.0), MANY, [CHOSEN, UNIFORM, DENSE]),
        (Config(in_batch=0.8), MANY, [CHOSEN, THROUGHOUT, UNIFORM, DENSE]),
        (Config(in_batch=1.0), MANY, [CHOSEN, TABLES, THROUGHOUT, DENSE]),
        (Config().replace(**WIDE), MANY, [CHOSEN, TABLES, UNIFORM, DENSE]),
        (WIDE_UNIFORM, MANY, [CHOSEN, TABLES, DENSE]),
        (Config.from_dict(PRESETS["paper"]), MANY, [CHOSEN, UNIFORM, DENSE]),
        (Config(), FEW, [CHOSEN]),
        (Config().replace(**WIDE), FEW, [CHOSEN, DENSE]),
        (WIDE_UNIFORM, FEW, [CHOSEN]),
    ],
)
def test_ways_are_those_that_differ(config, n_labels, names):
    ways = ways_to_train(config, n_labels)
    assert list(ways) == names
    for name, way in ways.items():
        assert way.hidden == config.hidden and way.scope == config.scope
        assert name not in (TABLES, THROUGHOUT) or way.lsh.L > 0
        assert name != UNIFORM or (way.lsh.L == 0 and way.lsh.min_active == 2000)
        assert name != DENSE or way.lsh.min_active >= n_labels


def test_tables_are_queried_in_the_end_also_where_the_chosen_settings_are_in_batch_throughout():
    ways = ways_to_train(WIDE_UNIFORM.replace(in_batch=1.0), MANY)
    assert list(ways) == [CHOSEN, TABLES, DENSE] and ways[TABLES].in_batch == Config().in_batch
    assert len(phases(ways[TABLES])) == 2 and len(phases(ways[CHOSEN])) == 1


@pytest.mark.parametrize("preset", [[], ["--preset", "wide"], ["--preset", "paper"], ["--set", "lsh.family=simhash"]])
def test_the_options_named_for_a_way_train_in_that_way(preset):
    def config(options):
        return config_of(settings_of(parser().parse_args(["bench", "x", *preset, *options.split()])), MANY)

    for chosen in (config(""), WIDE_UNIFORM, config("").replace(input_scale=0.25)):
        for way in ways_to_train(chosen, MANY).values():
            trained = config(options_of(way, config(""))).replace(input_scale=way.input_scale)
            assert as_it_trains(trained, MANY) == way


def test_phases_are_the_in_batch_steps_and_those_after_them():
    ways = ways_to_train(Config(), MANY)
    assert list(phases(ways[CHOSEN]).values()) == [0.6, 0.4] and list(phases(ways[THROUGHOUT]).values()) == [1]
    before, after = phases(ways[CHOSEN])
    assert before in phases(ways[UNIFORM]) and after in phases(ways[THROUGHOUT])  # measured once
    assert list(phases(ways[DENSE])) == [ways[DENSE]]


def event(kind, seconds, step, rebuilds):
    return {"kind": kind, "seconds": seconds, "step": step, "rebuilds": rebuilds}


def test_steps_are_timed_without_the_rebuilds_between_them():
    reports = [event("progress", 3.0, 10, 1), event("progress", 5.0, 30, 1), event("progress", 8.0, 40, 2),
               event("progress", 9.0, 50, 2)]  # fmt: skip
    end = event("end", 9.0, 50, 2)
    assert Timing.of([*reports, end], True) == (0.1, 2.0)
    assert Timing.of([*reports, end], False) == (9 / 50, 0.0)
    assert Timing.of([reports[0], event("end", 3.0, 10, 1)], True) == (0.3, 0.0)


def timings_of(way, *timings):
    return dict(zip(phases(way), timings, strict=True))


def test_the_seconds_of_a_run_count_phases_rebuilds_and_joining_workers():
    way, plain = Config(rebuild_gap=100, rebuild_growth=0.0), Config().replace(in_batch=0.0, lsh={"L": 0})
    timings = timings_of(way, Timing(0.1), Timing(0.2, 5.0))
    assert seconds_of(way, 1000, timings, 1) == pytest.approx(600 * 0.1 + 400 * 0.2 + 5 * 4)  # 600, 700, 800, 900
    assert seconds_of(plain, 10, timings_of(plain, Timing(0.1)), 2) == pytest.approx(1)
    in_batch = Config(in_batch=1.0).replace(lsh={"L": 0})
    assert seconds_of(in_batch, 10, timings_of(in_batch, Timing(0.1)), 1) == pytest.approx(1)
    assert seconds_of(plain, 200, timings_of(plain, Timing(0.1)), 4) == pytest.approx(100 * 0.2 + 100 * 0.4 / 3)


@pytest.mark.parametrize("seconds", [1e-9, 0.5, 1.0, 3.3, 20.0, 1e6])
@pytest.mark.parametrize("config", [Config(micro_batch=32), Config(in_batch=0.0, micro_batch=32, epochs=2)])
def test_a_run_fits_in_the_seconds_and_is_no_longer_than_a_whole_one(config, seconds):
    data, timings = data_of(1000), timings_of(config, *[Timing(0.01), Timing(0.02, 0.3)][-len(phases(config)) :])
    shorter, seen = run_within(seconds, config, data, timings, 1)
    n_steps, whole = total_steps(shorter, seen.n_samples), total_steps(config, 1000)
    assert shorter.replace(epochs=config.epochs) == config and 1 <= n_steps <= whole
    assert seconds_of(config, n_steps, timings, 1) <= seconds + shorter.epochs * 0.02 or n_steps == 1
    if n_steps < whole:
        assert seconds_of(config, n_steps + shorter.epochs, timings, 1) > seconds
    else:
        assert seen is data


def judged(chosen, throughout, uniform, n_labels=MANY):
    ways = ways_to_train(Config(), n_labels)
    hits = {name: np.arange(1000) < n for name, n in zip(ways, (chosen, throughout, uniform), strict=False)}
    return verdict(hits, ways, n_labels), hits


@pytest.mark.parametrize(
    ("counts", "best", "against", "tables_pay", "is_better"),
    [
        ((300, 290, 200), CHOSEN, UNIFORM, True, False),
        ((290, 300, 200), THROUGHOUT, UNIFORM, True, True),
        ((300, 290, 400), UNIFORM, CHOSEN, False, True),
        ((300, 290, 302), UNIFORM, CHOSEN, None, False),
        ((300, 300, 300), CHOSEN, UNIFORM, None, False),
    ],
)
def test_the_verdict_compares_the_best_with_and_without_tables(counts, best, against, tables_pay, is_better):
    found, hits = judged(*counts)
    assert (found["best"], found["against"], found["tables_pay"]) == (best, against, tables_pay)
    assert found["difference"] == pytest.approx(hits[best].mean() - hits[against].mean())
    assert found["margin"] == pytest.approx(2 * np.sqrt(np.sum(hits[best] != hits[against])) / 1000)
    assert found["is_better_than_chosen"] == is_better


def test_ways_of_one_kind_are_compared_too():
    ways = ways_to_train(Config().replace(**WIDE), FEW)
    found = verdict({CHOSEN: np.arange(100) < 50, DENSE: np.arange(100) < 80}, ways, FEW)
    assert (found["best"], found["against"], found["tables_pay"]) == (DENSE, CHOSEN, None)


def figures_with(found, seconds=(6.1, 5.9, 6.0), epochs=2.0):
    scores = {CHOSEN: 0.29, THROUGHOUT: 0.312, UNIFORM: 0.298}
    ways = {
        name: {"samples_per_second": 1000.0, "active_neurons": 2000.0, "projected": False, "seconds_per_epoch": 9.0,
               "precision_at_1": score, "trained_seconds": after, "epochs": epochs}
        for (name, score), after in zip(scores.items(), seconds, strict=True)
    }  # fmt: skip
    ways[DENSE] = {"samples_per_second": 100.0, "active_neurons": 5000, "projected": True, "seconds_per_epoch": 90.0}
    verdict = {"best": THROUGHOUT, "against": UNIFORM, "difference": 0.014, "margin": 0.01, "tables_pay": True,
               "is_better_than_chosen": True, "options": "--set in_batch=0.0"} | found  # fmt: skip
    return {
        "ways": ways,
        "verdict": verdict,
        "dense_is_faster": False,
        "crossover_labels": 1234.0,
        "latency_milliseconds": {"median": 1.0, "max": 2.0},
        "n_test_samples": 5000,
        "planned": {"epochs": 5, "seconds": 65.0, "bench_seconds": 433.3},
        "dense_options": "--set lsh.min_active=all",
    }


def test_the_verdict_in_words():
    pay = "Tables pay here: P@1 is 31.2 % with tables from the first step on, 29.8 % with uniform negatives, "
    lines = accuracy_in_words(figures_with({}))
    assert lines[0] == pay + "after 6 s of training."
    assert lines[1] == "To train with tables from the first step on, give slide train --set in_batch=0.0"
    assert lines[2] == (
        "slide train would train 5 epochs in 1:05; by then the order may change: --seconds 430 gives each way as long."
    )
    assert accuracy_in_words(figures_with({}, (6, 7.2, 6)))[0] == pay + "after 7 and 6 s of training."
    assert accuracy_in_words(figures_with({}, (6, 0.32, 0.3)))[0] == pay + "after 0.3 s of training."
    assert len(accuracy_in_words(figures_with({"is_better_than_chosen": False}, epochs=5.0))) == 1
    other = {"best": UNIFORM, "against": CHOSEN, "tables_pay": False}
    assert accuracy_in_words(figures_with(other))[0].startswith(
        "Tables do not pay here: P@1 is 29.8 % with uniform negatives, 29.0 % with the settings of slide train, "
    )
    assert accuracy_in_words(figures_with({"tables_pay": None}))[0].startswith("Training with tables from the first")
    even = accuracy_in_words(figures_with({"difference": 0.01, "tables_pay": None}))[0]
    assert even.startswith("No difference here that 5,000 test samples can show: P@1 is 31.2 % with tables")
    assert accuracy_in_words(figures_with({}) | {"verdict": None}) == []


def test_the_report_has_a_row_for_each_way_and_the_verdict_below():
    table, sentences = report(figures_with({}), (10, 40), 5).split("\n\n")
    heads, *rows = table.splitlines()
    assert heads.split("  ")[-1].strip() == "epochs" and "P@1 %" in heads
    assert [row[:18].strip() for row in rows] == [CHOSEN, THROUGHOUT, UNIFORM, "dense, projected"]
    assert len({len(row) for row in [heads, *rows[:3]]}) == 1 and "31.20" in rows[1]
    assert sentences.startswith("Tables pay here") and "10.0 times slower" in sentences
    assert "equally fast at about 1,200 labels" in sentences
    faster = report(figures_with({}) | {"dense_is_faster": True, "crossover_labels": None}, (10, 40), 5)
    assert "times faster for this problem: --set lsh.min_active=all" in faster
    assert "Dense is faster even at 40 labels." in faster
    slower = report(figures_with({}) | {"crossover_labels": 0.0}, (10, 40), 5)
    assert "Dense is slower from 10 labels on, or from fewer." in slower
