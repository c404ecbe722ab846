"""What a user sees: progress on standard error, as a bar on a terminal and as lines elsewhere, and results."""

from __future__ import annotations

import math
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

from slide_ref.common.config import Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.metrics import RANKS

from ..parallel.streams import Screen, print_result
from ..parallel.units import size
from .time_left import TimeLeft

BAR = "{percentage:3.0f} % {bar:10} {desc}"
SECONDS_BETWEEN_DRAWINGS = 0.1
SECONDS_BETWEEN_LINES = 30.0  # without any other, before one tells how far things are
SMOOTHING = 10_000  # samples, but at most a tenth of an epoch, over which the running loss is averaged
COLUMNS = {"epoch": 6, "loss": 9, "P@1": 9, "active": 9, "samples/s": 11}
TABLE_COLUMNS = {"bucket": 9, "fullest": 9, "kept": 8}
TIME_COLUMN = {"left": 9}
LEAST_IMPORTANT = ("kept", "fullest", "bucket", "active", "samples/s", "P@1", "loss")  # columns, the first to go first
NAME_WIDTH = 15  # of all blocks of pairs that a run prints, the longest name and a gap
_SETTING = re.compile(r"\w+ = |\[")  # a line of TOML, which is to be copied
_NAME = re.compile(r" *(?:[\w@]+(?: [\w@]+)* {2,})?")  # what stands before the text of a pair, or the indentation


def duration(seconds: float) -> str:
    """Format seconds as minutes and seconds, ``2:03``, with hours before them where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def score_table(scores: Mapping[str, Any], baselines: Mapping[str, float] | None = None) -> str:
    """Format P@k, nDCG@k and PSP@k at 1, 3 and 5 in per cent, as far as they are known, over P@1 of baselines."""
    rows = [("per cent", [f"@{k}" for k in RANKS])]
    for name, key in (("P", "precision_at"), ("nDCG", "ndcg_at"), ("PSP", "psp_at")):
        if f"{key}_1" in scores:
            rows.append((name, [f"{100 * scores[f'{key}_{k}']:.2f}" for k in RANKS]))
    for name, value in (baselines or {}).items():
        rows.append((f"P, {name}", [f"{100 * value:.2f}"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}" + "".join(f"{cell:>8}" for cell in cells) for name, cells in rows)


def aligned(pairs: Iterable[tuple[str, str]]) -> str:
    """Format names and their meanings, a pair a line."""
    pairs = list(pairs)
    width = max([NAME_WIDTH, *(len(name) + 2 for name, _ in pairs)])
    return "\n".join(f"{name:{width}}{text}".rstrip() for name, text in pairs)


def wrapped(text: str, width: int) -> str:
    """Break lines that are wider than a terminal, between words; the text of a pair stays beside its name."""
    lines = []
    for line in text.split("\n"):
        indent = " " * min(next(_NAME.finditer(line)).end(), width // 2)
        fits = len(line) <= width or _SETTING.match(line)
        parts = [] if fits else textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip
        lines += parts or [line]
    return "\n".join(lines)


def has_tables(config: Config, n_labels: int) -> bool:
    """Tell whether the output layer is hashed."""
    return config.lsh.L > 0 and config.lsh.min_active < n_labels


def network_in_words(config: Config, n_features: int, n_labels: int) -> str:
    """Describe the sizes of the layers, and how neurons are chosen in training. Layers count from 0."""
    sizes = " → ".join(f"{n:,}" for n in (n_features, *config.hidden, n_labels))
    sampled = config.sampled_layers(n_labels)
    output = sampled.pop(len(config.hidden), None)
    words = f"all {'labels' if sampled else 'neurons'} active" if output is None else _tables_in_words(config, output)
    words += f", {config.shards} shards" if config.shards > 1 else ""
    return "; ".join([f"{sizes}, {words}", *(f"layer {l}: {_tables_in_words(config, sampled[l])}" for l in sampled)])


def _tables_in_words(config: Config, lsh: LshConfig) -> str:
    words = f"{lsh.family} K={lsh.K} L={lsh.L}" if lsh.L else "uniform draws"
    if not lsh.min_active:
        return words
    return f"{words}, at least {lsh.min_active:,} active in a {'micro-batch' if config.scope == 'batch' else 'sample'}"


class _Bar(tqdm):  # type: ignore[misc]  # tqdm says no types
    """A bar that leaves the caller's as they are, and starts neither a thread nor a process."""

    _lock = threading.RLock()
    monitor_interval = 0


