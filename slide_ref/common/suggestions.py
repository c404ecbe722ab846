"""What a misspelt name was most likely meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Ask whether the nearest of `names` was meant: ``"did you mean lsh.K?"``, or "" where none is near.

    Case and leading dashes do not matter, and only what follows the last dot is compared; of equals the first is taken.
    """
    nearest: dict[str, str] = {}
    for name in names:
        nearest.setdefault(_form(name), name)
    close = get_close_matches(_form(word), nearest, 1)
    return f"did you mean {nearest[close[0]]}?" if close else ""


def _form(name: str) -> str:
    return name.rpartition(".")[2].lstrip("-").lower()
