"""S10, S13, S27 and S32: both sides give a step the same samples, the same rate and the same way to choose neurons."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from problems import datasets, some_weights

import slide_fast.micro_batches as fast
import slide_ref.micro_batches as ref
from slide_ref.common.config import Config
from slide_ref.schedule import sample_order


@given(
    datasets(), st.integers(1, 7), st.integers(1, 20), st.integers(0, 3), st.sampled_from(["constant", "linear"]),
    st.booleans(),
)  # fmt: skip
def test_s13_s27_s32_micro_batches_are_equal(train, micro_batch, step, epoch, decay, weighted):
    weights = some_weights(train.n_samples) if weighted else None
    config, order = Config(micro_batch=micro_batch, decay=decay), sample_order(0, epoch, train.n_samples)
    ours, theirs = (side.micro_batch(config, train, order, epoch, step, weights) for side in (fast, ref))
    assert ours._fields == theirs._fields
    assert ours._replace(weights=None)[2:] == theirs._replace(weights=None)[2:]
    own = None if weights is None else weights[theirs.samples].tolist()
    assert [side.weights if side.weights is None else side.weights.tolist() for side in (ours, theirs)] == [own, own]
    assert weights is None or (ours.weights > 0).all()
    assert ours.samples.dtype == theirs.samples.dtype and ours.samples.tolist() == theirs.samples.tolist()
    for mine, other in zip(ours.data, theirs.data, strict=True):
        assert np.array_equal(mine.indptr, other.indptr) and np.array_equal(mine.indices, other.indices)
        assert mine.data is other.data is None or np.array_equal(mine.data, other.data)
