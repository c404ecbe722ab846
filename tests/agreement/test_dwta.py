"""S20: both sides give a vector the same codes, and fill empty bins alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import assert_same, generators, hash_problems

import slide_fast.hashing.dwta as fast
import slide_ref.hashing.dwta as ref
from slide_ref.common.hash_constants import dwta_constants
from slide_ref.common.lsh_config import LshConfig


@given(hash_problems("dwta"))
def test_s20_codes_are_equal(problem):
    vectors, lsh, seed = problem
    constants = dwta_constants(lsh, seed, 1, vectors.shape[1])
    assert_same(*(side.dwta_codes(vectors, constants, lsh) for side in (fast, ref)))


@given(st.integers(0, 9), st.integers(1, 40), st.integers(0, 100), st.sampled_from([0, 0.02, 0.2, 0.8]), generators())
def test_s20_empty_bins_are_filled_alike(n, n_bins, n_tries, share, rng):
    """Digits up to the largest, detours that run out, vectors without any digit."""
    digits = rng.choice(np.array([0, 1, 255], dtype=np.int16), (n_bins, n))
    digits[rng.random((n_bins, n)) >= share] = -1
    detours = rng.integers(0, n_bins, (n_bins, n_tries), dtype=np.int32)
    before, filled = digits.copy(), fast.densify(digits, detours)
    expected = [ref.densify(own, detours) for own in digits.T]
    assert filled.dtype == digits.dtype and np.array_equal(filled, np.reshape(expected, (n, n_bins)).T)
    assert np.array_equal(digits, before)


@pytest.mark.parametrize("n", [1, 200])
def test_s20_a_long_detour_is_followed_to_its_end(n):
    """Among many vectors one empty bin is looked up alone, among few in whole rows; both stop at the last try."""
    digits = np.full((3, n), 5, dtype=np.int16)
    digits[:2, 0] = -1
    detours = np.ones((3, 100), dtype=np.int32)
    detours[0, 99] = 2
    assert fast.densify(digits, detours)[:, 0].tolist() == ref.densify(digits[:, 0], detours).tolist() == [5, 0, 5]


def test_s20_a_micro_batch_with_a_vector_of_zeros():
    lsh = LshConfig("dwta", K=2, base=4, L=3)
    vectors = np.zeros((3, 9), dtype=np.float32)
    vectors[0, 4], vectors[2] = -1, np.arange(9)
    constants = dwta_constants(lsh, 0, 1, 9)
    codes = fast.dwta_codes(vectors, constants, lsh)
    assert_same(codes, ref.dwta_codes(vectors, constants, lsh))
    assert codes[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("share", [0.2, 0.8, 1])
def test_s20_codes_in_the_setting_of_the_paper_are_equal(share):
    """K = 8, bins of 8, L = 50; vectors with some, most and all of 128 values non-zero."""
    lsh, rng = LshConfig("dwta", K=8, base=8, L=50), np.random.default_rng(0)
    vectors = rng.standard_normal((30, 128), dtype=np.float32) * (rng.random((30, 128)) < share)
    constants = dwta_constants(lsh, 0, 1, 128)
    assert_same(*(side.dwta_codes(vectors, constants, lsh) for side in (fast, ref)))