class Console:
    """Lines and progress on standard error; a context manager.

    Parameters
    ----------
    results_to_stderr : bool
        Results go to standard error too, because standard output is kept for something else.
    """

    def __init__(self, results_to_stderr: bool = False):
        self.stream: Any = Screen()
        self._results_to_stderr = results_to_stderr
        self.is_terminal = self.stream.isatty() or "ipykernel" in sys.modules  # a notebook's cell redraws lines too
        self._bar: _Bar | None = None
        self._shown = -math.inf if self.is_terminal else time.monotonic()

    def line(self, text: str = "") -> None:
        """Write a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        print(self._fitting(text, self.stream), file=self.stream, flush=True)
        self._shown = time.monotonic()
        if self._bar is not None:
            self._bar.refresh()

    def result(self, text: str) -> None:
        """Write what the user asked for."""
        self.close()
        if self._results_to_stderr:
            self.line(text)
        else:
            print_result(self._fitting(text, sys.stdout))
            self._shown = time.monotonic()

    def _fitting(self, text: str, stream: Any) -> str:
        """Return text as it fits a stream: wrapped, if that is a terminal."""
        try:
            return wrapped(text, self.width(stream)) if stream.isatty() else text
        except Exception:  # no stream, or one that does not know
            return text

    def progress(self, fraction: float, text: str) -> None:
        """Show how far things are: beside the bar, or in a line of its own after a while without any."""
        now = time.monotonic()
        if now - self._shown < (SECONDS_BETWEEN_DRAWINGS if self.is_terminal else SECONDS_BETWEEN_LINES):
            return
        self._shown = now
        if not self.is_terminal:
            self.line(f"  {100 * fraction:.0f} %  {text}")
            return
        if self._bar is None:
            self._bar = _Bar(total=1, file=self.stream, leave=False, nrows=20, bar_format=BAR)
        self._bar.n, self._bar.ncols = min(fraction, 1.0), self.width(self.stream)
        self._bar.set_description_str(text, refresh=False)
        self._bar.refresh()

    @staticmethod
    def width(stream: Any) -> int:
        """Return columns of a terminal to use; where they are not known, as many as if there were 80."""
        try:
            return (os.get_terminal_size(stream.fileno()).columns or 80) - 1
        except Exception:  # also the caller's own stream
            return 79

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class TrainingDisplay:
    """Shows the events of `slide_fast.training.fit`: a table with a row an epoch and evaluation, and what happens now.

    Its columns are as many as the terminal is wide enough for.

    Parameters
    ----------
    console : Console
    config : Config
    max_seconds : float
    n_labels, n_test : int
        Labels and test rows.
    **evaluations
        ``eval_every``, ``eval_samples`` and ``patience`` as `fit` takes them.
    """

    def __init__(
        self, console: Console, config: Config, max_seconds: float, n_labels: int, n_test: int = 0, **evaluations: Any
    ):
        self.console, self.eval_every = console, evaluations.get("eval_every", 1.0)
        self.columns = COLUMNS | (TABLE_COLUMNS if has_tables(config, n_labels) else {})
        self.columns |= {} if console.is_terminal else TIME_COLUMN
        for name in LEAST_IMPORTANT if console.is_terminal else ():
            if sum(self.columns.values()) > console.width(console.stream):
                self.columns.pop(name, None)
        self.time_left = TimeLeft(config, n_labels, n_test, max_seconds, **evaluations)
        self.row: dict[str, Any] = {}  # an epoch's end and an evaluation after the same step make one row
        self.loss = self.active = self.precision = math.nan

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        self.time_left.tell(event)
        getattr(self, f"_{event['kind']}")(event)

    def _memory(self, event: dict[str, Any]) -> None:
        parts = ", ".join(f"{name} {size(event[name])}" for name in ("data", "model", "training", "processes"))
        self.console.line(aligned([("memory", f"about {size(event['total'])} at the peak: {parts}")]))

    def _start(self, event: dict[str, Any]) -> None:
        self.n_samples = event["n_samples"]
        self.console.line("".join(f"{name:>{width}}" for name, width in self.columns.items()))

    def _progress(self, event: dict[str, Any]) -> None:
        self._write_row()
        self.loss = self._running(self.loss, event["loss"], event["n_new"])
        self.active = self._running(self.active, event["active_neurons"], event["n_new"])
        parts = [*self._left(), f"{event['samples'] / max(event['seconds'], 1e-9):,.0f} samples/s"]
        parts += [f"loss {self.loss:.2f}"]
        parts += [] if math.isnan(self.precision) else [f"P@1 {100 * self.precision:.1f} %"]
        parts += [f"active {self.active:,.0f}"]
        self.console.progress(self.time_left.fraction(), "  ".join(parts))

    def _running(self, mean: float, new: float, n_new: int) -> float:
        """Return a mean over the latest samples."""
        weight = min(1.0, n_new / min(SMOOTHING, max(1.0, self.n_samples / 10)))
        return new if math.isnan(mean) else new * weight + mean * (1 - weight)

    def _evaluating(self, event: dict[str, Any]) -> None:
        text = f"evaluating {100 * event['done'] / event['of']:.0f} %"
        self.console.progress(self.time_left.fraction(), "  ".join([*self._left(), text]))

    def _epoch(self, event: dict[str, Any]) -> None:
        self._add_to_row(event, over=self.eval_every > 1)

    def _evaluation(self, event: dict[str, Any]) -> None:
        self.precision = event["precision_at_1"]
        self._add_to_row(event, over=self.eval_every <= 1)

    def _add_to_row(self, event: dict[str, Any], over: bool) -> None:
        """Add to the row of a step; loss and speed are those of the shorter time (`over`)."""
        if self.row.get("step") != event["step"]:
            self._write_row()
        self.row = self.row | event if over else event | self.row

    def _end(self, event: dict[str, Any]) -> None:
        self._write_row()
        self.console.close()
        self.console.line()

    def _left(self) -> list[str]:
        """Return the time left in words; nothing before it is known."""
        left = self.time_left.left()
        unknown = "" if self.time_left.counts_evaluations() else " without evaluations"
        return [] if math.isnan(left) else [f"{duration(math.ceil(left))} left{unknown}"]

    def _write_row(self) -> None:
        if self.row:
            self.console.line(self._format(self.row))
            self.row = {}

    def _format(self, facts: dict[str, Any]) -> str:
        """Format a row of the table; figures that are not known stay blank."""
        cells = {
            "epoch": f"{facts['epoch']:.2f}",
            "loss": f"{facts['loss']:.3f}",
            "P@1": f"{100 * facts['precision_at_1']:.2f} %" if "precision_at_1" in facts else "",
            "active": f"{facts['active_neurons']:,.0f}",
            "samples/s": f"{facts['samples_per_second']:,.0f}",
            "bucket": f"{facts['bucket_load']:.1f}" if "bucket_load" in facts else "",
            "fullest": f"{facts['fullest_bucket']:,}" if "fullest_bucket" in facts else "",
            "kept": f"{100 * facts['entries_kept']:.0f} %" if "entries_kept" in facts else "",
            "left": "".join(self._left()).partition(" ")[0],
        }
        return "".join(f"{cells[name]:>{width}}" for name, width in self.columns.items()).rstrip()
