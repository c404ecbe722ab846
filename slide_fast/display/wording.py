"""Sizes, times, networks and scores, formatted for the screen."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from slide_ref.common.config import Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.metrics import RANKS

MEASURES = {"precision": "P", "ndcg": "nDCG", "psp": "PSP"}
NAME_WIDTH = 15  # of all blocks of pairs that a run prints, the longest name and a gap
_SETTING = re.compile(r"\w+ = |\[")  # a line of TOML, which is to be copied
_NAME = re.compile(r" *(?:[\w@]+(?: [\w@]+)* {2,})?")  # what stands before the text of a pair, or the indentation


def duration(seconds: float) -> str:
    """Format seconds as minutes and seconds, ``2:03``, preceded by hours if there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def metric_in_words(metric: str) -> str:
    """Return the short name of one of `EVAL_METRICS`: ``nDCG@5`` for ``ndcg_at_5``."""
    measure, _, k = metric.partition("_at_")
    return f"{MEASURES[measure]}@{k}" if k else "test loss"


def score_table(scores: Mapping[str, Any], baselines: Mapping[str, float] | None = None) -> str:
    """Format the known ones of P@k, nDCG@k and PSP@k at 1, 3 and 5 in per cent, followed by P@1 of baselines."""
    rows = [("per cent", [f"@{k}" for k in RANKS])]
    for measure, name in MEASURES.items():
        if f"{measure}_at_1" in scores:
            rows.append((name, [f"{100 * scores[f'{measure}_at_{k}']:.2f}" for k in RANKS]))
    for name, value in (baselines or {}).items():
        rows.append((f"P, {name}", [f"{100 * value:.2f}"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}" + "".join(f"{cell:>8}" for cell in cells) for name, cells in rows)


def aligned(pairs: Iterable[tuple[str, str]]) -> str:
    """Format names and their meanings, one pair per line."""
    pairs = list(pairs)
    width = max([NAME_WIDTH, *(len(name) + 2 for name, _ in pairs)])
    return "\n".join(f"{name:{width}}{text}".rstrip() for name, text in pairs)


def wrapped(text: str, width: int) -> str:
    """Wrap lines that are wider than a terminal; the text of a pair stays to the right of its name."""
    lines = []
    for line in text.split("\n"):
        indent = " " * min(next(_NAME.finditer(line)).end(), width // 2)
        fits = len(line) <= width or _SETTING.match(line)
        parts = [] if fits else textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip
        lines += parts or [line]
    return "\n".join(lines)


def has_tables(config: Config, n_labels: int) -> bool:
    """Tell whether the output layer is hashed."""
    return config.lsh.L > 0 and config.lsh.min_active < n_labels


def network_in_words(config: Config, n_features: int, n_labels: int) -> str:
    """Describe the sizes of the layers, and how neurons are chosen in training. Layers count from 0."""
    sizes = " → ".join(f"{n:,}" for n in (n_features, *config.hidden, n_labels))
    sampled = config.sampled_layers(n_labels)
    output = sampled.pop(len(config.hidden), None)
    words = f"all {'labels' if sampled else 'neurons'} active" if output is None else _tables_in_words(config, output)
    words += f", {config.shards} shards" if config.shards > 1 else ""
    return "; ".join([f"{sizes}, {words}", *(f"layer {l}: {_tables_in_words(config, sampled[l])}" for l in sampled)])


def _tables_in_words(config: Config, lsh: LshConfig) -> str:
    if not (lsh.L or lsh.min_active):
        return "labels of the micro-batch"
    words = f"{lsh.family} K={lsh.K} L={lsh.L}" if lsh.L else "uniform draws"
    if lsh.L and lsh.family == "centroid":
        nearest = "the nearest" if lsh.L == 1 else f"the {lsh.L} nearest"
        words = f"buckets of {nearest} of {lsh.n_centroids:,} centroids"
    if not lsh.min_active:
        return words
    return f"{words}, at least {lsh.min_active:,} active in a {'micro-batch' if config.scope == 'batch' else 'sample'}"
