"""Types of arguments: each reads a text, or raises ArgumentTypeError with what is wrong."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

MOST_WORKERS = 4096  # processes or threads, above all machines that are used


def whole(least: int, most: int = 2**64 - 1) -> Callable[[str], int]:
    """Return the type of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        if int(text) > most:
            raise argparse.ArgumentTypeError(f"{text} is too large; the most is {most}")
        return int(text)

    return parse


count, workers = whole(1), whole(1, MOST_WORKERS)


def positive(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def finite(text: str) -> float:
    """Read a finite number above 0."""
    value = positive(text)
    if value == math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def share(text: str) -> float:
    """Read a number above 0 and at most 1."""
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return value


def part(text: str) -> float:
    """Read a number above 0 and below 1."""
    value = positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and below 1")
    return value


def mode(text: str) -> str:
    """Read the name of a mode of prediction."""
    return "index" if text == "lsh" else text  # an earlier name


def layer_sizes(text: str) -> list[int]:
    """Read the neurons of layers, such as 256,128."""
    return [count(number) for number in text.split(",")]


def assignment(text: str) -> tuple[str, str]:
    """Read KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key.strip(), value.strip()
