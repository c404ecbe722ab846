"""S4: both sides give a vector the same addresses."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from problems import SEEDS, dyadic_arrays, generators, lsh_configs, sparse_arrays

import slide_fast.hashing as fast
import slide_ref.hashing as ref
from slide_fast.verify.lockstep import Report, check_constants
from slide_ref.common.lsh_config import LshConfig

LAYERS = st.integers(1, 3)


@given(lsh_configs(n=10), SEEDS, LAYERS, st.integers(1, 20))
def test_s14_constants_are_equal(lsh, seed, layer, n_inputs):
    ours, theirs = (side.hash_constants(lsh, seed, layer, n_inputs) for side in (fast, ref))
    check_constants(Report(), ours, theirs)
    assert lsh.family != "simhash" or ours.dtype == np.float32


@given(st.data(), SEEDS, LAYERS, generators())
def test_s4_folds_are_equal(data, seed, layer, rng):
    family, base, K = data.draw(
        st.sampled_from([("simhash", 8, 64), ("wta", 8, 21), ("dwta", 256, 8), ("doph", 3, 32)])
    )
    K = data.draw(st.integers(1, K))
    lsh = LshConfig(family, K, base, L=data.draw(st.integers(0, 4)), bucket_bits=data.draw(st.integers(0, 24)))
    bits = lsh.code_bits
    codes = rng.integers(0, 2**64 - 1, (6, lsh.L), dtype=np.uint64, endpoint=True) >> np.uint64(64 - bits)
    codes[:2] = np.array([[0], [2**bits - 1]], dtype=np.uint64)
    ours, theirs = (side.fold(codes, lsh, seed, layer) for side in (fast, ref))
    assert ours.dtype == theirs.dtype == np.int64
    assert np.array_equal(ours, theirs) and (ours >> lsh.address_bits == 0).all()


@given(st.data(), lsh_configs(n=10, bits=24), SEEDS, LAYERS)
def test_s4_addresses_of_dyadic_vectors_are_equal(data, lsh, seed, layer):
    vectors = data.draw(st.one_of(dyadic_arrays(5, 9), sparse_arrays(5, 9)))
    ours, theirs = (
        side.addresses_of(vectors, side.hash_constants(lsh, seed, layer, 9), lsh, seed, layer) for side in (fast, ref)
    )
    assert ours.dtype == theirs.dtype == np.int64 and ours.shape == (5, lsh.L)
    assert np.array_equal(ours, theirs)
