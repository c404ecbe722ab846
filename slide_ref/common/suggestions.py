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
    wanted = _form(word)
    close = get_close_matches(wanted, nearest, 1, 0.6 if len(wanted) > 2 else 1)  # two letters are like anything
    return f"did you mean {nearest[close[0]]}?" if close else ""


def _form(name: str) -> str:
    return name.rpartition(".")[2].lstrip("-").lower()
