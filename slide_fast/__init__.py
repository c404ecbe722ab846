"""SLIDE for training: the semantics of `slide_ref`, vectorised, with a pool of HOGWILD worker processes."""

from typing import Any

__all__ = ["SlideClassifier"]


def __getattr__(name: str) -> Any:
    if name == "SlideClassifier":  # on first use: worker processes have no need of it
        from .estimator import SlideClassifier

        return SlideClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
