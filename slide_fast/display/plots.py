"""Learning curves as an image. Needs matplotlib, which is imported only when an image is drawn."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slide_ref.common.errors import DataError, SlideError
from slide_ref.common.storage.complete_file import complete_file, reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REQUIRED, OPTIONAL = ("seconds", "epoch", "precision_at_1"), ("loss", "active_neurons")
# Okabe and Ito's palette, told apart by colour-blind readers too; its yellow and grey are too faint for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", ":", "-.")
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
}
_PANELS = (
    ("seconds", "precision_at_1", "training time (seconds)", "P@1 on test samples (%)"),
    ("epoch", "precision_at_1", "epochs", "P@1 on test samples (%)"),
    ("seconds", "loss", "training time (seconds)", "training loss (nats)"),
    ("epoch", "active_neurons", "epochs", "active output neurons"),
)


class PlotError(SlideError):
    """An image that cannot be made: matplotlib is missing or fails, or the file cannot be written."""


def read_curves(run: str | Path) -> dict[str, np.ndarray]:
    """Read the evaluations of a run from its metrics.jsonl.

    Parameters
    ----------
    run : path
        A run folder.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_evaluations,)
        ``seconds``, ``epoch``, ``precision_at_1``, ``loss`` and ``active_neurons``; unknown values of the last two are
        not finite.

    Raises
    ------
    DataError
        If the file is missing, malformed, or holds no evaluation. The message names the file and line.
    """
    path = Path(run) / "metrics.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        hint = f"cannot be read ({error.strerror or error}); give a run folder that training wrote"
        raise DataError(hint, str(path)) from error
    points = []
    for number, line in enumerate(lines, start=1):
        entry = _parse(line, path, number)
        if entry["kind"] == "evaluation" and "kept_epoch" not in entry:  # which is of a network evaluated before
            points.append([_number(entry, key, path, number) for key in REQUIRED + OPTIONAL])
    if not points:
        raise DataError("contains no evaluation; train with --test or --validation-fraction", str(path))
    return dict(zip(REQUIRED + OPTIONAL, np.array(points).T, strict=True))


def plot_runs(runs: list[Path], out: str | Path, baselines: dict[str, float] | None = None) -> None:
    """Draw the learning curves of runs: P@1 and loss over time, P@1 and active neurons over epochs.

    Parameters
    ----------
    runs : list of path
        Run folders; one line per run.
    out : path
        The PNG file to write.
    baselines : dict of str to float, optional
        P@1 of simple baselines by name, as fractions; drawn as dashed horizontal lines.

    Raises
    ------
    PlotError
        If matplotlib is not installed or cannot draw, or `out` cannot be written.
    DataError
        As `read_curves`.
    """
    curves = [read_curves(run) for run in runs]
    names = _names_of(runs) if len(runs) > 1 else []
    try:
        picture = _picture(curves, names, baselines or {})
    except ModuleNotFoundError as error:
        hint = "curves need matplotlib; install it with: pip install matplotlib"
        raise PlotError(hint) from error
    except MemoryError:
        raise
    except Exception as error:  # matplotlib raises many kinds, for damaged installations and settings too
        hint = "check its installation and its settings"
        raise PlotError(f"matplotlib cannot draw the curves ({error or type(error).__name__}); {hint}") from error
    try:
        with complete_file(out) as file:
            file.write(picture)
    except OSError as error:
        raise PlotError(f"{out}: cannot be written ({reason(error, out)}); choose another file") from error


def _picture(curves: list[dict[str, np.ndarray]], names: list[str], baselines: dict[str, float]) -> bytes:
    """Return a PNG of curves, with a legend if there are names, by matplotlib's own settings instead of the user's."""
    with _no_backend_named():
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(10, 7.4), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        FigureCanvasAgg(figure)
        for axes, (x, y, x_label, y_label) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
            _draw(axes, curves, x, y)
            axes.set(xlabel=x_label, ylabel=y_label)
            if y == "precision_at_1":
                _draw_baselines(axes, baselines)
            _begin_at_zero(axes, y_too=y != "loss")
        if names:
            lines = figure.axes[0].lines[: len(names)]
            figure.legend(lines, names, loc="outside upper center", ncols=min(len(names), 4))
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    return picture.getvalue()


@contextmanager
def _no_backend_named() -> Iterator[None]:
    """Hide MPLBACKEND, which Jupyter sets: importing matplotlib fails if the backend it names is not installed."""
    name = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if name is not None:
            os.environ["MPLBACKEND"] = name


def _draw(axes: Axes, curves: list[dict[str, np.ndarray]], x: str, y: str) -> None:
    for i, (curve, colour) in enumerate(zip(curves, cycle(_COLOURS), strict=False)):
        known = np.isfinite(curve[y])
        scale = 100 if y == "precision_at_1" else 1
        marker = "o" if known.sum() <= 30 else ""
        dash = _DASHES[i // len(_COLOURS) % len(_DASHES)]
        axes.plot(curve[x][known], scale * curve[y][known], dash, color=colour, marker=marker, markersize=4)


def _begin_at_zero(axes: Axes, y_too: bool) -> None:
    """Let axes begin at 0, with some space beyond the largest value."""
    axes.update_datalim([(0.0, 0.0)], updatey=y_too)
    axes.autoscale_view()
    axes.set_xlim(left=0)
    if y_too:
        axes.set_ylim(bottom=0)


def _draw_baselines(axes: Axes, baselines: dict[str, float]) -> None:
    for name, value in baselines.items():
        axes.axhline(100 * value, linestyle="--", linewidth=1.2, color="#555555")
        text = axes.annotate(
            f"{name} {100 * value:.1f} %",
            xy=(1, 100 * value),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9,
            color="#444444",
        )
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1})


def _names_of(runs: list[Path]) -> list[str]:
    names = [Path(run).resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON ({error}); remove the line", str(path), number) from error
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        raise DataError('not an object with a "kind"; remove the line', str(path), number)
    return entry


def _number(entry: dict[str, Any], key: str, path: Path, number: int) -> float:
    value = entry.get(key)
    if value is None and key in OPTIONAL:
        return math.nan
    if not isinstance(value, float) or not (math.isfinite(value) or key in OPTIONAL):
        raise DataError(f"{key} is {value!r} instead of a finite number; remove the line", str(path), number)
    return value
