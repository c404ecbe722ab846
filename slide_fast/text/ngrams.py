"""From texts to counted features: n-grams of words and of characters, each with a 64-bit key.

The key of a word is the first 8 bytes of its BLAKE2b digest, little-endian (`text_word` of S2). The key of a word
n-gram is mix(0, TEXT, n, key of the first n - 1 words, key of the last), that of a character n-gram mix(0, TEXT, 0,
code points …). The probability that any two of ten million features have the same key is 3e-6; they would share a
column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import chain, compress
from typing import NamedTuple

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.rng import Purpose, mix

from .settings import WORDS, TextSettings

Part = tuple[np.ndarray, np.ndarray]
MOST_WORDS = 1 << 21  # that are remembered from one call to the next
END = "\xff"  # no character of an ASCII text
ASCII_WORDS = bytes(ord(chr(code).lower()) if re.fullmatch(WORDS, chr(code)) else ord(" ") for code in range(128))
ASCII_WORDS = ASCII_WORDS.ljust(255) + END.encode("latin-1")


class Counts(NamedTuple):
    """Features of some texts, and how often each occurs in each.

    Attributes
    ----------
    keys : ndarray of uint64, shape (n_keys,)
        Keys of the features that occur, ascending.
    indptr : ndarray of int64, shape (n_texts + 1,)
        Text i has ``codes[indptr[i]:indptr[i + 1]]``.
    codes : ndarray of int32, shape (nnz,)
        Indices into `keys`, ascending in each text.
    counts : ndarray of int32, shape (nnz,)
    """

    keys: np.ndarray
    indptr: np.ndarray
    codes: np.ndarray
    counts: np.ndarray


class _Words(dict[str, int]):
    """Words, numbered in order of appearance, and their digests."""

    def __init__(self) -> None:
        self.digests = bytearray()
        self.spelled: list[str] = []

    def __missing__(self, word: str) -> int:
        self.digests += hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self.spelled.append(word)
        number = self[word] = len(self)
        return number


class NgramCounter:
    """Counts the features of texts. Words are cached between calls, which does not affect results."""

    def __init__(self, settings: TextSettings):
        self.settings, self._words = settings, _Words()
        cut = settings.tokenizer or re.compile(settings.token_pattern).findall
        self._cut: Callable[[str], list[str]] = lambda text: cut(text.lower())

    def count(self, texts: Sequence[str]) -> Counts:
        """Count the features of some texts. Raises DataError if the tokenizer does not return words."""
        if len(self._words) > MOST_WORDS:
            self._words = _Words()
        return _counted(*self._occurrences(texts), len(texts))

    def named(self, text: str) -> dict[int, str]:
        """Return the keys of a text's features, and the features as text."""
        words, settings = self._cut(text), self.settings
        names = [" ".join(words[at : at + n]) for n in range(1, min(settings.word_ngrams, len(words)) + 1)
                 for at in range(len(words) - n + 1)]  # fmt: skip
        least, most = settings.char_ngrams or (1, 0)
        names += [f"{part!r}" for word in words for n in range(least, min(most, len(word) + 2) + 1)
                  for part in _parts(word, n)]  # fmt: skip
        return dict(zip(self._occurrences([text])[1].tolist(), names, strict=True))

    def _occurrences(self, texts: Sequence[str]) -> Part:
        """Return the text and key of each occurrence of a feature; for a single text, in the order of `named`."""
        rows, ids = self._numbered(texts)
        parts = [*self._word_ngrams(ids, rows), *self._char_ngrams(ids, rows)]
        rows, keys = map(np.concatenate, zip(*parts, strict=True))
        return rows, keys

    def _numbered(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the text and the number of each word, text by text; ASCII texts, cut together, come first."""
        is_usual = self.settings.tokenizer is None and self.settings.token_pattern == WORDS
        is_ascii = np.fromiter((is_usual and text.isascii() for text in texts), np.bool_, len(texts))
        words = _ascii_words(list(compress(texts, is_ascii)))
        ids = np.fromiter(map(self._words.__getitem__, words), np.int64, len(words))
        are_ends = ids == self._words[END]
        rows = np.flatnonzero(is_ascii)[np.cumsum(are_ends)[~are_ends]]
        others, other_ids = self._numbered_one_by_one(texts, np.flatnonzero(~is_ascii))
        return np.concatenate([rows, others]), np.concatenate([ids[~are_ends], other_ids])

    def _numbered_one_by_one(self, texts: Sequence[str], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [self._cut(texts[i]) for i in rows.tolist()]
        try:
            if self.settings.tokenizer is not None and str in map(type, found):
                raise TypeError("it returned a str")
            lengths = np.fromiter(map(len, found), np.int64, len(found))
            words = map(self._words.__getitem__, chain.from_iterable(found))
            ids = np.fromiter(words, np.int64, int(lengths.sum()))
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"the tokenizer must return a list of str for each text ({error})") from error
        return np.repeat(rows, lengths), ids

    def _word_ngrams(self, ids: np.ndarray, rows: np.ndarray) -> list[Part]:
        """Return for each n the texts and keys of the word n-grams."""
        words = np.frombuffer(bytes(self._words.digests), "<u8").astype(np.uint64)[ids]
        keys, parts = words, [(rows, words)][: self.settings.word_ngrams]
        for n in range(2, self.settings.word_ngrams + 1):
            n_starts = max(len(ids) - n + 1, 0)
            keys = mix(0, Purpose.TEXT, n, keys[:n_starts], words[n - 1 :])  # those across texts are dropped
            inside = rows[:n_starts] == rows[n - 1 :]
            if not inside.any():  # no text has so many words
                break
            parts.append((rows[:n_starts][inside], keys[inside]))
        return parts

    def _char_ngrams(self, ids: np.ndarray, rows: np.ndarray) -> list[Part]:
        """Return the texts and keys of the character n-grams."""
        if self.settings.char_ngrams is None:
            return []
        distinct, places = np.unique(ids, return_inverse=True)
        lengths, keys = _keys_in_words([self._words.spelled[i] for i in distinct.tolist()], *self.settings.char_ngrams)
        ends, repeats = np.cumsum(lengths), lengths[places]
        before = np.cumsum(repeats) - repeats
        at = np.arange(int(repeats.sum())) + np.repeat((ends - lengths)[places] - before, repeats)
        return [(np.repeat(rows, repeats), keys[at])]


def _ascii_words(texts: list[str]) -> list[str]:
    """Return the words of ASCII texts in lower case, with `END` between texts.

    A regular expression takes three times as long as `bytes.translate`, and texts one at a time half as long again.
    """
    return f" {END} ".join(texts).encode("latin-1").translate(ASCII_WORDS).decode("latin-1").split()


def _parts(word: str, n: int) -> list[str]:
    spaced = f" {word} "
    return [spaced[at : at + n] for at in range(len(spaced) - n + 1)]


def _keys_in_words(words: list[str], least: int, most: int) -> Part:
    """Return the number of character n-grams of each word, and all their keys, word by word."""
    spaced = [f" {word} " for word in words]
    lengths = np.fromiter(map(len, spaced), np.int64, len(spaced))
    points = np.frombuffer("".join(spaced).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    owners, left = np.repeat(np.arange(len(words)), lengths), np.repeat(np.cumsum(lengths), lengths)
    left -= np.arange(len(points))  # characters from here to the end of the word
    found: list[Part] = [(owners[:0], points[:0])]
    for n in range(least, most + 1):
        starts = np.flatnonzero(left >= n)
        if not len(starts):  # no word is so long
            break
        found.append((owners[starts], mix(0, Purpose.TEXT, 0, *(points[starts + i] for i in range(n)))))
    owners, keys = map(np.concatenate, zip(*found, strict=True))
    return np.bincount(owners, minlength=len(words)), keys[np.argsort(owners, kind="stable")]


def _counted(rows: np.ndarray, keys: np.ndarray, n_texts: int) -> Counts:
    """Count the occurrences of each key in each text."""
    distinct, codes = np.unique(keys, return_inverse=True)
    n_keys = max(len(distinct), 1)
    pairs = np.sort(rows * n_keys + codes)
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    counts = np.diff(starts, append=len(pairs)).astype(np.int32)
    owners, codes = np.divmod(pairs[starts], n_keys)
    return Counts(distinct, np.searchsorted(owners, np.arange(n_texts + 1)), codes.astype(np.int32), counts)
