"""Learning curves: what is read from metrics.jsonl, and that a picture comes out."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from slide_fast.display.plots import PlotError, _begin_at_zero, plot_runs, read_curves
from slide_ref.common.errors import DataError, SlideError

POINT = {"kind": "evaluation", "seconds": 1.5, "epoch": 0.5, "precision_at_1": 0.25, "loss": 3.0, "active_neurons": 9}


def write_run(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "metrics.jsonl").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return folder


def test_evaluations_are_read_and_other_lines_are_not(tmp_path):
    later = POINT | {"seconds": 3, "epoch": 1, "precision_at_1": 0.5}
    run = write_run(tmp_path / "run", POINT, {"kind": "epoch", "epoch": 1}, later, {"kind": "end", "seconds": "x"})
    curves = read_curves(run)
    assert {name: values.tolist() for name, values in curves.items()} == {
        "seconds": [1.5, 3.0], "epoch": [0.5, 1.0], "precision_at_1": [0.25, 0.5], "loss": [3.0, 3.0],
        "active_neurons": [9.0, 9.0],
    }  # fmt: skip


def test_loss_and_active_neurons_may_be_unknown(tmp_path):
    bare = {key: POINT[key] for key in ("kind", "seconds", "epoch", "precision_at_1")}
    run = write_run(tmp_path / "run", bare, POINT | {"loss": None, "active_neurons": float("inf")})
    curves = read_curves(run)
    assert np.isnan(curves["loss"]).all() and not np.isfinite(curves["active_neurons"]).any()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", 'not an object with a "kind"'),
        ("{}", 'not an object with a "kind"'),
        ('{"kind": 3}', 'not an object with a "kind"'),
        (POINT | {"seconds": "1"}, "seconds is '1' instead of a finite number"),
        (POINT | {"epoch": None}, "epoch is None"),
        (POINT | {"precision_at_1": True}, "precision_at_1 is True"),
        (POINT | {"precision_at_1": float("nan")}, "precision_at_1 is nan"),
        (POINT | {"seconds": 10**400}, "seconds is inf"),
        (POINT | {"loss": []}, r"loss is \[\]"),
        ({"kind": "evaluation"}, "seconds is None"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, wanted):
    run = write_run(tmp_path / "run", POINT, line, POINT)
    with pytest.raises(DataError, match=wanted) as caught:
        read_curves(run)
    assert str(caught.value).startswith(f"{run / 'metrics.jsonl'}, line 2: ") and "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    run = write_run(tmp_path / "run", POINT)
    (run / "metrics.jsonl").write_bytes(b'{"kind": "\xff"}\n')
    with pytest.raises(DataError, match="line 1: not valid JSON"):
        read_curves(run)


def test_a_run_without_evaluations_or_without_the_file(tmp_path):
    with pytest.raises(DataError, match="metrics.jsonl: cannot be read .*; give a run folder that training wrote"):
        read_curves(tmp_path / "none")
    for lines in ([], [{"kind": "epoch"}]):
        with pytest.raises(DataError, match="metrics.jsonl: contains no evaluation"):
            read_curves(write_run(tmp_path / "run", *lines))


def pixels(path):
    return pytest.importorskip("matplotlib.image").imread(path)


@pytest.mark.parametrize("n_runs", [1, 2, 9])
def test_runs_are_drawn(tmp_path, n_runs):
    pytest.importorskip("matplotlib")
    points = [POINT | {"seconds": 10.0 * i, "epoch": i / 2, "precision_at_1": 0.3 - 0.2 / (i + 1)} for i in range(6)]
    runs = [write_run(tmp_path / f"_run $^$ {i}", *points) for i in range(n_runs)]
    plot_runs(runs, tmp_path / "curves.png", {"commonest label": 0.11, "co-occurrence": 0.25})
    picture = pixels(tmp_path / "curves.png")
    assert picture.shape[1] >= 1000 and picture.std() > 0.05


@pytest.mark.parametrize("point", [
    POINT,
    POINT | {"seconds": 0, "epoch": 0, "precision_at_1": 0, "loss": None},
    POINT | {"loss": float("nan"), "active_neurons": None},
])  # fmt: skip
def test_one_evaluation_is_drawn(tmp_path, point):
    pytest.importorskip("matplotlib")
    plot_runs([write_run(tmp_path / "run", point)], tmp_path / "curves.png")
    assert pixels(tmp_path / "curves.png").std() > 0.02


@pytest.mark.parametrize("y_too", [True, False])
def test_no_point_lies_on_the_edge_of_axes_that_begin_at_zero(y_too):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    axes.plot([0.5, 6], [7.5, 6.8])
    _begin_at_zero(axes, y_too)
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 6.1
    bottom, top = axes.get_ylim()
    assert (bottom == 0 if y_too else 6 < bottom < 6.8) and top > 7.52


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    from slide_fast.display.plots import _names_of

    assert _names_of([tmp_path / "a" / "run", tmp_path / "b" / "run2"]) == ["run", "run2"]
    same = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert _names_of(same) == [str(path) for path in same]


def test_the_users_matplotlib_is_left_alone(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    plot_runs([write_run(tmp_path / "run", POINT)], tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("backend", "settings"), [
    ("nosuch", b""),
    ("", b"text.usetex: True\ntext.latex.preamble: \\\\nosuch\n"),
    ("", b"backend: nosuch\nfont.size: large\n"),
])  # fmt: skip
def test_what_the_user_has_set_for_matplotlib_does_not_matter(tmp_path, backend, settings):
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "run", POINT)
    (tmp_path / "matplotlibrc").write_bytes(settings)
    surroundings = os.environ | {"MPLCONFIGDIR": str(tmp_path), "MPLBACKEND": backend}
    command = [sys.executable, "-m", "slide_fast", "plot", str(run), "--out", str(tmp_path / "curves.png")]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert pixels(tmp_path / "curves.png").std() > 0.02


def test_a_failure_of_matplotlib_is_told_in_one_line(tmp_path):
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "run", POINT)
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")  # no text
    command = [sys.executable, "-m", "slide_fast", "plot", str(run), "--out", str(tmp_path / "curves.png")]
    surroundings = os.environ | {"MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "slide: error: matplotlib cannot draw the curves (" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_that_cannot_be_written(tmp_path):
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "run", POINT)
    with pytest.raises(PlotError, match=r"none.curves\.png: cannot be written \(there is no folder .*none\)"):
        plot_runs([run], tmp_path / "none" / "curves.png")


def test_without_matplotlib_there_is_a_hint(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SlideError, match="pip install matplotlib"):
        plot_runs([write_run(tmp_path / "run", POINT)], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
