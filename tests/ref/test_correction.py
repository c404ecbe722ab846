"""S30: how probable it was that a neuron became active, and what the corrected softmax estimates."""

import numpy as np
import pytest

from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.priors import label_priors
from slide_ref.common.rng import Key
from slide_ref.common.sparse_rows import rows_from_lists
from slide_ref.correction import inclusion
from slide_ref.network import Activation, corrected
from slide_ref.sampling import active_sets


def test_s30_probabilities_in_scope_batch():
    """Of 10 neurons: 1 retrieved, 2 and 3 labels, 7 and 8 drawn from the 7 others; 3 samples."""
    active = [np.array([1, 2, 3, 7, 8])] * 3
    retrieved = [np.array([1]), np.array([], dtype=int), np.array([1])]
    labels = [np.array([2]), np.array([2, 3]), np.array([3])]
    priors = np.zeros(10)
    priors[[2, 3, 8]] = 0.5, 0.25, 0.125
    first, second, _ = inclusion(active, retrieved, labels, "batch", priors)
    left = 1 - 2 / 7
    of_3, of_8 = 1 - left * 0.75**2, 1 - left * 0.875**2
    assert first.tolist() == pytest.approx([1, 1, of_3, 2 / 7, of_8])
    assert second.tolist() == pytest.approx([1, 1, 1, 2 / 7, of_8])


def test_s30_probabilities_in_scope_sample():
    active, retrieved = [np.array([0, 2, 4]), np.array([1, 3])], [np.array([4]), np.array([1])]
    labels = [np.array([2]), np.array([3])]
    first, second = inclusion(active, retrieved, labels, "sample", np.full(6, 0.5))
    assert first.tolist() == [1 / 4, 1, 1] and second.tolist() == [1, 1]


def test_s30_a_set_of_all_neurons_is_certain():
    everyone = np.arange(4)
    for scope in ("batch", "sample"):
        found = inclusion([everyone] * 2, [everyone[:0]] * 2, [np.array([1]), np.array([2])], scope, np.zeros(4))
        assert [row.tolist() for row in found] == [[1.0] * 4] * 2


def test_s30_only_labelled_rows_count():
    assert label_priors(rows_from_lists([[0, 2], [], [2]], 4)).tolist() == [0.5, 0, 1, 0]
    assert label_priors(rows_from_lists([[], []], 2)).tolist() == [0, 0]


def test_s30_the_corrected_softmax_estimates_that_over_all_neurons():
    """Over many draws of the padding, the sum of exp(corrected logits) is on average that over all neurons."""
    n, size, n_draws = 40, 10, 400
    logits = np.random.default_rng(0).normal(size=n)
    label, none = [np.array([3])], [np.array([], dtype=np.int64)]
    sums = []
    for step in range(n_draws):
        lsh = LshConfig(L=0, min_active=size)
        sets = active_sets(none, label, lsh, "batch", n, Key(0, 1, 0, step), np.array([0]))
        probabilities = inclusion(sets, none, label, "batch", np.full(n, 1 / n))[0]
        values = corrected(Activation(sets[0], logits[sets[0]]), probabilities).values
        sums.append(np.exp(values).sum())
    error = np.std(sums) / np.sqrt(n_draws)
    assert abs(np.mean(sums) - np.exp(logits).sum()) < 4 * error
