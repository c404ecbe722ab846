"""S5: both sides give a vector the same codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import dyadic_arrays, generators, real_arrays

import slide_fast.hashing.simhash as fast
import slide_ref.hashing.simhash as ref
from slide_fast.verify.comparison import within_rounding_of_zero
from slide_ref.common.lsh_config import LshConfig

BITS = st.one_of(st.sampled_from([1, 23, 24, 25, 63, 64]), st.integers(1, 64))


@st.composite
def problems(draw, values):
    n, d, K, L = draw(st.integers(0, 8)), draw(st.integers(1, 20)), draw(BITS), draw(st.integers(0, 3))
    constants = draw(generators()).integers(-1, 2, (L * K, d)).astype(np.int8)
    return draw(values(n, d)), constants, LshConfig(K=K, L=L)


@given(problems(dyadic_arrays))
def test_s5_codes_of_dyadic_vectors_are_equal(problem):
    vectors, constants, lsh = problem
    expected = ref.simhash_codes(vectors, constants, lsh)
    for given_constants in (constants, constants.astype(np.float32)):
        codes = fast.simhash_codes(vectors, given_constants, lsh)
        assert codes.dtype == expected.dtype == np.uint64
        assert codes.shape == expected.shape and np.array_equal(codes, expected)


@given(problems(real_arrays))
def test_s5_codes_of_real_vectors_differ_only_within_rounding_of_zero(problem):
    vectors, constants, lsh = problem
    differing = fast.simhash_codes(vectors, constants, lsh) ^ ref.simhash_codes(vectors, constants, lsh)
    bits = (differing[:, :, None] >> np.arange(lsh.K - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
    undecided = within_rounding_of_zero(vectors, constants).reshape(len(vectors), lsh.L, lsh.K)
    assert not np.any(bits.astype(bool) & ~undecided)


@pytest.mark.parametrize("K", range(1, 65))
def test_s5_every_code_length_packs_every_bit_in_its_place(K):
    vectors = np.concatenate([np.eye(K), 1 - np.eye(K), np.zeros((1, K)), np.ones((1, K))]).astype(np.float32)
    constants = np.eye(K, dtype=np.int8)
    expected = ref.simhash_codes(vectors, constants, LshConfig(K=K, L=1))
    assert expected[:K, 0].tolist() == [1 << (K - 1 - i) for i in range(K)]
    assert np.array_equal(fast.simhash_codes(vectors, constants, LshConfig(K=K, L=1)), expected)


def test_s5_rounding_decides_only_where_terms_cancel():
    vectors = np.array([[1, -1, 0], [0, 0, 0], [1e-30, 0, 0], [1, 2**-30, -1]], dtype=np.float32)
    constants = np.array([[1, 1, 1], [1, 0, 0]], dtype=np.int8)
    assert within_rounding_of_zero(vectors, constants).tolist() == [
        [True, False], [False, False], [False, False], [True, False]
    ]  # fmt: skip
