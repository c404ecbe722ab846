"""Warnings of matrix products, none of which helps a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., object])


def without_false_alarms(function: F) -> F:
    """Wrap a function to suppress warnings of overflow and of invalid values.

    OpenBLAS also computes with memory next to the operands and discards the results. NumPy sees the processor's flags
    and warns in about one process of 250, though operands and product are finite. Values that are really not finite are
    detected in the loss and in the weights (S29), and in scores. Threads do not inherit this from their caller.
    """
    return np.errstate(over="ignore", invalid="ignore")(function)
