"""What the benchmarks compute from their measurements; the measurements themselves are no tests."""

import ast
import importlib
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from problems import random_dataset

from slide_fast.data import write_xmc
from slide_ref.common.config import Config

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
OURS = ("slide_fast", "slide_ref")
ASSIGNMENTS = ast.Assign, ast.AnnAssign


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def points(*scores):
    return [{"seconds": 10.0 * (i + 1), "precision_at_1": score} for i, score in enumerate(scores)]


def test_time_to_accuracy_is_interpolated():
    from shared.curves import best, time_to

    curve = points(0.1, 0.3, 0.2)
    assert best(curve) == 0.3
    assert time_to(curve, 0.2) == pytest.approx(15) and time_to(curve, 0.05) == pytest.approx(5)
    assert time_to(curve, 0.3) == pytest.approx(20) and time_to(curve, 0.31) is None
    assert time_to(points(0.4), 0.2) == 10  # known at the end only


def test_a_curve_ends_after_three_evaluations_without_a_gain_or_when_its_time_is_up():
    from shared.curves import ended

    assert not ended([], 1e9) and not ended(points(0.2, 0.1, 0.1), 1e9) and not ended(points(0.1, 0.2, 0.3, 0.4), 1e9)
    assert ended(points(0.2, 0.1, 0.2, 0.2), 1e9) and ended(points(0.1, 0.2), 20)


def test_rebuilds_are_counted_out_for_ten_minutes():
    from rebuild import simulate

    course = simulate(step_seconds=1.0, rebuild_seconds=10.0, config=Config(rebuild_gap=90, rebuild_growth=0.0))
    assert course == [(10, 10), (110, 20), (210, 30), (310, 40), (410, 50), (510, 60), (600, 60)]


def files_of_the_performance_page():
    """Result files named there, but for what takes hours or another machine (dense curves, a GPU)."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for pattern in re.findall(r"`([\w*-]+\.json)`", page):
        if not pattern.startswith(("dense_", "gpu_")):
            yield from sorted((BENCHMARKS / "results").glob(pattern))


def test_one_command_measures_every_row_of_the_performance_page():
    commands = {f"python benchmarks/{command}" for command in importlib.import_module("all").COMMANDS}
    measured = {path.name: json.loads(path.read_text())["command"] for path in files_of_the_performance_page()}
    assert len(measured) >= 15 and {name: by for name, by in measured.items() if by not in commands} == {}


def test_a_benchmark_that_fails_is_named_and_the_others_run(monkeypatch, capsys):
    everything, ran = importlib.import_module("all"), []
    monkeypatch.setattr(everything, "require_agreement", lambda: None)
    monkeypatch.setattr(everything, "run", lambda command: ran.append(command) or int("labels" in command))
    monkeypatch.setattr("sys.argv", ["all.py", "--only", "throughput.py"])
    with pytest.raises(SystemExit, match=r"failed: throughput\.py labels --rounds 2$"):
        everything.main()
    assert len(ran) == 4
    monkeypatch.setattr("sys.argv", ["all.py", "--only", "unknown"])
    with pytest.raises(SystemExit, match="2"):
        everything.main()
    assert "no command contains unknown; --list prints all" in capsys.readouterr().err


def test_the_agreement_tests_run_once_for_all_benchmarks(monkeypatch):
    from shared import harness

    ran = []
    monkeypatch.setattr(
        harness.subprocess, "run", lambda *args, **named: ran.append(args) or SimpleNamespace(returncode=0)
    )
    monkeypatch.setenv(harness.AGREED, str(os.getppid()))
    harness.require_agreement()
    assert not ran
    monkeypatch.setenv(harness.AGREED, "1234567890")
    harness.require_agreement()
    assert len(ran) == 1


def test_results_are_written_whole_and_read_back(tmp_path, monkeypatch, capsys):
    from shared import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", [str(BENCHMARKS / "floor.py"), "--data", "acl_authors"])
    assert harness.read_result("x") is None
    harness.write_result("x", {"figure": 1}, tmp_path)
    result = harness.read_result("x")
    assert result["figure"] == 1 and result["command"] == "python benchmarks/floor.py --data acl_authors"
    assert {"cpu", "cpus", "numpy", "date"} <= result["machine"].keys() and result["machine"]["blas"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    harness.table([["", "long head"], ["a name", "1"]])
    assert capsys.readouterr().out.splitlines()[-2:] == ["        long head", "a name          1"]


def names_in(file):
    """Names that a module defines or imports at its top."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        names |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(node, ASSIGNMENTS)}
    return names


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_what_there_is(path):
    """Told from their text: some import PyTorch."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        file = BENCHMARKS / f"{node.module.replace('.', '/')}.py"
        if file.exists():
            assert {alias.name for alias in node.names} <= names_in(file)
        elif (folder := file.with_suffix("")).exists():
            assert all((folder / f"{alias.name}.py").exists() for alias in node.names)
        elif node.module.split(".")[0] in OURS:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}"), alias.name


def test_a_contender_is_trained_judged_and_weighed(tmp_path, monkeypatch):
    from shared import contenders, tasks

    monkeypatch.setattr(tasks, "CACHE", tmp_path / "cache")
    for i, name in enumerate(("train.txt", "test.txt")):
        write_xmc(tmp_path / name, random_dataset(i))
    found = contenders.slide(str(tmp_path), 1, 60.0, preset="fast")
    assert 0 <= found.pop("psp_at_1") <= 1 and all(0 < found[f"precision_at_{k}"] <= 1 for k in (1, 3, 5))
    assert found.keys() == {"precision_at_1", "precision_at_3", "precision_at_5", "seconds", "rows_per_second",
                            "peak_memory_bytes", "model_bytes"}  # fmt: skip
    assert min(found.values()) > 0 and found["model_bytes"] > 4 * 128  # of some weights


def test_pictures_of_results_are_shown_on_a_page():
    """And no others are kept; links that lead nowhere are another test's."""
    draw = importlib.import_module("draw")
    assert sorted(path.stem for path in draw.PICTURES.iterdir()) == sorted(draw.shown())
    for name in draw.shown():
        assert draw.plot_of(name).axes["ylabel"]


def test_a_comparison_of_other_data_or_of_fewer_contenders_replaces_no_result():
    from compare import kept_by

    def result(*names, **more):
        return {"rows": [{"contender": name} for name in names], **more}

    data = {"train": 30, "test": 10}
    both, one = result("slide", "omikuji", data=data), result("slide", data=data)
    assert kept_by(None, one) == kept_by(one, both) == kept_by(both, both) == kept_by(result("slide"), one) == ""
    assert kept_by(both, one) == "has rows of omikuji too"
    assert kept_by(one, result("slide", data={"train": 31, "test": 10})) == "is of other data"
