"""What is shown while a command works, on a terminal and elsewhere."""

import io
import math
import os
import re
import sys

import pytest

from slide_fast.display import console as module
from slide_fast.display.console import Console
from slide_fast.display.training_table import TrainingDisplay
from slide_fast.display.wording import aligned, duration, network_in_words, score_table, wrapped
from slide_fast.parallel.units import size
from slide_ref.common.config import Config
from slide_ref.common.lsh_config import LshConfig

START = {"kind": "start", "n_samples": 100, "n_workers": 2, "step": 0, "seconds": 0.0, "samples": 0, "rebuilds": 0}
PROGRESS = {"kind": "progress", "seconds": 1.0, "step": 1, "samples": 50, "n_new": 50, "loss": 2.0,
            "active_neurons": 7.0, "rebuilds": 0}  # fmt: skip
EVALUATING = {"kind": "evaluating", "done": 1, "of": 2, "rows": 10, "is_last": False}
PLACE = {"seconds": 2.0, "epoch": 1.0, "step": 2, "samples": 100, "rebuilds": 1}
SUMMARY = {"loss": 1.5, "active_neurons": 8.0, "samples_per_second": 1234.5}
EVALUATION = PLACE | SUMMARY | {"kind": "evaluation", "precision_at_1": 0.25}
EPOCH = PLACE | SUMMARY | {"kind": "epoch", "bucket_load": 1.25, "entries_kept": 0.5, "fullest_bucket": 128}
EVENTS = [START, PROGRESS, EVALUATING, EVALUATION, EPOCH, {"kind": "end"}]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_notebook_shows_a_bar(monkeypatch, show):
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    assert "\r" in show(EVENTS, io.StringIO())


@pytest.fixture
def show(monkeypatch):
    """Show events on a terminal or elsewhere, without any waiting, and return what was written."""

    def shown(events, stream, n_labels=10_000, **options):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr(module, "SECONDS_BETWEEN_DRAWINGS", 0.0)
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
        with Console() as console:
            display = TrainingDisplay(console, Config(epochs=2), math.inf, n_labels, **options)
            for event in events:
                display(event)
        return stream.getvalue()

    return shown


def test_elsewhere_there_are_plain_lines(show):
    lines = show(EVENTS, io.StringIO()).splitlines()
    assert lines[0].split() == ["epoch", "loss", "P@1", "active", "samples/s", "bucket", "fullest", "kept", "left"]
    assert re.fullmatch(r"  \d+ %  0:05 left  50 samples/s  loss 2\.00  active 7", lines[1])
    assert re.fullmatch(r"  \d+ %  0:0[56] left  evaluating 50 %", lines[2])
    assert lines[3].split()[:-1] == ["1.00", "1.500", "25.00", "%", "8", "1,234", "1.2", "128", "50", "%"]
    assert len({len(line) for line in (lines[0], lines[3])}) == 1


