"""Information about a model's training: recorded when a run ends, saved with the model, shown by ``slide info``."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.metrics import inverse_propensity
from slide_ref.common.schedule import largest_rate, n_epochs, total_steps
from slide_ref.common.storage.model_folder import Model

from .progress import Event

if TYPE_CHECKING:
    from .run import Run

KEPT_EVENTS = ("epoch", "evaluation", "end")
ROWS = 10  # of the table of a model's history
MEASURES = {"precision_at": "P", "ndcg_at": "nDCG", "psp_at": "PSP"}


def about_settings(config: Config, n_samples: int) -> dict[str, Any]:
    """Return the values used for settings that may depend on the number of samples."""
    rate = largest_rate(config, total_steps(config, n_samples))
    return {"planned_epochs": n_epochs(config, n_samples), "learning_rate": rate}


def about_run(run: Run) -> dict[str, Any]:
    """Describe a run so far: its time, test metrics of this very network, and reported events."""
    from .. import __version__

    measured = {key: value for key, value in run.measured.items() if "_at_" in key}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    facts = {"seconds": run.progress.seconds, "date": date, "version": __version__, "history": list(run.reported)}
    return facts | ({"metrics": measured} if measured else {})


def history_of(model: Model) -> list[Event]:
    """Return the events reported while a model was trained; empty if the model has none."""
    history = model.facts.get("history")
    return [event for event in history if isinstance(event, dict)] if isinstance(history, list) else []


def propensities(model: Model) -> np.ndarray | None:
    """Return the inverse propensities of a model's labels; None if it has no label counts."""
    n_samples = model.facts.get("n_train_samples")
    if model.label_counts is None or not isinstance(n_samples, int) or n_samples < 1:
        return None
    return inverse_propensity(model.label_counts, n_samples)


def in_words(model: Model) -> list[tuple[str, str]]:
    """Describe a model's training as pairs for `aligned`; unknown information is left out."""
    facts: dict[str, Any] = {key: value for key, value in model.facts.items() if isinstance(value, (int, float, str))}
    lines: dict[str, list[tuple[str, ...]]] = {
        "trained": [
            ("{epochs:,.6g} of {planned_epochs:,.6g} epochs", "{epochs:,.6g} epochs"), ("{steps:,} steps",),
            ("{rebuilds:,} rebuilds",), ("{seconds:,.1f} s",),
        ],
        "rate": [("{learning_rate:.3g} at most",)],
        "samples": [("{n_train_samples:,}",), ("{labels_per_sample:.3g} labels each, of those that have any",)],
        "made": [("{date}",), ("slide-numpy {version}",)],
    }  # fmt: skip
    pairs = [(name, ", ".join(filter(None, (_first(ways, facts) for ways in parts)))) for name, parts in lines.items()]
    measured: Any = model.facts.get("metrics")
    for key, name in MEASURES.items() if isinstance(measured, dict) else ():
        cells = [_first((f"{name}@{k} {{{key}_{k}:.2%}}",), measured) for k in (1, 3, 5)]
        pairs.append(("test" if name == "P" else "", ", ".join(filter(None, cells))))
    return [pair for pair in pairs if pair[1]]


def _first(ways: tuple[str, ...], facts: dict[str, Any]) -> str:
    """Return the first template that the information can fill in; empty if there is none."""
    for way in ways:
        try:
            return way.format(**facts)
        except (KeyError, ValueError, TypeError):
            continue
    return ""


def history_table(history: list[Event]) -> str:
    """Format the last epochs and evaluations of a run, one row per step; empty if there were none."""
    rows: dict[str, Event] = {}
    for event in history:
        if "epoch" in event and "step" in event:
            event = event | {"epoch": event.get("kept_epoch", event["epoch"])}
            key = f"{event['epoch']} {event['step']}"
            rows[key] = rows.get(key, {}) | {name: value for name, value in event.items() if name != "kind"}
    cells = {"epoch": "{epoch:.2f}", "seconds": "{seconds:,.1f}", "loss": "{loss:.3f}", "P@1": "{precision_at_1:.2%}"}
    lines = ["".join(f"{name:>10}" for name in cells)] if rows else []
    lines += [f"{'…':>10}"] if len(rows) > ROWS else []
    for row in list(rows.values())[-ROWS:]:
        lines.append("".join(f"{_first((way,), row):>10}" for way in cells.values()).rstrip())
    return "\n".join(lines)
