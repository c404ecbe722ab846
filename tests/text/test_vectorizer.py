"""Columns and values of texts, against scikit-learn and against loops; what a model keeps comes back bit for bit."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_fast.text.ngrams import NgramCounter
from slide_fast.text.reading import batches_of
from slide_fast.text.settings import TextSettings
from slide_fast.text.vectorizer import Vectorizer, fit
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.rng import draw, text_word
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import TextColumns

WORDS = ["red", "green", "blue", "the", "of", "sky", "apple", "tree"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), min_size=2, max_size=12)


def fitted(texts, at_once=3, **values):
    settings = TextSettings.checked(**values)
    counter = NgramCounter(settings)
    blocks = [counter.count(texts[i : i + at_once]) for i in range(0, len(texts), at_once)]
    return *fit(settings, blocks), counter


def dense(rows):
    table = np.zeros(rows.shape)
    for i in range(rows.n_rows):
        ids, values = rows.row(i)
        table[i, ids] = values
    return table


@given(TEXTS, st.integers(1, 2), st.integers(1, 3))
def test_values_are_those_of_scikit_learn(texts, word_ngrams, min_df):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    theirs = text.TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, word_ngrams), token_pattern=r"\w+", min_df=min_df, dtype=np.float64
    )
    try:
        wanted = theirs.fit_transform(texts).toarray()
    except ValueError:  # no word is left
        with pytest.raises(DataError, match="the texts contain no words|no feature occurs in"):
            fitted(texts, word_ngrams=word_ngrams, min_df=min_df)
        return
    vectorizer, rows, counter = fitted(texts, word_ngrams=word_ngrams, min_df=min_df)
    column_of = {name: key for text in texts for key, name in counter.named(text).items()}
    places = [vectorizer.columns(np.array([column_of[name]], np.uint64))[0] for name in theirs.get_feature_names_out()]
    assert sorted(places) == list(range(vectorizer.n_columns))
    np.testing.assert_allclose(dense(rows)[:, places], wanted, rtol=1e-6)


CUT, LONG = "token_pattern (--token-pattern)", {"word_ngrams": 0, "char_ngrams": (9, 9)}


@pytest.mark.parametrize(
    ("text", "values", "told"),
    [
        ("", {}, f"; check them and {CUT}"),
        ("red", {"token_pattern": "zzz"}, f"; check them and {CUT}"),
        ("red", {"tokenizer": lambda text: []}, "; check them and the tokenizer"),
        ("red", LONG, f" long enough for char_ngrams; check it (--char-ngrams) and {CUT}"),
    ],
)
@pytest.mark.parametrize("min_df", [1, 2])
def test_texts_without_features_are_told_by_what_finds_them(text, values, told, min_df):
    with pytest.raises(DataError) as caught:
        fitted([text] * 3, min_df=min_df, **values)
    assert str(caught.value) == f"the texts contain no words{told}"


@given(TEXTS)
def test_hashed_columns_are_those_of_a_loop(texts):
    n, (vectorizer, rows, _) = 5, fitted(texts, buckets=5)
    column_of = {word: int(draw(np.array([text_word(word)], np.uint64), n)[0]) for word in WORDS}
    counts = [Counter(column_of[word] for word in text.split()) for text in texts]
    df = Counter(column for own in counts for column in own)
    for i, own in enumerate(counts):
        values = {c: (1 + math.log(count)) * (math.log((1 + len(texts)) / (1 + df[c])) + 1) for c, count in own.items()}
        length = math.sqrt(sum(value * value for value in values.values()))
        found = dict(zip(*(part.tolist() for part in rows.row(i)), strict=True))
        assert found == pytest.approx({column: value / length for column, value in values.items()}, rel=1e-6)
    assert vectorizer.n_columns == n and rows.n_columns == n


@given(TEXTS, st.sampled_from([{}, {"buckets": 7}, {"word_ngrams": 2, "min_df": 1, "char_ngrams": (2, 3)}]))
def test_rows_do_not_depend_on_how_texts_come(texts, values):
    try:
        (one, rows, counter), (other, same, _) = (fitted(texts, at_once, **values) for at_once in (2, 50))
    except DataError:
        return
    assert_equal(rows, same)
    assert one.idf.tobytes() == other.idf.tobytes()
    assert_equal(one.rows(counter.count(texts)), rows)
    rows.check("rows")
    assert_equal(rows.canonical(), rows)


def assert_equal(one: SparseRows, other: SparseRows):
    for name in ("indptr", "indices", "data"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert one.n_columns == other.n_columns


def test_a_text_without_known_words_is_an_empty_row():
    vectorizer, _, counter = fitted(["red sky", "red apple"], min_df=1)
    rows = vectorizer.rows(counter.count(["nothing here", "", "red"]))
    assert rows.indptr.tolist() == [0, 0, 0, 1] and rows.data.tolist() == [1.0]


@pytest.mark.parametrize("values", [{"min_df": 1, "char_ngrams": (2, 3), "token_pattern": "[a-z]+"}, {"buckets": 9}])
def test_what_a_model_keeps_comes_back(values):
    vectorizer, rows, _ = fitted(["red sky", "red apple"], **values)
    again = Vectorizer.of(vectorizer.saved({}))
    assert again.settings == vectorizer.settings
    assert_equal(again.rows(NgramCounter(again.settings).count(["red sky", "red apple"])), rows)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"word_ngrams": 0}}, {"settings": {"token_pattern": "("}}, {"settings": {"min_df": None}},
        {"settings": {"buckets": 3}}, {"arrays": {"keys": None}}, {"arrays": {"idf": None}},
        {"arrays": {"idf": np.zeros(3)}}, {"arrays": {"idf": np.full(3, np.nan, np.float32)}},
        {"arrays": {"keys": np.array([1, 1, 2], np.uint64)}}, {"arrays": {"keys": np.array([1, 2, 3])}},
    ],
)  # fmt: skip
def test_what_a_damaged_model_says_is_refused(change):
    saved = fitted(["red sky", "red apple"], min_df=1)[0].saved({})
    arrays = {
        name: array for name, array in (dict(saved.arrays) | change.get("arrays", {})).items() if array is not None
    }
    with pytest.raises(ModelError, match="the text settings of the model|the model's text arrays"):
        Vectorizer.of(TextColumns(saved.settings | change.get("settings", {}), arrays))


def test_a_model_that_lacks_settings_is_refused():
    saved = fitted(["red sky", "red apple"], min_df=1)[0].saved({})
    with pytest.raises(ModelError, match="the text settings of the model are incomplete: 'min_df'"):
        Vectorizer.of(TextColumns({k: v for k, v in saved.settings.items() if k != "min_df"}, saved.arrays))


def test_a_tokenizer_is_asked_for_where_it_is_missing():
    vectorizer, _, _ = fitted(["red sky", "red apple"], tokenizer=str.split)
    saved = vectorizer.saved({})
    with pytest.raises(ModelError, match=r"SlideTextClassifier.load\(folder, tokenizer=…\)"):
        Vectorizer.of(saved)
    assert Vectorizer.of(saved, str.split).n_columns == vectorizer.n_columns


def test_a_tokenizer_that_is_none_is_not_laid_to_the_model():
    saved = fitted(["red sky", "red apple"], tokenizer=str.split)[0].saved({})
    with pytest.raises(ConfigError, match="^tokenizer is 3; it must be a function"):
        Vectorizer.of(saved, 3)


def test_more_buckets_than_fit_in_memory_are_refused(monkeypatch):
    monkeypatch.setattr("slide_fast.parallel.machine.memory_left", lambda: 10_000)
    with pytest.raises(MemoryError, match=r"^1,000 buckets need 36 kB.*; choose fewer \(--buckets\)"):
        fitted(["red sky", "red apple"], buckets=1000)


def test_texts_come_in_batches_that_hold_all_of_them(monkeypatch):
    monkeypatch.setattr("slide_fast.text.reading.TEXTS_AT_ONCE", 2)
    assert list(batches_of(["a", "b", "c"])) == [["a", "b"], ["c"]]
