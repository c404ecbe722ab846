"""Matrix products and their warnings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., object])


def without_false_alarms(function: F) -> F:
    """Return the function without warnings of invalid values.

    OpenBLAS computes with whatever lies beside the operands and throws the results away. NumPy sees the processor's
    flags and warns, of finite operands and a finite product, in about one process of 250. What is truly not finite is
    found where it matters: in the loss and in the weights (S29).
    """
    return np.errstate(invalid="ignore")(function)
