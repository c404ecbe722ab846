"""Display of a training run: a table of epochs and evaluations, and its progress."""

from __future__ import annotations

import math
from typing import Any

from slide_ref.common.config import EVAL_METRICS, Config

from ..parallel.units import size
from .console import Console
from .time_left import TimeLeft
from .wording import aligned, duration, has_tables, metric_in_words

SMOOTHING = 10_000  # samples, but at most a tenth of an epoch, over which the running loss is averaged
COLUMNS = {"epoch": 6, "loss": 9, "P@1": 9, "active": 9, "samples/s": 11}
TABLE_COLUMNS = {"bucket": 9, "fullest": 9, "kept": 8}
TIME_COLUMN = {"left": 9}
FORMATS = {  # of each column: the figure of an event, and its form
    "epoch": ("epoch", "{:.2f}"),
    "loss": ("loss", "{:.3f}"),
    "P@1": ("precision_at_1", "{:.2%}"),
    "active": ("active_neurons", "{:,.0f}"),
    "samples/s": ("samples_per_second", "{:,.0f}"),
    "bucket": ("bucket_load", "{:.1f}"),
    "fullest": ("fullest_bucket", "{:,}"),
    "kept": ("entries_kept", "{:.0%}"),
}
LEAST_IMPORTANT = ("kept", "fullest", "bucket", "active", "samples/s", "P@1", "loss")  # columns, the first to go first


class TrainingDisplay:
    """Shows the events of `slide_fast.training.fit`: a table with a row per epoch and evaluation, and the progress.

    The table has as many columns as fit in the terminal.

    Parameters
    ----------
    console : Console
    config : Config
    max_seconds : float
    n_labels, n_test : int
        Numbers of labels and test rows.
    **evaluations
        ``eval_every``, ``eval_samples``, ``patience`` and ``eval_metric``; see `fit_with_state`.
    """

    def __init__(
        self, console: Console, config: Config, max_seconds: float, n_labels: int, n_test: int = 0, **evaluations: Any
    ):
        self.console, self.eval_every = console, evaluations.get("eval_every", 1.0)
        self.metric = evaluations.pop("eval_metric", EVAL_METRICS[0])
        shown = {} if self.metric == EVAL_METRICS[0] else {metric_in_words(self.metric): 11}
        self.columns = COLUMNS | shown | (TABLE_COLUMNS if has_tables(config, n_labels) else {})
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
        if "loss" in event:
            self.loss = self._running(self.loss, event["loss"], event["n_new"])
            self.active = self._running(self.active, event["active_neurons"], event["n_new"])
        parts = [*self._left(), f"{event['samples'] / max(event['seconds'], 1e-9):,.0f} samples/s"]
        parts += [] if math.isnan(self.loss) else [f"loss {self.loss:.2f}"]
        parts += [] if math.isnan(self.precision) else [f"P@1 {100 * self.precision:.1f} %"]
        parts += [] if math.isnan(self.active) else [f"active {self.active:,.0f}"]
        self.console.progress(self.time_left.fraction(), "  ".join(parts))

    def _running(self, mean: float, new: float, n_new: int) -> float:
        """Update a running mean over the latest samples."""
        weight = min(1.0, n_new / min(SMOOTHING, max(1.0, self.n_samples / 10)))
        return new if math.isnan(mean) else new * weight + mean * (1 - weight)

    def _by_heart(self, event: dict[str, Any]) -> None:
        self._write_row()
        fall = 1 - event["repeated_loss"] / event["fresh_loss"]
        self.console.line(
            f"{100 * fall:.0f} % less loss on samples seen again: the network memorises them, so no "
            "tables are queried (overfit_limit)"
        )

    def _evaluating(self, event: dict[str, Any]) -> None:
        text = f"evaluating {100 * event['done'] / event['of']:.0f} %"
        self.console.progress(self.time_left.fraction(), "  ".join([*self._left(), text]))

    def _epoch(self, event: dict[str, Any]) -> None:
        self._add_to_row(event, wins=self.eval_every > 1)

    def _evaluation(self, event: dict[str, Any]) -> None:
        self.precision = event["precision_at_1"]
        if "kept_epoch" in event:  # of a network that was restored, so in a row of its own
            self._write_row()
            event = event | {"epoch": event["kept_epoch"]}
        self._add_to_row(event, wins=self.eval_every <= 1)

    def _add_to_row(self, event: dict[str, Any], wins: bool) -> None:
        """Add an event to the row of its step; if it `wins`, its loss and speed are shown: those of fewer steps."""
        if self.row.get("step") != event["step"]:
            self._write_row()
        self.row = self.row | event if wins else event | self.row

    def _end(self, event: dict[str, Any]) -> None:
        self._write_row()
        self.console.close()
        self.console.line()

    def _left(self) -> list[str]:
        """Return the remaining time in words; empty before it is known."""
        left = self.time_left.left()
        unknown = "" if self.time_left.counts_evaluations() else " without evaluations"
        return [] if math.isnan(left) else [f"{duration(math.ceil(left))} left{unknown}"]

    def _write_row(self) -> None:
        if self.row:
            self.console.line(self._format(self.row))
            self.row = {}

    def _format(self, row: dict[str, Any]) -> str:
        """Format a row of the table; unknown figures stay blank."""
        metric = ("held_out_loss", "{:.3f}") if self.metric == "loss" else (self.metric, "{:.2%}")
        formats = FORMATS | {metric_in_words(self.metric): metric}
        cells = {name: text.format(row[key]) if key in row else "" for name, (key, text) in formats.items()}
        cells["left"] = "".join(self._left()).partition(" ")[0]
        return "".join(f"{cells[name].replace('%', ' %'):>{width}}" for name, width in self.columns.items()).rstrip()
