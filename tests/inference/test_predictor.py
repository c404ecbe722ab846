"""A model and its indexes, as the command line and the estimator use them."""

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.inference import predictor as predictor_module
from slide_fast.inference.predictor import Predictor
from slide_fast.training import fit
from slide_ref.common.config import Config


@pytest.fixture(scope="module")
def samples():
    return random_dataset(0, n_samples=60)


@pytest.fixture
def predictor(samples):
    return Predictor(fit(Config(hidden=(4,), epochs=1), samples, n_workers=1), 1)


def test_an_index_is_built_once_for_each_k_and_recall(samples, predictor):
    indexes = [predictor.index(samples.features, *wanted) for wanted in ((2, 0.5), (2, 0.5), (3, 0.5), (2, 0.9))]
    assert indexes[0] is indexes[1] and len(set(map(id, indexes))) == 3


@pytest.mark.parametrize("through_index", [False, True])
def test_blocks_are_topk_in_parts(samples, predictor, monkeypatch, through_index):
    monkeypatch.setattr(predictor_module, "ROWS_AT_ONCE", 5)
    index = predictor.index(samples.features, 3) if through_index else None
    whole, parts = predictor.topk(samples.features, 3, index), [*predictor.blocks(samples.features, 3, index)]
    assert [done for done, _ in parts] == [20, 40, 60]
    assert np.array_equal(np.concatenate([answers.ids for _, answers in parts]), whole.ids)
    assert np.array_equal(np.concatenate([answers.scores for _, answers in parts]), whole.scores)
    assert sum(answers.n_candidates for _, answers in parts) == whole.n_candidates
