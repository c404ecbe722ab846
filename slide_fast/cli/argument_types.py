"""Types of arguments: each reads a text, or raises ArgumentTypeError with what is wrong."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable

MOST_WORKERS = 4096  # processes or threads, above all machines that are used


def whole(least: int, most: int = 2**64 - 1) -> Callable[[str], int]:
    """Return the type of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        digits = text.lstrip("0") or text[:1]
        if not text.isdecimal() or (len(digits) < 20 and int(digits) < least):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        if len(digits) > 20 or int(digits) > most:  # int() refuses thousands of digits
            raise argparse.ArgumentTypeError(f"{text} is too large; the most is {most}")
        return int(digits)

    return parse


count, workers, seed = whole(1), whole(1, MOST_WORKERS), whole(0, 2**63 - 1)


def _number(fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """Return the type of the numbers that fit; NaN never does."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what}")
        return value

    return parse


positive = _number(lambda value: value > 0, "number above 0")
finite = _number(lambda value: 0 < value < math.inf, "finite number above 0")
share = _number(lambda value: 0 < value <= 1, "number above 0 and at most 1")
part = _number(lambda value: 0 < value < 1, "number above 0 and below 1")


def named_file(text: str) -> str:
    """Read the name of a file other than standard input, which is for samples."""
    if text == "-":
        raise argparse.ArgumentTypeError("standard input is for samples; give the name of a file")
    return text


def in_utf8(text: str) -> str:
    """Read a text, which is UTF-8 as in files, also where the locale makes surrogates of its bytes."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


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
