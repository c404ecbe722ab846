"""S19: both sides give a vector the same codes, whatever its values: they are compared, not computed with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import assert_same, generators, hash_problems

import slide_fast.hashing.wta as fast
import slide_ref.hashing.wta as ref
from slide_ref.common.hash_constants import wta_constants
from slide_ref.common.lsh_config import LshConfig


@given(hash_problems("wta"))
def test_s19_codes_are_equal(problem):
    vectors, lsh, seed = problem
    constants = wta_constants(lsh, seed, 1, vectors.shape[1])
    assert_same(*(side.wta_codes(vectors, constants, lsh) for side in (fast, ref)))


@pytest.mark.parametrize("values_at_once", [1, 7, 40])
def test_s19_codes_of_bins_in_parts_are_equal(monkeypatch, values_at_once):
    monkeypatch.setattr(fast, "VALUES_AT_ONCE", values_at_once)
    lsh = LshConfig("wta", K=3, base=4, L=5)
    vectors = np.random.default_rng(0).integers(-3, 4, (6, 11)).astype(np.float32)
    constants = wta_constants(lsh, 0, 1, 11)
    assert_same(*(side.wta_codes(vectors, constants, lsh) for side in (fast, ref)))


@given(st.data(), generators())
def test_s4_packed_digits_are_equal(data, rng):
    _, lsh, _ = data.draw(hash_problems("doph"))
    n = data.draw(st.integers(0, 5))
    digits = rng.integers(0, lsh.base, (lsh.L * lsh.K, n)).astype(np.int16)
    digits[:, :1] = lsh.base - 1
    theirs = np.array([ref.pack(own, lsh) for own in digits.T], dtype=np.uint64).reshape(n, lsh.L)
    assert_same(fast.pack(digits, lsh), theirs)
