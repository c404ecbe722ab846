"""Progress on standard error, as a bar on a terminal and as lines elsewhere, and results."""

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
