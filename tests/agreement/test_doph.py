"""S21: both sides hash the same coordinates of a vector to the same codes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from problems import assert_same, hash_problems, real_arrays, sparse_arrays

import slide_fast.hashing.doph as fast
import slide_ref.hashing.doph as ref
from slide_ref.common.hash_constants import DophConstants, doph_constants
from slide_ref.common.lsh_config import LshConfig


@given(hash_problems("doph"))
def test_s21_codes_are_equal(problem):
    vectors, lsh, seed = problem
    constants = doph_constants(lsh, seed, 1, vectors.shape[1])
    assert_same(*(side.doph_codes(vectors, constants, lsh) for side in (fast, ref)))


@given(st.sampled_from([sparse_arrays, real_arrays]).flatmap(lambda values: values(5, 9)), st.integers(1, 12))
def test_s21_top_coordinates_are_equal(vectors, top):
    expected = np.zeros(vectors.shape, dtype=bool)
    for held, vector in zip(expected, vectors, strict=True):
        held[ref.top_coordinates(vector, top)] = True
    assert np.array_equal(fast.top_coordinates(vectors, top), expected)


def test_s21_hashes_are_compared_as_unsigned_numbers():
    lsh = LshConfig("doph", K=1, base=7, L=1)
    hashes = np.array([2**64 - 1, 2**63, 2**63 - 1, 3], dtype=np.uint64)
    constants = DophConstants(np.zeros(4, dtype=np.int32), hashes, np.zeros((1, 100), dtype=np.int32))
    vectors = np.triu(np.ones((4, 4), dtype=np.float32)).T
    assert_same(*(side.doph_codes(vectors, constants, lsh) for side in (fast, ref)))
    assert fast.doph_codes(vectors, constants, lsh)[:, 0].tolist() == [h % 7 for h in hashes.tolist()]
