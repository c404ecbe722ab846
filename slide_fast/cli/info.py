"""``slide info``: show the contents of a model folder."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from slide_ref.common.storage.model_folder import find_model, load_model
from slide_ref.common.storage.precision import dtype_of
from slide_ref.common.storage.replacing import standing

from ..display.wording import aligned, network_in_words
from ..engine.checkpoints import Checkpoints
from ..engine.training_info import history_of, history_table, in_words
from ..parallel.units import size
from .index import figures_of
from .index import in_words as index_in_words
from .run_folder import CHECKPOINTS
from .session import Session
from .settings import to_toml
from .texts import texts_in_words


def info(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide info``: show sizes, settings and training of a model."""
    path = find_model(options.model)
    model = load_model(path, mmap=True)
    n_parameters = sum(array.size for array in model.arrays.values())
    n_bytes = sum(file.stat().st_size for file in standing(path).iterdir())
    pairs = [
        ("model", f"{path}, {size(n_bytes)}"),
        ("network", network_in_words(model.config, model.n_features, model.n_labels)),
        ("parameters", f"{n_parameters:,}, weights in {dtype_of(model)}"),
        *((name, f"{array.dtype} {array.shape}") for name, array in model.arrays.items()),
        ("label names", "no" if model.label_names is None else "yes"),
        ("columns", "without names" if model.feature_names is None else "with names"),
        *([] if model.text is None else [("texts", texts_in_words(model))]),
        ("index", index_in_words(model)),
        *in_words(model),
    ]
    saved = Checkpoints(Path(options.model) / CHECKPOINTS).saved()
    pairs += [("checkpoints", ", ".join(folder.name for folder in saved))] if saved else []
    parts = [aligned(pairs), history_table(history_of(model)), to_toml(model.config.to_dict()).rstrip()]
    session.console.result("\n\n".join(filter(None, parts)))
    return {
        "model": str(path),
        "bytes": n_bytes,
        "n_features": model.n_features,
        "n_labels": model.n_labels,
        "n_parameters": n_parameters,
        "dtype": dtype_of(model),
        "arrays": {name: list(array.shape) for name, array in model.arrays.items()},
        "index": None if model.index is None else figures_of(model),
        "has_label_names": model.label_names is not None,
        "has_feature_names": model.feature_names is not None,
        "text": None if model.text is None else model.text.settings,
        "facts": model.facts,
        "checkpoints": [str(folder) for folder in saved],
        "config": model.config.to_dict(),
    }
