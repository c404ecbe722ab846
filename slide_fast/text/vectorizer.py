"""From counted features to rows of values, and the settings that a model stores for this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.rng import draw
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import TextColumns

from ..parallel.machine import require_memory
from ..readers.growing_rows import joined
from .ngrams import Counts
from .settings import SAVED, TextSettings

CALLABLE = "has_tokenizer"
BYTES_PER_COLUMN = 36  # its frequency as a whole number, and what the logarithms are computed in


class Vectorizer:
    """Makes rows from counted features, with values (1 + log count) times idf and rows of length 1.

    Parameters
    ----------
    settings : TextSettings
    idf : ndarray of float32, shape (n_columns,)
        log((1 + texts) / (1 + texts with this feature)) + 1, over the training texts.
    keys : ndarray of uint64, shape (n_columns,), or None
        Keys of the features that have a column, ascending; None if features are hashed: the column of a key is then
        (its upper 32 bits times `buckets`) // 2**32, by `draw` of S3.
    """

    def __init__(self, settings: TextSettings, idf: np.ndarray, keys: np.ndarray | None):
        self.settings, self.idf, self.keys = settings, idf, keys

    @property
    def n_columns(self) -> int:
        return len(self.idf)

    def rows(self, counts: Counts) -> SparseRows:
        """Make canonical rows; features without a column are left out."""
        return self._weighted(self._placed(counts))

    def columns(self, keys: np.ndarray) -> np.ndarray:
        """Return the columns of features, int32; -1 for a feature without one."""
        known = self.keys
        if known is None:
            return draw(keys, self.n_columns).astype(np.int32)
        if not len(known):
            return np.full(len(keys), -1, dtype=np.int32)
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[places] == keys, places, -1).astype(np.int32)

    def _placed(self, counts: Counts) -> SparseRows:
        """Make rows from counts; columns ascend with the keys in both cases, and hashed ones may coincide."""
        indices = self.columns(counts.keys)[counts.codes]
        rows = SparseRows(counts.indptr, indices, counts.counts.astype(np.float64), self.n_columns)
        return rows.where(indices >= 0).canonical()

    def _weighted(self, rows: SparseRows) -> SparseRows:
        assert rows.data is not None
        values = (1 + np.log(rows.data, dtype=np.float64)) * self.idf[rows.indices]
        row_of = rows.row_of()
        lengths = np.sqrt(np.bincount(row_of, weights=values * values, minlength=rows.n_rows))
        return SparseRows(rows.indptr, rows.indices, (values / lengths[row_of]).astype(np.float32), rows.n_columns)

    def saved(self, source: dict[str, Any]) -> TextColumns:
        """Return what a model stores, with JSON values about the source files of the texts."""
        settings: dict[str, Any] = {name: getattr(self.settings, name) for name in SAVED}
        settings |= {CALLABLE: self.settings.tokenizer is not None, "source": source}
        return TextColumns(settings, {"idf": self.idf} | ({} if self.keys is None else {"keys": self.keys}))

    @classmethod
    def of(cls, saved: TextColumns, tokenizer: Callable[[str], list[str]] | None = None) -> Vectorizer:
        """Restore what `saved` returned.

        Raises
        ------
        ModelError
            If it is malformed, or a tokenizer was used in training and none is given, or the reverse.
        ConfigError
            If the tokenizer is no function.
        """
        idf, keys = saved.arrays.get("idf"), saved.arrays.get("keys")
        if saved.settings.get(CALLABLE) and tokenizer is None:
            text = "the texts were split into words by a Python function, which is not saved; load it from Python"
            raise ModelError(f"{text}: SlideTextClassifier.load(folder, tokenizer=…)")
        if tokenizer is not None and not saved.settings.get(CALLABLE):
            raise ModelError("the texts were split into words by token_pattern; load the model without a tokenizer")
        TextSettings.checked(tokenizer=tokenizer)  # it is not the model's fault
        try:
            plain = {name: saved.settings[name] for name in SAVED}
            settings = TextSettings.checked(**plain, tokenizer=tokenizer)
        except (KeyError, ConfigError) as error:
            raise ModelError(f"the text settings of the model are incomplete: {error}") from error
        if idf is None or not _fit(idf, keys, settings.buckets):
            raise ModelError("the model's text arrays, idf and keys, do not match its settings; train it again")
        return cls(settings, idf, keys)


def _fit(idf: np.ndarray, keys: np.ndarray | None, n_buckets: int) -> bool:
    """Tell whether saved arrays belong to a vectorizer."""
    if idf.dtype != np.float32 or idf.ndim != 1 or not np.isfinite(idf).all():
        return False
    if keys is None or n_buckets:
        return keys is None and len(idf) == n_buckets
    return keys.dtype == np.uint64 and keys.shape == idf.shape and bool((keys[1:] > keys[:-1]).all())


def fit(settings: TextSettings, blocks: list[Counts]) -> tuple[Vectorizer, SparseRows]:
    """Make a vectorizer from all training texts, and their rows. Empties the list of blocks.

    Raises
    ------
    DataError
        If there are no texts, or no feature occurs in `min_df` of them.
    MemoryError
        If there are more buckets than fit in memory.
    """
    n_texts = sum(len(block.indptr) - 1 for block in blocks)
    if not n_texts:
        raise DataError("there are no samples; give at least one text")
    keys, n_columns = None, settings.buckets
    if n_columns:
        require_memory(BYTES_PER_COLUMN * n_columns, f"{n_columns:,} buckets need", "choose fewer (--buckets)")
    else:
        if not any(len(block.keys) for block in blocks):
            raise DataError(f"the texts contain no words{_what_finds_them(settings)}")
        keys = _kept(blocks, settings.min_df)
        n_columns = len(keys)
        if not n_columns:
            n = settings.min_df
            raise DataError(f"no feature occurs in {n} of the {n_texts:,} texts; lower min_df (--min-df)")
    vectorizer = Vectorizer(settings, np.zeros(n_columns, np.float32), keys)
    parts, df = [], np.zeros(n_columns, dtype=np.int64)
    while blocks:
        parts.append(vectorizer._placed(blocks.pop(0)))
        df += np.bincount(parts[-1].indices, minlength=n_columns)
    vectorizer.idf = (np.log((1 + n_texts) / (1 + df)) + 1).astype(np.float32)
    return vectorizer, joined(map(vectorizer._weighted, parts), n_columns)


def _what_finds_them(settings: TextSettings) -> str:
    """Return what to check if no words were found in any text."""
    cut = "token_pattern (--token-pattern)" if settings.tokenizer is None else "the tokenizer"
    if settings.word_ngrams:
        return f"; check them and {cut}"
    return f" long enough for char_ngrams; check it (--char-ngrams) and {cut}"


def _kept(blocks: list[Counts], min_df: int) -> np.ndarray:
    """Return the keys of features that occur in enough texts, ascending."""
    dfs = [np.bincount(block.codes, minlength=len(block.keys)) for block in blocks]
    keys, places = np.unique(np.concatenate([block.keys for block in blocks]), return_inverse=True)
    return keys[np.bincount(places, weights=np.concatenate(dfs), minlength=len(keys)) >= min_df]
