"""S21: densified one permutation hashing, by hand and by its collision probability."""

import numpy as np
import pytest
from bounds import hoeffding

from slide_ref.common.hash_constants import TRIES, DophConstants, doph_constants
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.rng import Purpose, mix
from slide_ref.hashing.doph import doph_codes, top_coordinates

BINS = np.array([0, 2, 0, 2, 2, 3], dtype=np.int32)
HASHES = np.array([50, 11, 42, 2**63, 9, 7], dtype=np.uint64)
DETOURS = np.array([[2, 3], [0, 2], [3, 1], [1, 0]], dtype=np.int32)


def digits_by_hand(vector, top, base=4):
    lsh = LshConfig("doph", K=1, base=base, top=top, L=4)
    return doph_codes(np.array([vector]), DophConstants(BINS, HASHES, DETOURS), lsh)[0].tolist()


@pytest.mark.parametrize(
    ("vector", "top", "expected"),
    [
        ([3, 1, 2], 2, [0, 2]),
        ([1, 2, 2, 2, 5], 3, [4, 1, 2]),
        ([-3, -1, 0, -2], 2, [1, 3]),
        ([0, 0, -1, 0], 3, [2]),
        ([0, -0.0, 0], 1, []),
        ([1, 2], 9, [1, 0]),
    ],
)
def test_s21_the_largest_of_the_values_that_are_not_zero(vector, top, expected):
    assert top_coordinates(np.array(vector, dtype=np.float32), top).tolist() == expected


def test_s21_digits_worked_by_hand():
    # coordinates 0, 1, 2 and 4: bin 0 has hashes 50 and 42, bin 2 has 11 and 9; bin 1 goes to 0, bin 3 to 1, then 0
    assert digits_by_hand([4, 3, 2, 0, 1, 0], top=4) == [42 % 4, 42 % 4, 9 % 4, 42 % 4]
    # without 2 and 4: bin 0 has 50, bin 2 has 11
    assert digits_by_hand([4, 3, 2, 0, 1, 0], top=2) == [50 % 4, 50 % 4, 11 % 4, 50 % 4]
    assert digits_by_hand([4, 3, 2, 0, 1, 0], top=2, base=7) == [50 % 7, 50 % 7, 11 % 7, 50 % 7]


def test_s21_detours_that_end_give_digit_zero():
    # only bin 3 is filled: 0 finds it at its second try, 2 at once, 1 not at all
    assert digits_by_hand([0, 0, 0, 0, 0, 1], top=1) == [3, 0, 3, 3]


def test_s21_a_vector_of_zeros_has_digits_zero():
    assert digits_by_hand([0.0] * 6, top=3) == [0, 0, 0, 0]


def test_s21_digits_of_a_base_that_is_no_power_of_two_are_packed_in_whole_bits():
    lsh = LshConfig("doph", K=4, base=5, top=6, L=1)
    codes = doph_codes(np.ones((1, 6)), DophConstants(BINS, HASHES, DETOURS), lsh)
    assert lsh.code_bits == 12 and codes.tolist() == [[int("2242", 8)]]  # 42, bin 0 again, 9 and 7, modulo 5


def test_s21_constants_follow_their_keys():
    bins, hashes, detours = doph_constants(LshConfig("doph", K=3, L=2), 7, 2, 9)
    assert (bins.dtype, hashes.dtype, detours.dtype) == (np.int32, np.uint64, np.int32)
    assert bins.tolist() == [int(mix(7, Purpose.DOPH, 2, 0, c)) % 6 for c in range(9)]
    assert hashes.tolist() == [int(mix(7, Purpose.DOPH, 2, 1, c)) for c in range(9)]
    assert detours.shape == (6, TRIES) and detours[5, 99] == int(mix(7, Purpose.DENSIFY, 2, 5, 100)) % 6


def test_s21_constants_have_vectors_that_no_release_changes():
    bins, hashes, _ = doph_constants(LshConfig("doph", K=2, base=3, L=2), 0, 1, 4)
    assert bins.tolist() == [2, 2, 1, 2]
    assert hashes.tolist() == [0x94DB6C9A39F11FC9, 0xEAD4F27718B9EA6A, 0xFEDBFE3436CE7302, 0xE96D32A249BEE747]


def test_s21_no_tables_no_codes():
    lsh = LshConfig("doph", L=0)
    assert doph_codes(np.ones((2, 5)), doph_constants(lsh, 0, 1, 5), lsh).shape == (2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("base", [2, 5, 256])
def test_s21_two_vectors_share_a_digit_with_probability_j_and_one_minus_j_over_base(base):
    """J is the Jaccard similarity of their sets of coordinates; constants are fresh in each trial.

    A trial is the share of equal digits among eight bins; detours through eight bins practically never end.
    """
    sets = [{0, 1, 2, 3}, {0, 1, 2, 4}, {2, 3, 5, 6}, {4, 5, 6, 7}]
    vectors = np.array([[1.0 + c if c in own else -1.0 for c in range(12)] for own in sets])
    lsh, trials = LshConfig("doph", K=1, base=base, top=4, L=8), 2_000
    same = np.zeros((4, 4))
    for seed in range(trials):
        codes = doph_codes(vectors, doph_constants(lsh, seed, 1, 12), lsh)
        same += (codes[:, None] == codes).mean(axis=2)
    for i, j in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (2, 3)):
        J = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        assert abs(same[i, j] / trials - (J + (1 - J) / base)) < hoeffding(trials, chance=1e-6)
