"""``slide explain``: which words of a text contribute most to its best labels."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np

from slide_ref.common.errors import ModelError
from slide_ref.common.parameters import layers_of
from slide_ref.common.storage.model_folder import find_model, load_model

from ..display.wording import aligned
from ..inference.contributions import contributions
from ..inference.predictor import Predictor
from ..inference.similar import most_similar
from ..text.ngrams import NgramCounter
from .session import Session
from .texts import vectorizer_of

SHOWN, SIMILAR = 8, 3  # features and labels for each label


def explain(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide explain``: attribute the logits of the best labels to the features of a text."""
    path = find_model(options.model)
    model = load_model(path, mmap=True)
    if model.text is None:
        raise ModelError(f"{path}: this model was not trained on texts; explain needs one that was")
    vectorizer = vectorizer_of(model)
    counter = NgramCounter(vectorizer.settings)
    sample = vectorizer.rows(counter.count([options.text]))
    names = _names_of_columns(counter.named(options.text), vectorizer.columns)
    answers = Predictor(model).topk(sample, min(options.k, model.n_labels), with_totals=True)
    ids, layers = answers.ids[0], layers_of(model.arrays)
    parts, rest = contributions(layers, sample, ids)
    label_names = model.label_names or [str(label) for label in range(model.n_labels)]
    labels = []
    for at, label in enumerate(ids.tolist()):
        near, cosines = most_similar(layers[-1].W, label, SIMILAR)
        pairs = sorted(zip(sample.indices.tolist(), parts[at].tolist(), strict=True), key=lambda pair: -abs(pair[1]))
        labels.append({
            "label": label_names[label],
            "probability": float(answers.probabilities[0, at]),
            "logit": float(answers.scores[0, at]),
            "features": [[" / ".join(names[column]), value] for column, value in pairs],
            "rest": float(rest[at]),
            "similar": [[label_names[i], cosine] for i, cosine in zip(near.tolist(), cosines.tolist(), strict=True)],
        })  # fmt: skip
    unknown = sorted(names.get(-1, []))
    about = [f"ignored, as the model does not know them: {', '.join(unknown)}"] if unknown else []
    session.console.result("\n\n".join([*map(_in_words, labels), *about]))
    return {"labels": labels, "unknown": unknown, "model": str(path)}


def _names_of_columns(named: dict[int, str], columns: Callable[[np.ndarray], np.ndarray]) -> dict[int, list[str]]:
    """Return the features of a text by column, -1 if they have none; hashed features may share a column."""
    names: dict[int, list[str]] = {}
    places = columns(np.array([*named], dtype=np.uint64)).tolist()
    for column, name in zip(places, named.values(), strict=True):
        names.setdefault(column, []).append(name)
    return names


def _in_words(label: dict[str, Any]) -> str:
    rows = [(f"  {name}", f"{value:+.3f}") for name, value in label["features"][:SHOWN]]
    left = sum(value for _, value in label["features"][SHOWN:])
    rows += [("  other features", f"{left:+.3f}")] if label["features"][SHOWN:] else []
    rows.append(("  biases", f"{label['rest']:+.3f}"))
    near = ", ".join(f"{name} ({cosine:.2f})" for name, cosine in label["similar"])
    head = f"{label['label']}: probability {label['probability']:.3g}, logit {label['logit']:.3f}"
    return "\n".join([head, aligned(rows), *([f"  near: {near}"] if near else [])])
