"""Formatting of amounts for users."""

from __future__ import annotations


def size(n_bytes: float) -> str:
    """Format bytes as ``12 MB`` or ``1.23 GB``: a kB is 1000 bytes."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} GB" if n_bytes < 9.995 else f"{n_bytes:.1f} GB"


def numbered(n: int, noun: str) -> str:
    """Format a number with its noun, in the plural with an s unless it is 1."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
