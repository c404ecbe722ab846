"""Errors a user can meet. Each message is one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import os


class SlideError(Exception):
    """Base class of every error this project raises on purpose."""


class ConfigError(SlideError, ValueError):
    """A setting that is unknown, of the wrong type, or out of range."""


class DataError(SlideError, ValueError):
    """Malformed input data.

    Parameters
    ----------
    message : str
        What is wrong and what to do about it.
    path : path, optional
        The file the data came from.
    line, column : int, optional
        Position in the file, both counted from 1.
    """

    def __init__(
        self,
        message: str,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        column: int | None = None,
    ):
        self.message, self.path, self.line, self.column = message, path, line, column
        place = [str(path)] if path is not None else []
        place += [f"line {line}"] if line is not None else []
        place += [f"column {column}"] if column is not None else []
        super().__init__(": ".join([", ".join(place), message] if place else [message]))


class ModelError(SlideError, ValueError):
    """A model folder that is missing, incomplete, or unsuited to the request."""


class WorkerDiedError(SlideError, RuntimeError):
    """Worker processes that ended unexpectedly more often than ``max_restarts`` allows."""


class DivergedError(SlideError, ArithmeticError):
    """Training that diverged: the loss or the weights are not finite, or the loss is implausibly large (S29).

    Parameters
    ----------
    step : int
        The step, from 1 and counted on from earlier runs (S13), at which divergence was detected.
    what : str
        What was found there.
    """

    def __init__(self, step: int, what: str):
        self.step, self.what = step, what
        super().__init__(step, what)  # the arguments, so that it travels from a worker whole

    def __str__(self) -> str:
        advice = "use a smaller learning rate, or scale the features to about 1"
        return f"training diverged: at step {self.step} {self.what}; {advice}"
