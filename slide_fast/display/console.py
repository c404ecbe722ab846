"""Results, and progress on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from typing import Any

from tqdm import tqdm

from ..parallel.streams import Screen, print_result
from .wording import wrapped

BAR = "{percentage:3.0f} % {bar:10} {desc}"
SECONDS_BETWEEN_DRAWINGS = 0.1
SECONDS_BETWEEN_LINES = 30.0  # without any other, before one tells how far things are


class _Bar(tqdm):  # type: ignore[misc]  # tqdm says no types
    """A progress bar that does not disturb the caller's bars, and starts neither a thread nor a process."""

    _lock = threading.RLock()
    monitor_interval = 0


class Console:
    """Lines and progress on standard error; a context manager.

    Parameters
    ----------
    results_to_stderr : bool
        Results go to standard error too, because standard output is reserved for something else.
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
        """Write a result that the user asked for."""
        self.close()
        if self._results_to_stderr:
            self.line(text)
        else:
            print_result(self._fitting(text, sys.stdout))
            self._shown = time.monotonic()

    def _fitting(self, text: str, stream: Any) -> str:
        """Return text formatted for a stream: wrapped, if that is a terminal."""
        try:
            return wrapped(text, self.width(stream)) if stream.isatty() else text
        except Exception:  # no stream, or one that does not know
            return text

    def progress(self, fraction: float, text: str) -> None:
        """Show progress: next to the bar, or without a bar on a separate line every now and then."""
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
        """Return the number of terminal columns to use, assuming 80 columns if unknown."""
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
