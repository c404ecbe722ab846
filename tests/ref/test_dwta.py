"""S20: densified winner takes all, by hand and by its collision probability."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from bounds import hoeffding

from slide_ref.common.hash_constants import TRIES, DwtaConstants, dwta_constants, wta_constants
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.rng import Purpose, mix, permutation
from slide_ref.hashing.dwta import EMPTY, densify, dwta_codes
from slide_ref.hashing.wta import wta_codes

BINS = np.array([[0, 1, 2], [3, 4, 5], [2, 3, 1], [5, 4, 0]], dtype=np.int32)
DETOURS = np.array([[0, 1, 2], [3, 2, 0], [1, 0, 3], [3, 3, 3]], dtype=np.int32)
ONE_TABLE = LshConfig("dwta", K=4, base=3, L=1)


def codes_by_hand(vector):
    code = int(dwta_codes(np.array([vector]), DwtaConstants(BINS, DETOURS), ONE_TABLE)[0, 0])
    return [code >> shift & 3 for shift in (6, 4, 2, 0)]


def test_s20_zeros_do_not_take_part():
    assert codes_by_hand([0, -3.0, -2, 0, 0, -1]) == [2, 2, 0, 0]
    assert codes_by_hand([-0.0, 0, -7, -9, 0, 0]) == [2, 0, 0, 0]  # bin 3 finds only itself


def test_s20_of_equal_values_the_first_place_wins():
    assert codes_by_hand([0, 1.0, 1, 1, 0, 0]) == [1, 0, 0, 0]


def test_s20_an_empty_bin_takes_the_digit_of_the_first_on_its_detour_that_is_not():
    # coordinates 1 and 2 fill bins 0 and 2 with places 1 and 0, or 2 and 2; bin 1 tries 3, then 2
    assert codes_by_hand([0, 2.0, 1, 0, 0, 0]) == [1, 2, 2, 0]
    # coordinate 5 fills bins 1 and 3 with places 2 and 0; bin 0 tries itself, then 1; bin 2 tries 1
    assert codes_by_hand([0, 0, 0, 0, 0, 3.0]) == [2, 2, 2, 0]


def test_s20_digits_that_were_borrowed_are_not_lent():
    digits = np.array([EMPTY, EMPTY, 2])
    assert densify(digits, np.array([[1, 2], [2, 0], [0, 0]])).tolist() == [2, 2, 2]
    assert densify(digits, np.array([[1, 1], [2, 0], [0, 0]])).tolist() == [0, 2, 2]
    assert digits.tolist() == [EMPTY, EMPTY, 2]


def test_s20_a_vector_of_zeros_has_digits_zero():
    assert codes_by_hand([0.0] * 6) == [0, 0, 0, 0]


def test_s20_vectors_without_zeros_are_hashed_as_by_wta():
    lsh, vectors = LshConfig("dwta", K=3, base=4, L=5), np.random.default_rng(0).standard_normal((10, 9))
    constants = dwta_constants(lsh, 1, 1, 9)
    assert np.array_equal(dwta_codes(vectors, constants, lsh), wta_codes(vectors, constants.bins, lsh))


def test_s20_constants_follow_their_keys():
    lsh = LshConfig("dwta", K=3, base=4, L=2)
    bins, detours = dwta_constants(lsh, 7, 2, 9)
    assert bins.dtype == detours.dtype == np.int32 and detours.shape == (6, TRIES) == (6, 100)
    assert bins[3].tolist() == permutation(7, Purpose.DWTA, 2, 1, n=9)[4:8].tolist()
    assert bins.shape == wta_constants(lsh, 7, 2, 9).shape
    assert detours[4, :3].tolist() == [int(mix(7, Purpose.DENSIFY, 2, 4, attempt)) % 6 for attempt in (1, 2, 3)]


def test_s20_constants_have_vectors_that_no_release_changes():
    bins, detours = dwta_constants(LshConfig("dwta", K=2, base=3, L=2), 0, 1, 7)
    assert bins.tolist() == [[6, 3, 0], [5, 2, 1], [1, 5, 0], [6, 3, 2]]
    assert detours[:, :5].tolist() == [[3, 1, 0, 3, 2], [2, 1, 2, 3, 1], [2, 3, 2, 2, 0], [1, 0, 1, 1, 3]]


def digit_of(vector, coordinates):
    """From the definition: the first place of the largest value among those that are not zero."""
    values = [(value, -place) for place, value in enumerate(vector[list(coordinates)]) if value]
    return -max(values)[1] if values else EMPTY


def share_of_equal_digits(first, second, size):
    """By brute force over all bins, all as likely.

    Where one vector's bin is empty and the other's is not, the digit of another bin meets this one's; where both are
    empty, both go on to the same bin, as if from the beginning.
    """
    bins = list(permutations(range(len(first)), size))
    pairs = Counter((digit_of(first, b), digit_of(second, b)) for b in bins)
    chance = {pair: count / len(bins) for pair, count in pairs.items()}
    alone = [Counter(), Counter()]
    for pair, p in chance.items():
        for side in (0, 1):
            alone[side][pair[side]] += p
    equal = 0.0
    for (a, b), p in chance.items():
        if a == EMPTY and b != EMPTY:
            equal += p * alone[0][b] / (1 - alone[0][EMPTY])
        elif b == EMPTY and a != EMPTY:
            equal += p * alone[1][a] / (1 - alone[1][EMPTY])
        elif a == b != EMPTY:
            equal += p
    return equal / (1 - chance.get((EMPTY, EMPTY), 0.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [((1, -2, 0, 4, 5), (1, 2, 0, 5, -4)), ((0, 0, 3, 4, 5), (0, -2, -1, 0, -5)), ((1, 1, 0, 0, 2), (1, 2, 3, 0, 0))],
)
def test_s20_two_vectors_without_empty_bins_share_a_digit_as_often_as_all_bins_say(first, second):
    """At most two of five coordinates are zero, and bins have three."""
    trials, vectors = 20_000, np.array([first, second])
    lsh = LshConfig("dwta", K=1, base=3, L=trials)
    codes = dwta_codes(vectors, DwtaConstants(wta_constants(lsh, 0, 1, 5), np.zeros((trials, 0))), lsh)
    expected = share_of_equal_digits(*vectors, 3)
    assert 0 < expected < 1 and abs(np.mean(codes[0] == codes[1]) - expected) < hoeffding(trials)


@pytest.mark.slow
def test_s20_two_vectors_with_empty_bins_share_a_digit_as_often_as_all_bins_say():
    """Constants are fresh in each trial; a trial is the share of equal digits among 16 bins that lend to each other.

    Every permutation of five coordinates gives one bin of three. All 16 bins of a vector are empty with a chance below
    1e-6, far below the bound.
    """
    vectors = np.array([[3, 0, 0, 0, 0], [5, 2, 0, 0, 0], [0, 1, 0, 2, 0], [0, 0, 1, 4, 3]])
    lsh, trials = LshConfig("dwta", K=1, base=3, L=16), 2_000
    same = np.zeros((4, 4))
    for seed in range(trials):
        codes = dwta_codes(vectors, dwta_constants(lsh, seed, 1, 5), lsh)
        same += (codes[:, None] == codes).mean(axis=2)
    for i, j in ((0, 0), (0, 1), (0, 2), (1, 2), (1, 3), (2, 3)):
        expected = share_of_equal_digits(vectors[i], vectors[j], 3)
        assert abs(same[i, j] / trials - expected) < hoeffding(trials, chance=1e-6)
