"""What the benchmarks share: each contender runs in a process of its own, in turn, once the agreement tests pass."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from slide_fast.parallel.machine import available_cpus, cpu_model

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PEERS = ("torch", "omikuji", "scikit-learn")
AGREED = "SLIDE_BENCHMARKS_AGREED"  # environment variable: the process that has run the agreement tests


def require_agreement(tests: str = "tests/agreement") -> None:
    """End the program unless reference and fast path agree: else there is nothing to measure.

    A benchmark that `all.py` starts does not run the tests once more.
    """
    if os.environ.get(AGREED) == str(os.getppid()):
        return
    if find_spec("pytest") is None:
        sys.exit('pytest is not installed; run: python -m pip install -e ".[bench]"')
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "auto", "-m", "not slow", tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(
            f"the agreement tests fail, so there is nothing to measure:\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        )


def child(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Call a function of a benchmark's module, by name, in a fresh process; its result must be JSON."""
    module = function.__module__ if function.__module__ != "__main__" else Path(sys.argv[0]).stem
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import importlib;"
        "f = getattr(importlib.import_module(sys.argv[2]), sys.argv[3]);"
        "print(json.dumps(f(*json.loads(sys.argv[4]))))"
    )
    command = [sys.executable, "-c", code, str(ROOT / "benchmarks"), module, function.__name__, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(contenders: Sequence[Callable[[], Any]], rounds: int) -> list[list[Any]]:
    """Run A, B, …, A, B, …; returns each contender's results. Turns make a drift of the machine fall on all alike."""
    results: list[list[Any]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, own in zip(contenders, results, strict=True):
            own.append(contender())
    return results


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def blas_of_numpy() -> str:
    """NumPy's library for matrix products, and the processor that it takes this one for."""
    libraries = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    own = [lib for lib in libraries if {"numpy", "numpy.libs"} & set(Path(lib["filepath"]).parts)] or libraries
    return ", ".join(f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}" for lib in own)


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    facts = {
        "cpu": cpu_model(),
        "cpus": available_cpus(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas_of_numpy(),
        "date": datetime.date.today().isoformat(),
    }
    for peer in PEERS:
        try:
            facts[peer] = importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts


def read_result(name: str) -> dict[str, Any] | None:
    """What `write_result` wrote under this name; None where it did not."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def figure(draw: Callable[[Any], None], name: str, folder: Path = RESULTS, **axes: Any) -> None:
    """Let `draw` fill a plot, and write it to name.png in a folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    picture, plot = pyplot.subplots(figsize=(8, 5), layout="constrained")
    draw(plot)
    plot.set(**axes)
    plot.grid(alpha=0.3)
    if plot.get_legend_handles_labels()[0]:
        plot.legend()
    path = folder / f"{name}.png"
    picture.savefig(path, dpi=110)
    pyplot.close(picture)
    print(f"drawn in {path.relative_to(ROOT)}")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, the first row a header: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]).rstrip(), flush=True)


def write_result(name: str, result: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write name.json, with the machine and the command in it, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [f"DIR/{Path(word).name}" if os.path.isdir(word) else word for word in sys.argv[1:]]
    command = shlex.join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *arguments])
    path = folder / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"command": command, "machine": machine(), **result}, indent=1) + "\n")
    os.replace(temporary, path)
    print(f"written to {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
