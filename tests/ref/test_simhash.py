"""S5: SimHash, by hand and by its defining property."""

import math

import numpy as np
import pytest
from bounds import hoeffding

from slide_ref.common.hash_constants import simhash_constants
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.rng import Purpose, mix
from slide_ref.hashing import addresses_of, fold, hash_constants
from slide_ref.hashing.simhash import simhash_codes

PROJECTIONS = np.array([[1, 0, -1], [0, 1, 1], [-1, 0, 0], [0, 0, 1]], dtype=np.int8)


def test_s5_codes_worked_by_hand():
    vectors = np.array([[2, 1, 1], [1, 1, 1], [-1, 0, 2]], dtype=np.float32)
    # projections: (1, 2, -2, 1), (0, 2, -1, 1), (-3, 2, 1, 2)
    codes = simhash_codes(vectors, PROJECTIONS, LshConfig(K=2, L=2))
    assert codes.tolist() == [[0b11, 0b01], [0b01, 0b01], [0b01, 0b11]]
    assert simhash_codes(vectors, PROJECTIONS, LshConfig(K=4, L=1)).tolist() == [[0b1101], [0b0101], [0b0111]]


def test_s5_projection_of_zero_gives_bit_zero():
    codes = simhash_codes(np.zeros((1, 3)), PROJECTIONS, LshConfig(K=2, L=2))
    assert codes.dtype == np.uint64 and codes.tolist() == [[0, 0]]


def test_s5_code_of_64_bits_has_the_first_bit_on_top():
    constants = np.zeros((64, 1), dtype=np.int8)
    constants[[0, 63]] = 1
    assert simhash_codes(np.ones((1, 1)), constants, LshConfig(K=64, L=1)).tolist() == [[2**63 + 1]]


def test_s5_length_of_a_vector_does_not_matter_and_its_opposite_has_opposite_bits():
    vectors = np.random.default_rng(0).standard_normal((20, 9))
    constants, lsh = simhash_constants(LshConfig(K=5, L=4), 3, 1, 9), LshConfig(K=5, L=3)
    constants = constants[np.abs(constants).sum(axis=1) > 0][:15]  # a projection on nothing has no opposite
    codes = simhash_codes(vectors, constants, lsh)
    assert np.array_equal(simhash_codes(7 * vectors, constants, lsh), codes)
    assert np.array_equal(simhash_codes(-vectors, constants, lsh), 31 - codes)


@pytest.mark.parametrize("angle", [0.1, 1.0, math.pi / 2, 3.0])
def test_s5_two_vectors_share_a_bit_with_probability_one_minus_angle_over_pi(angle):
    n_inputs, trials = 256, 20_000
    first, other = np.linalg.qr(np.random.default_rng(1).standard_normal((n_inputs, 2)))[0].T
    second = math.cos(angle) * first + math.sin(angle) * other
    lsh = LshConfig(K=1, L=trials)
    codes = simhash_codes(np.array([first, second]), simhash_constants(lsh, 0, 1, n_inputs), lsh)
    assert abs(np.mean(codes[0] == codes[1]) - (1 - angle / math.pi)) < hoeffding(trials)


def test_s5_two_thirds_of_a_projection_are_zero_and_signs_are_even():
    constants = simhash_constants(LshConfig(K=10, L=40), 5, 2, 500)
    assert constants.dtype == np.int8 and constants.shape == (400, 500)
    for value, share in ((-1, 1 / 6), (0, 2 / 3), (1, 1 / 6)):
        assert abs(np.mean(constants == value) - share) < hoeffding(constants.size)


def test_s5_constants_have_vectors_that_no_release_changes():
    assert simhash_constants(LshConfig(K=2, L=1), 0, 1, 6).tolist() == [[1, 0, 0, 0, -1, 0], [0, 0, 0, 0, 0, 1]]


def test_s5_one_more_table_leaves_the_others_as_they_are():
    few, many = (simhash_constants(LshConfig(K=6, L=L), 9, 1, 30) for L in (2, 3))
    assert np.array_equal(many[:12], few)


def test_s4_short_codes_are_addresses():
    codes = np.array([[0, 5], [7, 2]], dtype=np.uint64)
    assert fold(codes, LshConfig(K=3, L=2), seed=1, layer=1).tolist() == [[0, 5], [7, 2]]


def test_s4_long_codes_are_folded_by_the_mixer_table_by_table():
    lsh = LshConfig(K=64, L=2, bucket_bits=5)
    codes = np.array([[2**64 - 1, 2**64 - 1]], dtype=np.uint64)
    expected = [[int(mix(7, Purpose.FOLD, 1, table, 2**64 - 1)) >> 59 for table in range(2)]]
    assert fold(codes, lsh, seed=7, layer=1).tolist() == expected


def test_s4_default_addresses_have_16_bits_at_most():
    assert LshConfig(K=9).address_bits == 9
    assert LshConfig(K=64).address_bits == 16
    codes = np.arange(1000, dtype=np.uint64)[:, None]
    addresses = fold(codes, LshConfig(K=20, L=1), seed=0, layer=1)
    assert addresses.dtype == np.int64 and addresses.min() >= 0 and 2**15 < addresses.max() < 2**16


def test_s4_addresses_are_folded_codes():
    lsh = LshConfig(K=5, L=3, bucket_bits=2)
    vectors = np.random.default_rng(2).standard_normal((10, 8))
    constants = hash_constants(lsh, 4, 1, 8)
    assert np.array_equal(constants, simhash_constants(lsh, 4, 1, 8))
    codes = simhash_codes(vectors, constants, lsh)
    assert np.array_equal(addresses_of(vectors, constants, lsh, 4, 1), fold(codes, lsh, 4, 1))
