"""S2 and S3: the mixer, draws and permutations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.rng import Purpose, _mix_word, _mix_words, draw, mix, permutation, text_word

WORDS = st.integers(0, 2**64 - 1)
SPLITMIX64_OF_SEED_0 = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC)
GOLDEN = 0x9E3779B97F4A7C15


def chained(*words):
    """The definition of `mix`, in Python integers."""
    state, mask = 0, 2**64 - 1
    for word in words:
        z = ((state ^ (word & mask)) + GOLDEN) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        state = z ^ (z >> 31)
    return state


def test_s2_one_step_is_the_published_splitmix64():
    states = [(i * GOLDEN) % 2**64 for i in range(4)]
    assert tuple(_mix_word(state) for state in states) == SPLITMIX64_OF_SEED_0
    assert tuple(_mix_words(np.array(states, dtype=np.uint64)).tolist()) == SPLITMIX64_OF_SEED_0


def test_s2_purposes_are_distinct_and_numbers_are_kept():
    numbers = [purpose.value for purpose in Purpose.__members__.values()]
    assert len(set(numbers)) == len(numbers) == len(Purpose.__members__)
    assert {"FOLD": 1, "SIMHASH": 2, "INSERTION": 3, "TABLE_ORDER": 4}.items() <= Purpose.__members__.items()


def test_s2_vectors():
    assert int(mix(0, Purpose.FOLD)) == chained(0, 1) == 0x08B4FDA8C892B50E
    assert int(mix(0, Purpose.FOLD, 0)) == chained(0, 1, 0) == 0x44E5B98100C67FB0
    assert int(mix(42, Purpose.INSERTION, 0, 1)) == chained(42, 3, 0, 1) == 0x5C3736F0590B0BDE
    assert int(mix(2**63 - 1, Purpose.GENERATE, 2**64 - 1)) == 0xD1E1E1E099A50BCF


def test_s3_vectors():
    assert draw(mix(42, Purpose.PAD_BATCH, 0, np.arange(5)), 1000).tolist() == [490, 485, 923, 122, 971]
    assert permutation(42, Purpose.INSERTION, 0, 1, n=8).tolist() == [1, 3, 7, 0, 4, 2, 6, 5]


@given(WORDS, st.sampled_from(Purpose), st.lists(WORDS, max_size=4))
def test_s2_scalar_keys_follow_the_definition(seed, purpose, indices):
    mixed = mix(seed, purpose, *indices)
    assert mixed.dtype == np.uint64 and mixed.shape == ()
    assert int(mixed) == chained(seed, purpose, *indices)


@given(WORDS, WORDS, st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, min_size=1, max_size=5))
def test_s2_arrays_broadcast_and_equal_the_scalars(seed, middle, rows, columns):
    row_words = np.array(rows, dtype=np.uint64)[:, None]
    mixed = mix(seed, Purpose.FOLD, row_words, middle, np.array(columns, dtype=np.uint64))
    wanted = [[chained(seed, Purpose.FOLD, row, middle, column) for column in columns] for row in rows]
    assert mixed.dtype == np.uint64 and mixed.tolist() == wanted


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_s2_signed_words_are_read_as_twos_complement(words):
    mixed = mix(1, Purpose.SIMHASH, np.array(words, dtype=np.int64))
    assert mixed.tolist() == [int(mix(1, Purpose.SIMHASH, word)) for word in words]


def test_s2_arguments_are_not_changed():
    words = np.arange(5, dtype=np.uint64)
    mix(3, Purpose.INSERTION, words)
    draw(words, 3)
    assert words.tolist() == [0, 1, 2, 3, 4]


def test_s2_keys_that_differ_in_the_last_word_are_distinct():
    assert len(np.unique(mix(0, Purpose.SAMPLE_ORDER, 7, np.arange(200_000)))) == 200_000


def test_s2_every_word_and_its_place_matter():
    keys = [mix(1, Purpose.FOLD, 2, 3), mix(1, Purpose.FOLD, 3, 2), mix(2, Purpose.FOLD, 1, 3), mix(1, Purpose.FOLD, 2),
            mix(1, Purpose.SIMHASH, 2, 3), mix(1, Purpose.FOLD, 2, 3, 0)]  # fmt: skip
    assert len({int(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("bit", [0, 31, 63])
def test_s2_flipping_an_input_bit_flips_half_of_the_output_bits(bit):
    trials = 2000
    words = mix(5, Purpose.EVALUATION, np.arange(trials))
    changed = mix(0, Purpose.FOLD, words) ^ mix(0, Purpose.FOLD, words ^ np.uint64(1 << bit))
    flipped = np.unpackbits(changed.view(np.uint8)).reshape(trials, 64)
    assert np.abs(flipped.mean(axis=0) - 0.5).max() < hoeffding(trials, comparisons=2 * 64)


def hoeffding(trials, comparisons, chance=1e-9):
    """A mean of `trials` draws in [0, 1] misses its expectation by more with less than this chance (union bound)."""
    return math.sqrt(math.log(comparisons / chance) / (2 * trials))


@given(WORDS, st.integers(1, 2**32 - 1))
def test_s3_draw_is_the_upper_half_scaled(key, n):
    drawn = draw(np.array([key], dtype=np.uint64), n)
    assert drawn.dtype == np.int64 and drawn.tolist() == [((key >> 32) * n) >> 32]
    assert 0 <= drawn[0] < n


def test_s3_draw_reaches_both_ends():
    ends = np.array([0, 2**64 - 1], dtype=np.uint64)
    for n in (1, 2, 3, 670_091, 2**32 - 1):
        assert draw(ends, n).tolist() == [0, n - 1]


def test_s3_draw_of_one_key_and_of_none():
    assert draw(mix(0, Purpose.PAD_BATCH, 1), 10) == draw(mix(0, Purpose.PAD_BATCH, np.array([1])), 10)[0]
    assert draw(mix(0, Purpose.PAD_BATCH, np.arange(0)), 10).shape == (0,)


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_s3_draw_is_uniform(n):
    trials = 200_000
    shares = np.bincount(draw(mix(0, Purpose.PAD_SAMPLE, 3, np.arange(trials)), n), minlength=n) / trials
    assert np.abs(shares - 1 / n).max() < hoeffding(trials, comparisons=2 * n)


@given(st.integers(0, 2**63 - 1), st.integers(0, 50))
def test_s3_permutation_holds_every_number_once_in_key_order(seed, n):
    order = permutation(seed, Purpose.INSERTION, 1, 2, n=n)
    assert order.dtype == np.int64 and sorted(order.tolist()) == list(range(n))
    assert np.all(np.diff(mix(seed, Purpose.INSERTION, 1, 2, order).astype(object)) > 0)


def test_s3_permutations_of_different_keys_differ_and_places_are_uniform():
    n, trials = 8, 4000
    firsts = [permutation(0, Purpose.TABLE_ORDER, i, n=n)[0] for i in range(trials)]
    shares = np.bincount(firsts, minlength=n) / trials
    assert np.abs(shares - 1 / n).max() < hoeffding(trials, comparisons=2 * n)


def test_s2_text_word_is_the_digest_little_endian():
    assert text_word("abc") == int.from_bytes(bytes.fromhex("d8bb14d833d59559"), "little")
    assert text_word("json/decoder.py") != text_word("json\\decoder.py")
