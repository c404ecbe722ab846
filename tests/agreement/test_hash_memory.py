"""Hashing many neurons takes little memory besides weights and addresses."""

import tracemalloc

import numpy as np
import pytest

from slide_fast.hash_tables import array_shapes, hash_rows
from slide_fast.hashing import hash_constants
from slide_ref.common.lsh_config import LshConfig

MOST = 64 * 2**20


def peak_of_hashing(W, lsh):
    """Bytes that `hash_rows` holds at most, besides its arguments."""
    addresses = np.empty(*array_shapes(lsh, len(W), W.shape[1])["addresses"])
    constants = hash_constants(lsh, 0, 1, W.shape[1])
    tracemalloc.start()
    try:
        hash_rows(W, constants, lsh, 0, 1, addresses)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 1])
@pytest.mark.parametrize("family", ["simhash", "wta", "dwta", "doph"])
def test_memory_does_not_depend_on_the_number_of_neurons(family, share):
    lsh, rng = LshConfig(family, K=8, base=8, L=50), np.random.default_rng(0)
    W = rng.standard_normal((16_384, 128), dtype=np.float32) * (rng.random((16_384, 128)) < share)
    few, many = (peak_of_hashing(W[:n], lsh) for n in (8_192, 16_384))
    assert few < MOST and many < 1.02 * few


@pytest.mark.slow
def test_the_setting_of_the_paper_for_670091_labels():
    W = np.random.default_rng(0).standard_normal((670_091, 128), dtype=np.float32)
    assert peak_of_hashing(W, LshConfig("dwta", K=8, base=8, L=50)) < MOST
