"""What scikit-learn's estimators inherit, or as much of it as is needed where scikit-learn is not installed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from slide_ref.common.errors import ModelError
from slide_ref.common.lsh_config import is_whole, plain, require

HAS_SKLEARN = True
if TYPE_CHECKING:

    class BaseEstimator:
        """What type checkers see."""

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...

        def set_params(self, **params: Any) -> Any: ...

        def __sklearn_tags__(self) -> Any: ...

    class ClassifierMixin:
        """What type checkers see."""

    class _Unfitted(ValueError):
        """What type checkers see."""

else:
    try:
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.exceptions import NotFittedError as _Unfitted
    except ImportError:
        HAS_SKLEARN = False

        class BaseEstimator:
            """Parameters by the names of `__init__`."""

            def get_params(self, deep: bool = True) -> dict[str, Any]:
                """Parameters of the constructor by name."""
                return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

            def set_params(self, **params: Any) -> Any:
                """Change parameters of the constructor. Raises ValueError if there is no such parameter."""
                known = self.get_params()
                for name, value in params.items():
                    if name not in known:
                        raise ValueError(f"Invalid parameter {name!r}; valid are {', '.join(known)}")
                    setattr(self, name, value)
                return self

        class ClassifierMixin:
            """Nothing."""

        class _Unfitted(ValueError):
            """Nothing."""


class NotFittedError(ModelError, _Unfitted):
    """A model is asked before it was trained."""


def seed_from(random_state: Any) -> int:
    """A seed for a run: the number given, or a draw from a generator; None: a new one each time."""
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
    """Hand out a copy to train; what it learned is taken over as a whole if it has a new `model_`, else not at all."""
    before, trained = dict(vars(estimator)), copy.copy(estimator)
    try:
        yield trained
    finally:
        after = vars(trained)
        if after.get("model_") is not before.get("model_"):
            for name in before.keys() - after.keys():
                delattr(estimator, name)
            changed = {name for name in after if name not in before or after[name] is not before[name]}
            vars(estimator).update({name: after[name] for name in changed})


def check_names(estimator: Any, X: Any, reset: bool) -> None:
    """Note the names of a DataFrame's columns in ``feature_names_in_``, or hold X against them as scikit-learn does."""
    if HAS_SKLEARN and hasattr(X, "columns"):
        from sklearn.utils.validation import validate_data

        validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
