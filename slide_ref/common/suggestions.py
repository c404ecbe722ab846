"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Suggest the nearest of `names`: ``"did you mean lsh.K?"``, or "" if none is near.

    Case and leading dashes are ignored, and only the part after the last dot is compared; ties go to the first name.
    """
    nearest: dict[str, str] = {}
    for name in names:
        nearest.setdefault(_form(name), name)
    close = get_close_matches(_form(word), nearest, 1)
    return f"did you mean {nearest[close[0]]}?" if close else ""


def _form(name: str) -> str:
    return name.rpartition(".")[2].lstrip("-").lower()
