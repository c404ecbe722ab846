"""``slide generate``: synthetic data of a given shape."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from slide_ref.common.errors import ConfigError

from ..datasets import synthetic
from ..parallel.units import size
from .run_folder import refuse_within_model
from .session import Session

FILES = ("train.txt", "test.txt")
SIZES = {
    "samples": "n_samples",
    "test_samples": "n_test",
    "features": "n_features",
    "labels": "n_labels",
    "nonzeros": "nonzeros",
    "labels_per_sample": "labels_per_sample",
}


def generate(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide generate``: write synthetic data of a given shape."""
    started = time.perf_counter()
    sizes = {name: getattr(options, option) for option, name in SIZES.items()}
    files = [Path(options.dir, name) for name in FILES]
    refuse_within_model("the file", files[0])
    there = [] if options.overwrite else [file.name for file in files if file.exists()]
    if there:
        advice = "choose another folder, or replace with --overwrite"
        raise ConfigError(f"{files[0].parent}: holds {' and '.join(there)}; {advice}")

    def tell() -> None:
        session.console.line(f"writing {options.shape} data into {options.dir}")

    try:
        synthetic.generate(options.dir, options.shape, seed=options.seed, started=tell, **sizes)
    except ConfigError as error:
        name, _, rest = str(error).partition(" ")
        option = next((option for option, own in SIZES.items() if own == name), None)
        raise ConfigError(f"--{option.replace('_', '-')} {rest}" if option else str(error)) from None
    lines = [f"{file}  {size(file.stat().st_size)}" for file in files]
    session.console.result("\n".join(lines))
    return {"train": str(files[0]), "test": str(files[1]), "seconds": time.perf_counter() - started}
