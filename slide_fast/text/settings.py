"""Settings of how texts become features, and their checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slide_ref.common.checks import is_whole, plain, require, whole

WORDS = r"\w+"  # letters, digits and underscores of any script
MOST_BUCKETS = 2**31 - 1
SAVED = ("word_ngrams", "char_ngrams", "min_df", "buckets", "token_pattern")  # all settings but the tokenizer


@dataclass(frozen=True)
class TextSettings:
    """How texts become features. Texts are converted to lower case first.

    The attributes are the parameters of `SlideTextClassifier` that have these names.
    """

    word_ngrams: int = 1
    char_ngrams: tuple[int, int] | None = None
    min_df: int = 2
    buckets: int = 0
    token_pattern: str = WORDS
    tokenizer: Callable[[str], list[str]] | None = None

    def __str__(self) -> str:
        parts = ["words"] if self.word_ngrams else []
        parts += [f"up to {self.word_ngrams} words in a row"] if self.word_ngrams > 1 else []
        if self.char_ngrams is not None:
            parts.append("parts of words of {} to {} characters".format(*self.char_ngrams))
        kept = f"hashed into {self.buckets:,} columns" if self.buckets else f"that are in {self.min_df} texts or more"
        return f"{', '.join(parts)}, {kept}"

    @classmethod
    def checked(cls, **values: Any) -> TextSettings:
        """Make settings from plain values. Raises ConfigError if one is invalid."""
        for key, least in (("word_ngrams", 0), ("min_df", 1), ("buckets", 0)):
            if key in values:
                values[key] = whole(key, values[key], least)
        settings = cls(**values | {"char_ngrams": _range(values.get("char_ngrams"))})
        fits = settings.buckets <= MOST_BUCKETS
        require(fits, "buckets", settings.buckets, f"at most {MOST_BUCKETS}, or 0 to keep the features themselves")
        some = settings.word_ngrams > 0 or settings.char_ngrams is not None
        require(some, "word_ngrams", settings.word_ngrams, "1 or more without char_ngrams")
        _check_pattern(settings.token_pattern)
        cut, wanted = settings.tokenizer, "a function that takes a text and returns a list of words"
        require(cut is None or callable(cut), "tokenizer", cut, wanted)
        return settings


def require_words(settings: TextSettings) -> None:
    """Raise ConfigError if the token pattern finds words without characters; models that have such are still read."""
    if settings.tokenizer is None and not all(re.findall(settings.token_pattern, " a b1, c-d ")):
        wanted = r"a regular expression that matches no empty word, such as r'\w+'"
        require(False, "token_pattern", settings.token_pattern, wanted)


def _range(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    given = value.tolist() if isinstance(value, np.ndarray) else value
    pair = [plain(n) for n in given] if isinstance(given, Sequence) and not isinstance(given, str) else []
    fits = len(pair) == 2 and all(map(is_whole, pair)) and 1 <= pair[0] <= pair[1]
    require(fits, "char_ngrams", value, "two whole numbers such as (3, 5), the first at least 1, or None")
    return pair[0], pair[1]


def _check_pattern(pattern: Any) -> None:
    require(isinstance(pattern, str), "token_pattern", pattern, r"a regular expression as a str, such as r'\w+'")
    try:
        groups, reason = re.compile(pattern).groups, "at most one group, such as r'\\w+'"
    except (re.error, OverflowError, RecursionError) as error:
        groups, reason = 2, f"a regular expression ({error})"
    require(groups <= 1, "token_pattern", pattern, reason)
