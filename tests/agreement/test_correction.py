"""S30: both sides say alike how probable it was that a neuron became active."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from problems import STEPS, found_by_the_reference, label_rows, queries

import slide_fast.correction as fast
import slide_fast.verify.lockstep as verify
import slide_ref.correction as ref
from slide_fast import sampling
from slide_fast.kernels.scratch import Scratch
from slide_ref.common.priors import label_priors
from slide_ref.common.rng import Key

SCRATCH = Scratch()  # shared by all examples, so that it holds what others left


@given(queries(), st.data(), st.sampled_from(["batch", "sample"]), STEPS)
def test_s30_probabilities_are_equal(problem, data, scope, step):
    lsh, tables, addresses, seed, epoch, samples = problem
    n = tables.ids.shape[1]
    labels = data.draw(label_rows(len(samples), n, min_size=1))
    priors = data.draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    priors = np.maximum(np.array(priors) / 8, label_priors(labels) / 16)  # these are some rows of many
    assert_equal_probabilities(problem, labels, priors, scope, step)


def assert_equal_probabilities(problem, labels, priors, scope, step):
    lsh, tables, addresses, seed, epoch, samples = problem
    found = sampling.retrieve(tables, addresses, lsh, Key(seed, 1, epoch), samples)
    own = sampling.active_sets(SCRATCH, found, labels, lsh, scope, len(priors), Key(seed, 1, epoch, step), samples)
    ours = own._replace(inclusion=fast.inclusion(SCRATCH, own, found, labels, priors))
    retrieved, sets = found_by_the_reference(*problem), verify.one_by_one(own, len(samples))
    theirs = ref.inclusion(sets, retrieved, [labels.row(i)[0] for i in range(labels.n_rows)], scope, priors)
    verify.check_inclusion(verify.Report(), ours, theirs, labels)
    assert ours.inclusion.dtype == np.float64
    assert not SCRATCH.clean("marked", len(priors), np.bool_).any()
