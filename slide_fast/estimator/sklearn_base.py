"""Base classes of scikit-learn estimators, or replacements if scikit-learn is not installed."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from slide_ref.common.checks import is_whole, plain, require
from slide_ref.common.errors import DataError, ModelError

from .validation import warn

REPLACING = threading.Lock()
"""Held while an estimator's `model_` is replaced; by a thread that built an index, only if it is still that network."""


class BaseEstimator:
    """Parameters by the argument names of `__init__`."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor by name."""
        own = inspect.signature(type(self)).parameters.values()
        return {each.name: getattr(self, each.name) for each in own if each.kind != each.VAR_KEYWORD}

    def set_params(self, **params: Any) -> Any:
        """Set parameters of the constructor. Raises ValueError if there is no such parameter."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"Invalid parameter {name!r}; valid parameters are {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __repr__(self) -> str:
        """Return the call that makes an estimator with these parameters; defaults are left out."""
        signature, own = inspect.signature(type(self)).parameters, self.get_params()
        changed = [name for name, value in sorted(own.items()) if repr(value) != repr(signature[name].default)]
        return f"{type(self).__name__}({', '.join(f'{name}={own[name]!r}' for name in changed)})"


class ClassifierMixin:
    """Adds nothing if scikit-learn is not installed."""


class TransformerMixin:
    """Adds `fit_transform`."""

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Train on samples, and return their `transform`."""
        return self.fit(X, y, **fit_params).transform(X)  # type: ignore[attr-defined]


class _Unfitted(ValueError, AttributeError):
    """Is scikit-learn's NotFittedError if scikit-learn is installed."""


if not TYPE_CHECKING:
    with suppress(ImportError):
        from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin  # noqa: F401, F811
        from sklearn.exceptions import NotFittedError as _Unfitted


class NotFittedError(ModelError, _Unfitted):
    """An estimator that is used before it has been trained."""


def seed_from(random_state: Any) -> int:
    """Return the seed of a run: the number given, or a draw from a generator; None: a new one each time."""
    source = np.random.default_rng() if random_state is None else plain(random_state)
    if isinstance(source, np.random.Generator):
        return int(source.integers(2**31))
    if isinstance(source, np.random.RandomState):
        return int(source.randint(2**31 - 1))
    fits = is_whole(source) and 0 <= source < 2**63
    require(fits, "random_state", source, "from 0 to 2**63 - 1, a RandomState, a Generator, or None")
    return source


@contextmanager
def copy_to_train(estimator: Any) -> Iterator[Any]:
    """Yield a copy to train; its state is taken over as a whole if it has a new `model_`, else not at all."""
    before, trained = dict(vars(estimator)), copy.copy(estimator)
    try:
        yield trained
    finally:
        after = vars(trained)
        if after.get("model_") is not before.get("model_"):
            changed = {name for name in after if name not in before or after[name] is not before[name]}
            with REPLACING:
                for name in before.keys() - after.keys():
                    delattr(estimator, name)
                vars(estimator).update({name: after[name] for name in changed})


def check_names(estimator: Any, X: Any, reset: bool) -> None:
    """Record X's column names in ``feature_names_in_``, or check X against them, by scikit-learn's rules.

    Raises
    ------
    TypeError
        If only some of the names are strings.
    DataError
        If the names are not those of training, in the same order.
    """
    names = _column_names(X)
    if reset:
        vars(estimator).pop("feature_names_in_", None)
        if names is not None:
            estimator.feature_names_in_ = np.array(names, dtype=object)
        return
    known, owner = getattr(estimator, "feature_names_in_", None), type(estimator).__name__
    if known is None and names is not None:
        warn(f"X has feature names, but {owner} was fitted without feature names")
    elif known is not None and names is None:
        warn(f"X does not have valid feature names, but {owner} was fitted with feature names")
    elif known is not None and names is not None and names != known.tolist():
        raise DataError(_differences(known.tolist(), names))


def _column_names(X: Any) -> list[str] | None:
    """Return the column names of a table; None if it has none, or none of them is a string."""
    names = list(getattr(X, "column_names", getattr(X, "columns", ())))
    types = sorted({type(name).__qualname__ for name in names})
    if len(types) > 1 and "str" in types:
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input has "
            f"{types} as feature name / column name types; convert them with X.columns = X.columns.astype(str)"
        )
    return names if types == ["str"] else None


def _differences(known: list[str], names: list[str]) -> str:
    text = beginning = "The feature names should match those that were passed during fit.\n"
    for what, some in (("unseen at fit time", set(names) - set(known)),
                       ("seen at fit time, yet now missing", set(known) - set(names))):  # fmt: skip
        shown = [*sorted(some)[:5], *["..."][: len(some) > 5]]
        text += f"Feature names {what}:\n" + "".join(f"- {name}\n" for name in shown) if some else ""
    return text + ("Feature names must be in the same order as they were in fit.\n" if text == beginning else "")
