"""Options for texts: where they are in a file, and how they become features."""

from __future__ import annotations

import argparse

from .argument_types import count, in_utf8, whole


def add_columns(command: argparse.ArgumentParser, as_trained: bool = True, labels: bool = True) -> None:
    """Add options that say where texts and labels are in a file."""
    default = " (default: as in training)" if as_trained else ""
    group = command.add_argument_group("texts in TSV, CSV or JSON lines (fastText's format needs no option)")
    group.add_argument("--text-column", type=in_utf8, action="append", metavar="NAME",
                       help="column with the text; may be repeated, the texts are then joined" + default)  # fmt: skip
    if labels:
        group.add_argument("--label-column", type=in_utf8, metavar="NAME", help=f"column with the label names{default}")
        group.add_argument("--label-separator", type=in_utf8, metavar="S",
                           help="separator between labels in that column, such as '|'"
                           + (default or " (default: a cell is one label)"))  # fmt: skip
    group.add_argument("--on-error", choices=("stop", "skip"), default="stop",
                       help="on an unreadable line: stop (default), or skip and count it")  # fmt: skip


def add_features(command: argparse.ArgumentParser) -> None:
    """Add options that say how texts become features."""
    group = command.add_argument_group("text features")
    group.add_argument("--word-ngrams", type=whole(0), metavar="N",
                       help="word n-grams of up to N words; 0, with --char-ngrams: none (default: 1)")  # fmt: skip
    group.add_argument("--char-ngrams", type=_pair, metavar="N,M",
                       help="also character n-grams of N to M characters, within words (default: none)")  # fmt: skip
    group.add_argument("--min-df", type=count, metavar="N",
                       help="drop features that occur in fewer than N training texts (default: 2); not with "
                       "--buckets")  # fmt: skip
    group.add_argument("--buckets", type=whole(0), metavar="N",
                       help="hash features into N columns (default: one column per training feature); not with "
                       "--min-df")  # fmt: skip
    group.add_argument("--token-pattern", type=in_utf8, metavar="REGEX",
                       help=r"regular expression of a word (default: \w+)")  # fmt: skip


def _pair(text: str) -> tuple[int, int]:
    try:
        least, most = map(int, text.split(","))
    except ValueError:
        least, most = 0, 0
    if not 1 <= least <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form N,M with 1 <= N <= M, such as 3,5")
    return least, most
