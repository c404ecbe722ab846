"""What a user sees: progress on standard error, as a bar on a terminal and as lines elsewhere, and results."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from tqdm import tqdm

from slide_ref.common.config import Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.metrics import RANKS

from .schedule import n_epochs
from .units import size

BAR = "{percentage:3.0f}% {bar:10} {desc}"
SECONDS_BETWEEN_DRAWINGS = 0.1
SECONDS_BETWEEN_LINES = 10.0
SMOOTHING = 10_000  # samples over which loss and active neurons of the moment are averaged
COLUMNS = {"epoch": 6, "loss": 9, "P@1": 9, "active": 9, "samples/s": 11}
TABLE_COLUMNS = {"bucket": 9, "fullest": 9, "kept": 8}
TIME_COLUMN = {"left": 9}


def duration(seconds: float) -> str:
    """Minutes and seconds as ``2:03``, hours before them where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def score_table(scores: Mapping[str, Any], yardsticks: Mapping[str, float] | None = None) -> str:
    """P@k, nDCG@k and PSP@k at 1, 3 and 5 in per cent, as far as they are known, over P@1 of simple methods."""
    rows = [("per cent", [f"@{k}" for k in RANKS])]
    for name, key in (("P", "precision_at"), ("nDCG", "ndcg_at"), ("PSP", "psp_at")):
        if f"{key}_1" in scores:
            rows.append((name, [f"{100 * scores[f'{key}_{k}']:.2f}" for k in RANKS]))
    for name, value in (yardsticks or {}).items():
        rows.append((f"P, {name}", [f"{100 * value:.2f}"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}" + "".join(f"{cell:>8}" for cell in cells) for name, cells in rows)


def aligned(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for, a pair a line."""
    return "\n".join(f"{name:12}{text}".rstrip() for name, text in pairs)


def has_tables(config: Config, n_labels: int) -> bool:
    """Whether the output layer is hashed."""
    return config.lsh.L > 0 and config.lsh.min_active < n_labels


def network_in_words(config: Config, n_features: int, n_labels: int) -> str:
    """Sizes of the layers, and how neurons are chosen in training. Layers count from 0."""
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


class Console:
    """Lines and progress on standard error; a context manager.

    Parameters
    ----------
    results_to_stderr : bool
        Results go to standard error too, because standard output is kept for something else.
    """

    def __init__(self, results_to_stderr: bool = False):
        self.stream: TextIO = sys.stderr
        self._results_to_stderr = results_to_stderr
        self.is_terminal = self.stream.isatty() or "ipykernel" in sys.modules  # a notebook's cell redraws lines too
        self._bar: tqdm | None = None
        self._shown = -math.inf if self.is_terminal else time.monotonic()

    def line(self, text: str = "") -> None:
        """Write a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self.stream, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def result(self, text: str) -> None:
        """Write what the user asked for."""
        self.close()
        print(text, file=self.stream if self._results_to_stderr else sys.stdout, flush=True)

    def progress(self, fraction: float, text: str, line: str | None = None) -> None:
        """Show how far things are, if it is time to: `text` beside the bar, or `line`."""
        now = time.monotonic()
        if now - self._shown < (SECONDS_BETWEEN_DRAWINGS if self.is_terminal else SECONDS_BETWEEN_LINES):
            return
        self._shown = now
        if not self.is_terminal:
            self.line(f"{fraction:4.0%} {text}" if line is None else line)
            return
        if self._bar is None:
            tqdm.set_lock(threading.RLock())  # by default it is one of multiprocessing, which may start a process
            self._bar = tqdm(total=1, file=self.stream, leave=False, nrows=20, bar_format=BAR)
        self._bar.n, self._bar.ncols = min(fraction, 1.0), self._width()
        self._bar.set_description_str(text, refresh=False)
        self._bar.refresh()

    def _width(self) -> int:
        """Columns to use; terminals that do not know their size count as 80 columns wide."""
        try:
            return (os.get_terminal_size(self.stream.fileno()).columns or 80) - 1
        except OSError:
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
    """Shows the events of `training.fit`: a table with a row for each epoch and evaluation, and what happens now.

    Parameters
    ----------
    console : Console
    config : Config
    max_seconds : float
    n_labels : int
    """

    def __init__(self, console: Console, config: Config, max_seconds: float, n_labels: int):
        self.console, self.config, self.max_seconds = console, config, max_seconds
        self.columns = COLUMNS | (TABLE_COLUMNS if has_tables(config, n_labels) else {})
        self.columns |= {} if console.is_terminal else TIME_COLUMN
        self.started = time.monotonic()
        self.row: dict[str, Any] = {}  # an epoch's end and an evaluation after the same step make one row
        self.fraction = 0.0
        self.loss = self.active = self.precision = math.nan

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        getattr(self, f"_{event['kind']}")(event)

    def _memory(self, event: dict[str, Any]) -> None:
        parts = ", ".join(f"{name} {size(event[name])}" for name in ("data", "model", "training", "processes"))
        self.console.line(aligned([("memory", f"about {size(event['total'])} at the peak: {parts}")]))

    def _start(self, event: dict[str, Any]) -> None:
        self.started, self.n_samples = time.monotonic(), event["n_samples"]
        self.epochs = n_epochs(self.config, self.n_samples)
        self.console.line("".join(f"{name:>{width}}" for name, width in self.columns.items()))

    def _progress(self, event: dict[str, Any]) -> None:
        self._write_row()
        weight = min(1.0, event["n_new"] / SMOOTHING) if self.fraction else 1.0
        self.loss = event["loss"] * weight + (self.loss * (1 - weight) if self.fraction else 0.0)
        self.active = event["active_neurons"] * weight + (self.active * (1 - weight) if self.fraction else 0.0)
        epoch = event["samples"] / self.n_samples
        self.fraction = max(epoch / self.epochs, event["seconds"] / self.max_seconds)
        rate = event["samples"] / max(event["seconds"], 1e-9)
        parts = [f"{self._left()} left", f"{rate:,.0f} samples/s", f"loss {self.loss:.2f}"]
        parts += [] if math.isnan(self.precision) else [f"P@1 {100 * self.precision:.1f} %"]
        parts += [f"active {self.active:,.0f}"]
        now = {"epoch": epoch, "loss": self.loss, "active_neurons": self.active, "samples_per_second": rate}
        self.console.progress(self.fraction, "  ".join(parts), self._format(now))

    def _evaluating(self, event: dict[str, Any]) -> None:
        text = f"evaluating {event['done'] / event['of']:.0%}"
        self.console.progress(self.fraction, text, text)

    def _epoch(self, event: dict[str, Any]) -> None:
        if self.row.get("step") != event["step"]:
            self._write_row()
        self.row = event | self.row

    def _evaluation(self, event: dict[str, Any]) -> None:
        self.precision = event["precision_at_1"]
        if self.row.get("step") != event["step"]:
            self._write_row()
        self.row |= event

    def _end(self, event: dict[str, Any]) -> None:
        self._write_row()
        self.console.close()
        self.console.line()

    def _left(self) -> str:
        """Time left, evaluations included, if all goes on as it has gone so far."""
        elapsed = time.monotonic() - self.started
        return duration(elapsed * (1 - self.fraction) / self.fraction) if 0 < self.fraction <= 1 else duration(0)

    def _write_row(self) -> None:
        if self.row:
            self.console.line(self._format(self.row))
            self.row = {}

    def _format(self, facts: dict[str, Any]) -> str:
        """A row of the table; figures that are not known stay blank."""
        cells = {
            "epoch": f"{facts['epoch']:.2f}",
            "loss": f"{facts['loss']:.3f}",
            "P@1": f"{100 * facts['precision_at_1']:.2f} %" if "precision_at_1" in facts else "",
            "active": f"{facts['active_neurons']:,.0f}",
            "samples/s": f"{facts['samples_per_second']:,.0f}",
            "bucket": f"{facts['bucket_load']:.1f}" if "bucket_load" in facts else "",
            "fullest": f"{facts['fullest_bucket']:,}" if "fullest_bucket" in facts else "",
            "kept": f"{100 * facts['entries_kept']:.0f} %" if "entries_kept" in facts else "",
            "left": self._left(),
        }
        return "".join(f"{cells[name]:>{width}}" for name, width in self.columns.items()).rstrip()
