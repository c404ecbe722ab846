"""What a user sees while a command works: a bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_DRAWINGS = 0.1
SECONDS_BETWEEN_LINES = 10.0
COLUMNS = {"epoch": 7, "loss": 9, "P@1": 8, "active": 9, "samples/s": 11, "left": 9}
TABLE_COLUMNS = {"bucket": 9, "fullest": 9, "kept": 8}
SMOOTHING = 10_000  # samples over which the loss on the bar is averaged


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as ``1:02:03``."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def size(n_bytes: float) -> str:
    """Bytes as ``12 MB``, ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def score_table(scores: dict[str, Any]) -> str:
    """P@k, nDCG@k and PSP@k at 1, 3 and 5 in per cent, as far as they are known."""
    lines = ["per cent" + "".join(f"{f'@{k}':>8}" for k in (1, 3, 5))]
    for name, key in (("P", "precision_at_"), ("nDCG", "ndcg_at_"), ("PSP", "psp_at_")):
        if f"{key}1" in scores:
            lines.append(f"{name:8}" + "".join(f"{100 * scores[f'{key}{k}']:8.2f}" for k in (1, 3, 5)))
    return "\n".join(lines)


def aligned(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for, a pair a line."""
    return "\n".join(f"{name:12}{text}" for name, text in pairs)


class Console:
    """Lines and progress on standard error; a context manager.

    Parameters
    ----------
    stream : text file, optional
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = sys.stderr if stream is None else stream
        self.is_terminal = self.stream.isatty()
        self._bar: tqdm | None = None
        self._drawn = -math.inf if self.is_terminal else time.monotonic()

    def line(self, text: str = "") -> None:
        """Write a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self.stream, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def is_due(self) -> bool:
        """Whether it is time to show progress; if so, the clock starts anew."""
        now = time.monotonic()
        due = now - self._drawn >= (SECONDS_BETWEEN_DRAWINGS if self.is_terminal else SECONDS_BETWEEN_LINES)
        if due:
            self._drawn = now
        return due

    def draw(self, fraction: float, text: str) -> None:
        """Show progress now: the bar, or on no terminal a line."""
        if not self.is_terminal:
            self.line(f"{fraction:4.0%}  {text}")
            return
        if self._bar is None:
            tqdm.set_lock(threading.RLock())  # by default it is one of multiprocessing, which may start a process
            self._bar = tqdm(total=1, file=self.stream, leave=False, dynamic_ncols=True, bar_format=BAR)
        self._bar.n = min(fraction, 1.0)
        self._bar.set_description_str(text, refresh=False)
        self._bar.refresh()

    def progress(self, fraction: float, text: str) -> None:
        """Show progress if it is time to."""
        if self.is_due():
            self.draw(fraction, text)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


BAR = "{percentage:3.0f}% {bar:20}  {desc}"


class TrainingDisplay:
    """Shows the events of `training.fit`: a table with a row for each epoch and evaluation, and what happens now.

    Parameters
    ----------
    console : Console
    epochs : int
    max_seconds : float
    """

    def __init__(self, console: Console, epochs: int, max_seconds: float):
        self.console, self.epochs, self.max_seconds = console, epochs, max_seconds
        self.columns = dict(COLUMNS)
        self.row: dict[str, Any] = {}  # an epoch's end and an evaluation at the same step make one row
        self.now: dict[str, Any] = {}
        self.started = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        getattr(self, f"_{event['kind']}")(event)

    def _start(self, event: dict[str, Any]) -> None:
        self.n_samples, self.started = event["n_samples"], time.monotonic()
        if event["hashed"]:
            self.columns |= TABLE_COLUMNS
        self.console.line("".join(f"{name:>{width}}" for name, width in self.columns.items()))
