"""What scikit-learn's estimators inherit, or as much of it as is needed where scikit-learn is not installed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from slide_ref.common.errors import ModelError

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
