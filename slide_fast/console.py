"""What a user sees while a command works: a bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

BAR = "{percentage:3.0f}% {bar:20} {desc}"
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


def size(n_bytes: float) -> str:
    """Bytes as ``12 MB`` or ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def score_table(scores: dict[str, Any]) -> str:
    """P@k, nDCG@k and PSP@k at 1, 3 and 5 in per cent, as far as they are known."""
    lines = [f"{'per cent':8}" + "".join(f"{f'@{k}':>8}" for k in (1, 3, 5))]
    for name, key in (("P", "precision_at"), ("nDCG", "ndcg_at"), ("PSP", "psp_at")):
        if f"{key}_1" in scores:
            lines.append(f"{name:8}" + "".join(f"{100 * scores[f'{key}_{k}']:8.2f}" for k in (1, 3, 5)))
    return "\n".join(lines)


def aligned(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for, a pair a line."""
    return "\n".join(f"{name:12}{text}" for name, text in pairs)


class Console:
    """Lines and progress on standard error; a context manager.

    Parameters
    ----------
    stream : text file, optional
        Instead of standard error.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = sys.stderr if stream is None else stream
        self.is_terminal = self.stream.isatty()
        self._bar: tqdm | None = None
        self._shown = -math.inf if self.is_terminal else time.monotonic()

    def line(self, text: str = "") -> None:
        """Write a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self.stream, flush=True)
        if self._bar is not None:
            self._bar.refresh()

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
            self._bar = tqdm(total=1, file=self.stream, leave=False, dynamic_ncols=True, bar_format=BAR)
        self._bar.n = min(fraction, 1.0)
        self._bar.set_description_str(text, refresh=False)
        self._bar.refresh()

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
    epochs : int
    max_seconds : float
    has_tables : bool
        Whether the output layer has hash tables, of which there is something to tell.
    """

    def __init__(self, console: Console, epochs: int, max_seconds: float, has_tables: bool):
        self.console, self.epochs, self.max_seconds = console, epochs, max_seconds
        self.columns = COLUMNS | (TABLE_COLUMNS if has_tables else {}) | ({} if console.is_terminal else TIME_COLUMN)
        self.started = time.monotonic()
        self.row: dict[str, Any] = {}  # an epoch's end and an evaluation after the same step make one row
        self.fraction = 0.0
        self.loss = self.active = self.precision = math.nan

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        getattr(self, f"_{event['kind']}")(event)

    def _start(self, event: dict[str, Any]) -> None:
        self.started, self.n_samples = time.monotonic(), event["n_samples"]
        self.console.line("".join(f"{name:>{width}}" for name, width in self.columns.items()))

    def _progress(self, event: dict[str, Any]) -> None:
        self._write_row()
        weight = min(1.0, event["n_new"] / SMOOTHING) if self.fraction else 1.0
        self.loss = event["loss"] * weight + (self.loss * (1 - weight) if self.fraction else 0.0)
        self.active = event["active_neurons"] * weight + (self.active * (1 - weight) if self.fraction else 0.0)
        epoch = event["samples"] / self.n_samples
        self.fraction = max(epoch / self.epochs, event["seconds"] / self.max_seconds)
        rate = event["samples"] / max(event["seconds"], 1e-9)
        parts = [f"epoch {epoch:.2f}/{self.epochs}", f"{rate:,.0f} samples/s", f"loss {self.loss:.3f}"]
        parts += [] if math.isnan(self.precision) else [f"P@1 {100 * self.precision:.2f} %"]
        parts += [f"active {self.active:,.0f}", f"{self._left()} left"]
        now = {"epoch": epoch, "loss": self.loss, "active_neurons": self.active, "samples_per_second": rate}
        self.console.progress(self.fraction, "  ".join(parts), self._format(now))

    def _evaluating(self, event: dict[str, Any]) -> None:
        self.console.progress(self.fraction, f"evaluating: {event['done'] / event['of']:.0%} of the test samples")

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
        return "".join(f"{cells[name]:>{width}}" for name, width in self.columns.items())
