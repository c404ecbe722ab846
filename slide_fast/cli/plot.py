"""``slide plot``: learning curves of runs in one picture."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from slide_ref.common.errors import ConfigError

from ..display.plots import plot_runs
from .run_folder import CURVES, refuse_within_model
from .session import Session


def plot(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide plot``: draw learning curves of runs in one picture."""
    runs = [Path(run) for run in options.runs]
    out = options.out or str(runs[0] / CURVES if len(runs) == 1 else CURVES)
    if Path(out).suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: curves are saved as PNG; give a name that ends in .png")
    if options.out is not None:
        refuse_within_model("--out", Path(out))
    plot_runs(runs, out)
    session.console.result(out)
    return {"curves": out}
