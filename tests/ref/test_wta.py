"""S19: winner takes all, by hand and by its collision probability."""

from itertools import permutations

import numpy as np
import pytest
from bounds import hoeffding

from slide_ref.common.hash_constants import wta_constants
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.rng import Purpose, permutation
from slide_ref.hashing import addresses_of, fold
from slide_ref.hashing.wta import pack, wta_codes

BINS = np.array([[0, 1, 2], [3, 1, 0], [2, 3, 1], [0, 2, 3]], dtype=np.int32)


def test_s19_codes_worked_by_hand():
    vectors = np.array([[4, 3, 2, 1], [-4, -3, -2, -1], [0, 5, 0, 7]], dtype=np.float32)
    # places of the largest: (0, 2, 2, 0), (2, 0, 1, 2), (1, 0, 1, 2)
    two_tables = LshConfig("wta", K=2, base=3, L=2)
    assert wta_codes(vectors, BINS, two_tables).tolist() == [[0b0010, 0b1000], [0b1000, 0b0110], [0b0100, 0b0110]]
    assert wta_codes(vectors, BINS, LshConfig("wta", K=4, base=3, L=1)).tolist() == [[0x28], [0x86], [0x46]]


def test_s19_of_equal_values_the_first_place_wins():
    vectors = np.array([[0, 0, 0, 0], [1, 2, 2, 2], [-1, -1, -2, -2], [-0.0, 0, -0.0, 0]])
    codes = wta_codes(vectors, BINS, LshConfig("wta", K=1, base=3, L=4))
    assert codes.tolist() == [[0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 2, 0], [0, 0, 0, 0]]


def test_s19_only_the_order_of_values_counts():
    lsh, vectors = LshConfig("wta", K=3, base=5, L=8), np.random.default_rng(0).standard_normal((10, 12))
    constants = wta_constants(lsh, 0, 1, 12)
    assert np.array_equal(wta_codes(np.exp(vectors) + 3, constants, lsh), wta_codes(vectors, constants, lsh))


@pytest.mark.parametrize(
    ("n_inputs", "size", "each"), [(12, 4, 3), (15, 4, 3), (4, 4, 1), (7, 4, 1), (3, 3, 1), (1, 1, 1)]
)
def test_s19_bins_are_parts_of_permutations(n_inputs, size, each):
    lsh = LshConfig("wta", K=3, base=4, L=3)
    bins = wta_constants(lsh, 5, 2, n_inputs)
    assert bins.dtype == np.int32 and bins.shape == (9, size)
    for j, coordinates in enumerate(bins.tolist()):
        order = permutation(5, Purpose.WTA, 2, j // each, n=n_inputs).tolist()
        assert coordinates == order[j % each * size : (j % each + 1) * size]


def test_s19_constants_have_vectors_that_no_release_changes():
    bins = wta_constants(LshConfig("wta", K=2, base=3, L=2), 0, 1, 7)
    assert bins.tolist() == [[0, 5, 2], [6, 3, 4], [0, 5, 3], [1, 2, 6]]


def test_s19_one_more_table_leaves_the_others_as_they_are():
    few, many = (wta_constants(LshConfig("wta", K=3, base=4, L=L), 9, 1, 30) for L in (2, 3))
    assert np.array_equal(many[:6], few)
    assert wta_constants(LshConfig("wta", L=0), 9, 1, 30).shape == (0, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [((1, 2, 3, 4, 5), (1, 2, 3, 5, 4)), ((1, 2, 3, 4, 5), (5, 1, 4, 2, 3)), ((0, 0, 3, 0, 5), (0, 2, 2, 0, 1))],
)
def test_s19_two_vectors_share_a_digit_as_often_as_bins_of_all_permutations_say(first, second):
    """Five coordinates and bins of three: every permutation gives one bin, so bins are independent."""
    trials, vectors = 20_000, np.array([first, second])
    every_bin = list(permutations(range(5), 3))
    expected = np.mean([np.argmax(vectors[0, list(b)]) == np.argmax(vectors[1, list(b)]) for b in every_bin])
    lsh = LshConfig("wta", K=1, base=3, L=trials)
    codes = wta_codes(vectors, wta_constants(lsh, 0, 1, 5), lsh)
    assert 0 < expected < 1 and abs(np.mean(codes[0] == codes[1]) - expected) < hoeffding(trials)


def test_s4_digits_are_packed_first_on_top():
    assert pack([5, 0, 7, 1], LshConfig("wta", K=2, base=8, L=2)).tolist() == [0o50, 0o71]
    assert pack([4, 4], LshConfig("wta", K=2, base=5, L=1)).tolist() == [0o44]
    full = pack([255] * 8, LshConfig("wta", K=8, base=256, L=1))
    assert full.dtype == np.uint64 and full.tolist() == [2**64 - 1]


def test_s4_addresses_of_long_codes_are_folded():
    lsh = LshConfig("wta", K=8, base=8, L=3)
    assert (lsh.code_bits, lsh.address_bits) == (24, 16)
    vectors = np.random.default_rng(0).standard_normal((20, 16))
    constants = wta_constants(lsh, 2, 1, 16)
    addresses = addresses_of(vectors, constants, lsh, 2, 1)
    assert np.array_equal(addresses, fold(wta_codes(vectors, constants, lsh), lsh, 2, 1))
    assert addresses.max() < 2**16