def test_elsewhere_there_are_only_rows_unless_nothing_was_written_for_long(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with Console() as console:
        display = TrainingDisplay(console, Config(epochs=2), math.inf, 10_000)
        events = [START, PROGRESS, PROGRESS, *EVENTS[3:5], PROGRESS, PROGRESS]
        for seconds, event in zip((0, 20, 39, 41, 60, 80, 111), events, strict=True):
            now[0] = seconds
            display(event)
        assert [line.count("%") for line in console.stream.getvalue().splitlines()] == [
            0,
            1,
            2,
            2,
        ]  # P@1 in the last too


@pytest.mark.parametrize(("n_columns", "last"), [(30, "P@1"), (50, "samples/s"), (80, "kept"), (120, "kept")])
def test_no_line_is_wider_than_the_terminal(show, monkeypatch, n_columns, last):
    monkeypatch.setattr("os.get_terminal_size", lambda descriptor: os.terminal_size((n_columns, 24)))
    monkeypatch.setattr(Terminal, "fileno", lambda self: 2, raising=False)
    memory = {name: 10**8 for name in ("total", "data", "model", "training", "processes")}
    text = show([{"kind": "memory", **memory}, *EVENTS], Terminal())
    lines = [part for line in text.splitlines() for part in line.split("\r")]
    assert max(map(len, lines)) < n_columns
    assert next(line for line in lines if "loss" in line).split()[-1] == last


def test_lines_are_broken_between_words_beside_the_name_of_a_pair():
    pairs = [
        ("network", "3 → 4 → 5, all neurons active"),
        ("a", "b"),
        ("model", "/a/path/that/is/long/and/stays/whole"),
    ]
    assert wrapped(aligned(pairs), 30).splitlines() == [
        "network        3 → 4 → 5, all",
        "               neurons active",
        "a              b",
        "model",
        "               /a/path/that/is/long/and/stays/whole",
    ]
    assert wrapped("one two three", 8) == "one two\nthree"
    assert wrapped("  (one) two three", 12) == "  (one) two\n  three"
    setting = "learning_rate = 0.0  # 0: by the number of steps"
    assert wrapped(setting, 20) == setting and wrapped("", 20) == ""


def test_a_gap_stands_behind_the_longest_name():
    assert aligned([("learning rate", "x"), ("a", "y")]).splitlines() == ["learning rate  x", "a              y"]
    assert aligned([("a name of a fact", "x"), ("a", "y")]).splitlines()[1] == "a" + 17 * " " + "y"


@pytest.mark.parametrize(("eval_every", "losses"), [(1.0, [1.5]), (0.5, [1.5]), (2.0, [1.25])])
def test_a_row_shows_the_loss_since_the_last_row(show, eval_every, losses):
    events = [START, EVALUATION, EPOCH | {"loss": 1.25}, {"kind": "end"}]
    for order in (events, [events[i] for i in (0, 2, 1, 3)]):
        lines = show(order, io.StringIO(), eval_every=eval_every).splitlines()[1:]
        assert [float(line.split()[1]) for line in lines if line] == losses


def test_before_the_first_evaluation_the_time_left_is_one_without(show):
    told = show(EVENTS, io.StringIO(), n_test=20)
    assert "0:05 left without evaluations  50 samples/s" in told and "left  evaluating 50 %" in told
    assert "without" not in show(EVENTS, io.StringIO(), n_test=0)


def test_the_running_loss_is_one_over_a_tenth_of_an_epoch(show):
    steps = [PROGRESS | {"loss": loss, "n_new": 5} for loss in (9.0, 1.0, 1.0, 1.0)]
    assert "loss 2.00" in show([START, *steps], io.StringIO()).splitlines()[-1]


def test_steps_without_labels_do_not_count_in_the_running_loss(show):
    bare = {key: value for key, value in PROGRESS.items() if key not in ("loss", "active_neurons")}
    assert "50 samples/s" in (told := show([START, bare], io.StringIO())) and "loss " not in told.splitlines()[-1]
    assert "loss 2.00  active 7" in show([START, bare, PROGRESS, bare], io.StringIO()).splitlines()[-1]


def test_an_evaluation_and_the_end_of_an_epoch_make_one_row_in_any_order(show):
    wanted = show([START, EVALUATION, EPOCH, {"kind": "end"}], Terminal())
    assert show([START, EPOCH, EVALUATION, {"kind": "end"}], Terminal()) == wanted
    assert show([START, EVALUATION, EPOCH | {"step": 3}, {"kind": "end"}], Terminal()).count("1.500") == 2


def test_on_a_terminal_there_is_a_bar_that_goes_away(show):
    text = show(EVENTS, Terminal())
    assert "50 samples/s  loss 2.00  active 7" in text and "evaluating 50 %" in text
    assert text.splitlines()[0].split()[-1] == "kept"
    assert text.endswith(" \r\n")


def test_a_dense_output_has_no_tables_to_tell_of(show):
    assert "bucket" not in show(EVENTS, io.StringIO(), n_labels=500)


def test_results_go_where_they_are_asked_for(capsys):
    for to_stderr, place in ((False, "out"), (True, "err")):
        Console(results_to_stderr=to_stderr).result("result")
        assert getattr(capsys.readouterr(), place) == "result\n"


def test_figures_in_words():
    assert [duration(seconds) for seconds in (0.4, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]
    assert [size(n) for n in (12, 9_994_000, 1_249_000_000, 12.34e9)] == ["12 bytes", "10 MB", "1.25 GB", "12.3 GB"]
    scores = {f"{name}_at_{k}": 0.5 for name in ("precision", "ndcg") for k in (1, 3, 5)}
    assert score_table(scores, {"simple": 0.25}).splitlines() == [
        "per cent       @1      @3      @5",
        "P           50.00   50.00   50.00",
        "nDCG        50.00   50.00   50.00",
        "P, simple   25.00",
    ]


@pytest.mark.parametrize(
    ("lsh", "wanted"),
    [
        (LshConfig(min_active=100), "3 → 128 → 100, all neurons active"),
        (LshConfig(min_active=9), "3 → 128 → 100, simhash K=14 L=10, at least 9 active in a micro-batch"),
        (LshConfig(min_active=9, L=0), "3 → 128 → 100, uniform draws, at least 9 active in a micro-batch"),
    ],
)
def test_a_network_in_words(lsh, wanted):
    assert network_in_words(Config(lsh=lsh), 3, 100) == wanted


HIDDEN_LSH = {1: LshConfig(K=6, min_active=0), 2: LshConfig(L=0, min_active=5)}


@pytest.mark.parametrize(
    ("min_active", "wanted"),
    [
        (100, "all labels active; layer 1: simhash K=6 L=10; layer 2: uniform draws, at least 5 active in a sample"),
        (0, "simhash K=14 L=10; layer 1: simhash K=6 L=10; layer 2: uniform draws, at least 5 active in a sample"),
    ],
)
def test_a_deep_network_in_words(min_active, wanted):
    lsh = LshConfig(min_active=min_active)
    config = Config(hidden=(4, 50, 60), hidden_lsh=HIDDEN_LSH, lsh=lsh, scope="sample")
    assert network_in_words(config, 3, 100) == f"3 → 4 → 50 → 60 → 100, {wanted}"
