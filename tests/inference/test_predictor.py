"""A model and its index, as the command line and the estimator use them."""

import dataclasses

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.inference import predictor as module
from slide_fast.inference.predictor import Predictor, indexed_by, with_index
from slide_fast.prediction import FEW, predict_topk, predict_topk_index
from slide_fast.training import fit
from slide_ref.common import index as index_module
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.index import samples_for_index
from slide_ref.common.metrics import recall_at
from slide_ref.common.sparse_rows import SparseRows

K, RECALL = 3, 0.8


@pytest.fixture(scope="module")
def samples():
    return random_dataset(0, n_samples=400, n_labels=300)


@pytest.fixture(scope="module")
def model(samples):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "SMALLEST_BUCKET", 200)
        plain = fit(Config(hidden=(4,), epochs=1), samples, n_workers=1)
        return with_index(plain, samples_for_index(0, samples.features), 2)


@pytest.fixture(params=[1, 2])
def predictor(model, request):
    return Predictor(model, request.param)


def test_s28_the_promised_recall_is_had(samples, predictor):
    answers, exact = (predictor.topk(samples.features, K, recall) for recall in (RECALL, None))
    assert recall_at(answers.ids, exact.ids, K) >= RECALL and predictor.recall_measured(K, RECALL) >= RECALL
    assert answers.n_candidates == predictor.size(K, RECALL) < exact.n_candidates == 300


def test_s28_where_the_index_does_not_reach_the_recall_answers_are_exact(samples, predictor):
    answers, exact = (predictor.topk(samples.features, K, recall) for recall in (1.0, None))
    assert predictor.size(K, 1.0) is None and np.array_equal(answers.ids, exact.ids)
    assert answers.n_candidates == 300 and predictor.recall_measured(K, 1.0) == 1


def test_s28_few_rows_are_answered_as_many_are(samples, predictor):
    together = predictor.topk(samples.features, K, RECALL)
    for row in range(20):
        alone = predictor.topk(samples.features.take(np.array([row])), K, RECALL)
        assert np.allclose(alone.scores[0], together.scores[row], rtol=1e-5)
        assert alone.ids[0].tolist() == together.ids[row].tolist()


def test_a_model_without_an_index_is_given_one_of_samples_that_are_enough(samples, model, monkeypatch):
    plain = fit(Config(hidden=(4,), epochs=1), samples, n_workers=1)
    monkeypatch.setattr(module, "FEWEST", 100)
    assert indexed_by(plain, samples.features.take(np.arange(99))) is plain
    assert Predictor(plain).size(K, RECALL) is None and Predictor(plain).recall_measured(K, RECALL) == 1
    index = indexed_by(plain, samples.features.take(np.arange(100))).index
    assert index is not None and len(index.places) == 25


@pytest.mark.parametrize("recall", [RECALL, None])
def test_blocks_are_topk_in_parts(samples, predictor, monkeypatch, recall):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 25)
    whole, parts = predictor.topk(samples.features, K, recall), [*predictor.blocks(samples.features, K, recall)]
    assert [done for done, _ in parts] == [*range(100 * predictor.n_threads, 401, 100 * predictor.n_threads)]
    assert np.array_equal(np.concatenate([answers.ids for _, answers in parts]), whole.ids)
    assert np.allclose(np.concatenate([answers.scores for _, answers in parts]), whole.scores, rtol=1e-5)
    assert all(answers.n_candidates == whole.n_candidates for _, answers in parts)


@pytest.mark.parametrize("recall", [None, RECALL])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_row_whose_scores_overflow_is_named_by_its_number_among_all(model, monkeypatch, n_threads, recall):
    """NumPy's warnings, which are errors in tests, come from no thread."""
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 25)
    large = dataclasses.replace(model, arrays={name: 1e4 * np.abs(array) for name, array in model.arrays.items()})
    values = np.ones(400, dtype=np.float32)
    values[321] = 3e38
    features, predictor = (
        SparseRows(np.arange(401), np.zeros(400, np.int32), values, model.n_features),
        Predictor(large, n_threads),
    )
    with pytest.raises(DataError, match="row 321: the values are too large"):
        list(predictor.blocks(features, K, recall))
    with pytest.raises(DataError, match="row 0: the values are too large"):
        predictor.topk(features.take(np.array([321])), K, recall, with_totals=True)


@pytest.mark.parametrize("recall", [None, RECALL])
@pytest.mark.parametrize("n_samples", [2, 400])
def test_probabilities_are_the_softmax_over_the_labels_looked_at(samples, predictor, recall, n_samples):
    features = samples.features.take(np.arange(n_samples))
    answers = predictor.topk(features, K, recall, with_totals=True)
    if recall is None:
        everything = predict_topk(predictor.layers, features, 300)[1]
    else:
        size = predictor.size(K, recall)
        everything = predict_topk_index(predictor.layers, features, size, predictor.model.index, size)[1]
    weights = np.exp(everything.astype(np.float64))
    wanted = (weights / weights.sum(axis=1, keepdims=True))[:, :K]
    np.testing.assert_allclose(answers.probabilities, wanted, rtol=1e-5)
    plain = predictor.topk(features, K, recall)
    assert plain.totals is None and plain.ids.tolist() == answers.ids.tolist()
    assert plain.scores.tobytes() == answers.scores.tobytes()


@pytest.mark.parametrize(("n_threads", "n_limits"), [(None, 0), (2, 0), (1, 1)])
def test_few_rows_are_left_to_the_threads_of_blas_unless_one_is_asked_for(
    samples, model, monkeypatch, n_threads, n_limits
):
    limits = []

    class Limit:
        def __enter__(self):
            limits.append(1)

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr("slide_fast.prediction.ONE_BLAS_THREAD", Limit())
    Predictor(model, n_threads).topk(samples.features.take(np.arange(FEW)), K)
    assert len(limits) == n_limits


@pytest.mark.parametrize("recall", [RECALL, None])
@pytest.mark.parametrize("n_rows", [1, FEW])
def test_few_rows_start_no_threads_and_count_no_cpus(samples, model, monkeypatch, n_rows, recall):
    asked = []
    for counts in ("slide_fast.parallel.threads.available_cpus", "slide_fast.inference.predictor.available_cpus"):
        monkeypatch.setattr(counts, lambda: asked.append("CPUs") or 2)
    monkeypatch.setattr("slide_fast.parallel.threads.ThreadPoolExecutor", lambda n: asked.append("threads"))
    Predictor(model).topk(samples.features.take(np.arange(n_rows)), K, recall)
    assert asked == []


def test_s28_sizes_are_those_of_each_k_and_recall(model):
    predictor = Predictor(model, 1)
    for k, recall in ((1, 0.5), (5, 0.5), (5, 0.8), (1, 0.8), (1, 0.5)):
        assert predictor.size(k, recall) == index_module.size_for(model.index, k, recall, 300)


def test_a_recall_out_of_range_is_refused_without_an_index_too(samples, model):
    with pytest.raises(ConfigError, match="recall is 95; it must be above 0 and at most 1"):
        Predictor(dataclasses.replace(model, index=None)).topk(samples.features, K, recall=95)
