"""Features of texts against the plainest program that counts them."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_fast.text import ngrams as module
from slide_fast.text.ngrams import NgramCounter
from slide_fast.text.settings import WORDS, TextSettings
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.rng import Purpose, mix, text_word

TEXTS = st.lists(st.text(alphabet="aB c.\né字\U0001f600", max_size=12), max_size=6)


def keys_by_hand(words, word_ngrams, char_ngrams):
    found = Counter()
    for start in range(len(words)):
        key = text_word(words[start])
        for n in range(1, min(word_ngrams, len(words) - start) + 1):
            key = key if n == 1 else int(mix(0, Purpose.TEXT, n, key, text_word(words[start + n - 1])))
            found[key] += 1
    for word in words:
        spaced = f" {word} "
        for n in range(char_ngrams[0], char_ngrams[1] + 1):
            for start in range(len(spaced) - n + 1):
                found[int(mix(0, Purpose.TEXT, 0, *map(ord, spaced[start : start + n])))] += 1
    return found


@given(TEXTS, st.integers(0, 3), st.sampled_from([(1, 0), (1, 1), (2, 3), (3, 5)]))
def test_counts_are_those_of_a_loop(texts, word_ngrams, char_ngrams):
    some_chars = char_ngrams if char_ngrams[1] else None
    if not word_ngrams and some_chars is None:
        return
    counter = NgramCounter(TextSettings.checked(word_ngrams=word_ngrams, char_ngrams=some_chars))
    keys, indptr, codes, counts = counter.count(texts)
    assert (keys[1:] > keys[:-1]).all() and len(indptr) == len(texts) + 1
    for i, text in enumerate(texts):
        own = slice(indptr[i], indptr[i + 1])
        words = [word for word in text.lower().replace(".", " ").replace("\U0001f600", " ").split()]
        found = dict(zip(keys[codes[own]].tolist(), counts[own].tolist(), strict=True))
        assert found == keys_by_hand(words, word_ngrams, char_ngrams)
        assert (np.diff(codes[own]) > 0).all()
        assert set(counter.named(text)) == set(found)


def test_features_are_named_as_they_stand_in_the_text():
    counter = NgramCounter(TextSettings.checked(word_ngrams=2, char_ngrams=(3, 4)))
    names = counter.named("Red Ink!")
    assert set(names.values()) == {
        "red", "ink", "red ink", "' re'", "'red'", "'ed '", "' red'", "'red '",
        "' in'", "'ink'", "'nk '", "' ink'", "'ink '",
    }  # fmt: skip
    assert {name: key for key, name in names.items()}["red"] == text_word("red")


def test_words_that_were_forgotten_count_as_before(monkeypatch):
    counter, new = (NgramCounter(TextSettings.checked(word_ngrams=2, char_ngrams=(2, 2))) for _ in range(2))
    counter.count(["a bc", "bc d"])
    monkeypatch.setattr(module, "MOST_WORDS", 1)
    for ours, theirs in zip(counter.count(["e d", "d bc"]), new.count(["e d", "d bc"]), strict=True):
        assert ours.tolist() == theirs.tolist()


@given(st.lists(st.text(st.characters(max_codepoint=200), max_size=12), max_size=6))
def test_words_are_those_of_the_regular_expression(texts):
    every = ["".join(map(chr, range(128))), *(f"A{chr(code)}B" for code in range(128)), *texts]
    ours, expressed = (NgramCounter(TextSettings.checked(token_pattern=words)) for words in (WORDS, r"\w\w*"))
    for own, expected in zip(ours.count(every), expressed.count(every), strict=True):
        assert own.tolist() == expected.tolist()


def test_a_tokenizer_cuts_texts_in_lower_case():
    counter = NgramCounter(TextSettings.checked(tokenizer=lambda text: text.split("-")))
    assert set(counter.named("A b-C").values()) == {"a b", "c"}


@pytest.mark.parametrize("tokenizer", [lambda text: 3, lambda text: [1, 2], lambda text: [None]])
def test_what_a_tokenizer_may_not_return_is_said(tokenizer):
    with pytest.raises(DataError, match="the tokenizer must return a list of str for each text"):
        NgramCounter(TextSettings.checked(tokenizer=tokenizer)).count(["a"])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"word_ngrams": -1}, "word_ngrams is -1; it must be 0 or more"),
        ({"word_ngrams": 0}, "word_ngrams is 0; it must be 1 or more without char_ngrams"),
        ({"char_ngrams": (3, 2)}, r"char_ngrams is \(3, 2\); it must be two whole numbers"),
        ({"char_ngrams": "35"}, "char_ngrams is '35'"),
        ({"min_df": 0}, "min_df is 0; it must be 1 or more"),
        ({"buckets": 2**31}, "buckets is 2147483648; it must be at most 2147483647"),
        ({"token_pattern": "("}, r"token_pattern is '\('; it must be a regular expression"),
        ({"token_pattern": "(a)(b)"}, "token_pattern is .*; it must be at most one group"),
        ({"token_pattern": 3}, "token_pattern is 3; it must be a regular expression as a str"),
        ({"token_pattern": re.compile(r"\w+")}, "token_pattern is .*; it must be a regular expression as a str"),
        ({"token_pattern": b"a+"}, "token_pattern is b'a.'; it must be a regular expression as a str"),
        ({"char_ngrams": np.eye(2, dtype=int)}, "char_ngrams is array.*; it must be two whole numbers"),
        ({"tokenizer": "x"}, "tokenizer is 'x'; it must be a function"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, wanted):
    with pytest.raises(ConfigError, match=wanted):
        TextSettings.checked(**values)


def test_numbers_of_an_array_are_a_range_as_those_of_a_list_are():
    for pair in ([2, 3], (np.int64(2), 3), np.array([2, 3])):
        assert TextSettings.checked(char_ngrams=pair) == TextSettings(char_ngrams=(2, 3))


@given(st.lists(st.text(alphabet="aB\xff \0\n\x1f_9é", max_size=12), max_size=12))
def test_ascii_texts_cut_together_have_the_words_of_each(texts):
    counter = NgramCounter(TextSettings.checked())
    counts = counter.count(texts)
    for i, text in enumerate(texts):
        words = Counter(re.findall(r"\w+", text.lower()))
        codes = slice(counts.indptr[i], counts.indptr[i + 1])
        keys = dict(zip(counts.keys[counts.codes[codes]].tolist(), counts.counts[codes].tolist(), strict=True))
        named = counter.named(text)
        assert {named[key]: n for key, n in keys.items()} == words
