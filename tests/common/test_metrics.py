"""S16: the measures against loops that follow their definitions, and against scikit-learn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_ref.common.errors import DataError
from slide_ref.common.metrics import (
    by_frequency,
    evaluate,
    inverse_propensity,
    ndcg_at,
    precision_at,
    psp_at,
    recall_at,
)
from slide_ref.common.sparse_rows import SparseRows, rows_from_lists

N_LABELS = 7


@st.composite
def cases(draw):
    """Predictions (some missing, some ids the labels do not know), true labels, propensities and k."""
    width = draw(st.integers(0, 6))
    label = st.integers(0, N_LABELS - 1)
    truths = draw(st.lists(st.lists(label, unique=True), min_size=1, max_size=6))
    ids = np.full((len(truths), width), -1, dtype=np.int32)
    for row in ids:
        predicted = draw(st.permutations(range(N_LABELS + 2)))[:width]
        row[:] = np.where(draw(st.lists(st.booleans(), min_size=width, max_size=width)), predicted, -1)
    weights = np.array(draw(st.lists(st.floats(1, 100), min_size=N_LABELS + 2, max_size=N_LABELS + 2)))
    return ids, truths, weights, draw(st.integers(1, 7))


def loops(ids, truths, weights, k):
    """P@k, nDCG@k and PSP@k as they are defined, sample by sample."""
    hits = gains = psp = best_psp = 0.0
    for predicted, truth in zip(ids.tolist(), truths, strict=True):
        found = [(rank, i) for rank, i in enumerate(predicted[:k], start=1) if i in truth]
        hits += len(found) / k
        if truth:
            best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(truth)) + 1))
            gains += sum(1 / math.log2(rank + 1) for rank, _ in found) / best
        psp += sum(weights[i] for _, i in found)
        best_psp += sum(sorted((weights[i] for i in truth), reverse=True)[:k])
    return hits / len(ids), gains / len(ids), psp / best_psp if best_psp else 0.0


@given(cases())
def test_s16_measures_follow_their_definitions(case):
    ids, truths, weights, k = case
    labels = rows_from_lists(truths, N_LABELS)
    found = precision_at(ids, labels, k), ndcg_at(ids, labels, k), psp_at(ids, labels, k, weights)
    assert np.allclose(found, loops(ids, truths, weights, k), rtol=1e-12, atol=0)
    assert all(type(value) is float and 0 <= value <= 1 + 1e-12 for value in found)


@given(cases())
def test_s16_order_of_samples_does_not_matter(case):
    ids, truths, weights, k = case
    labels, turned = rows_from_lists(truths, N_LABELS), rows_from_lists(truths[::-1], N_LABELS)
    assert precision_at(ids, labels, k) == precision_at(ids[::-1], turned, k)
    assert np.isclose(ndcg_at(ids, labels, k), ndcg_at(ids[::-1], turned, k), rtol=1e-12, atol=0)
    assert np.isclose(psp_at(ids, labels, k, weights), psp_at(ids[::-1], turned, k, weights), rtol=1e-12, atol=0)


def test_s16_known_figures():
    labels = rows_from_lists([[0, 1], [2], []], 4)
    ids = np.array([[0, 3, 1], [0, 2, -1], [0, 1, 2]])
    figures = evaluate(ids, labels, np.array([1.0, 2.0, 4.0, 8.0]))
    half = 1 / math.log2(3)
    assert figures["n_samples"] == 3 and figures["n_unlabelled"] == 1
    assert figures["precision_at_1"] == pytest.approx(1 / 3)
    assert figures["precision_at_3"] == pytest.approx(3 / 9)
    assert figures["precision_at_5"] == pytest.approx(3 / 15)
    assert figures["ndcg_at_3"] == pytest.approx(((1 + 1 / 2) / (1 + half) + half) / 3)
    assert figures["psp_at_1"] == pytest.approx(1 / (2 + 4))
    assert figures["psp_at_3"] == pytest.approx((1 + 2 + 4) / (1 + 2 + 4))


def test_s16_perfect_predictions_score_one_and_missing_ones_nothing():
    labels = rows_from_lists([[4, 0, 1, 2, 3], [0, 1, 2, 3, 4]], 5)
    weights = np.array([1.0, 3.0, 2.0, 5.0, 4.0])
    heaviest_first = np.tile(np.argsort(-weights), (2, 1))
    perfect, none = evaluate(heaviest_first, labels, weights), evaluate(heaviest_first * 0 - 1, labels, weights)
    measures = perfect.keys() - {"n_samples", "n_unlabelled"}
    assert len(measures) == 9
    assert all(perfect[name] == pytest.approx(1, abs=1e-15) and none[name] == 0 for name in measures)


def test_s16_ids_that_the_labels_do_not_know_are_misses():
    """A model may know more labels than a test file; its ids must not run into the next row."""
    labels = rows_from_lists([[0], [0], [1]], 2)
    assert precision_at(np.array([[2], [3], [2]]), labels, 1) == 0
    assert precision_at(np.array([[-1], [-1], [-2]]), labels, 1) == 0


def test_s16_evaluate_gives_plain_json_and_psp_only_with_propensities():
    figures = evaluate(np.array([[0]]), rows_from_lists([[0]], 1))
    names = {f"{measure}_at_{k}" for measure in ("precision", "ndcg") for k in (1, 3, 5)}
    assert figures.keys() == names | {"n_samples", "n_unlabelled"}
    assert json.loads(json.dumps(figures)) == figures


def test_s16_labels_with_no_entry_at_all():
    figures = evaluate(np.array([[0, 1], [1, 0]]), rows_from_lists([[], []], 2), np.ones(2))
    assert figures.pop("n_samples") == 2 and figures.pop("n_unlabelled") == 2
    assert set(figures.values()) == {0.0}


def test_s16_what_cannot_be_compared_is_refused():
    labels = rows_from_lists([[0], [1]], 2)
    with pytest.raises(DataError, match="3 samples .* 2 rows"):
        precision_at(np.zeros((3, 1), dtype=np.int32), labels, 1)
    with pytest.raises(DataError, match="0 samples"):
        evaluate(np.zeros((0, 5), dtype=np.int32), rows_from_lists([], 2))
    with pytest.raises(DataError, match="2 labels but only 1 propensities"):
        psp_at(np.zeros((2, 1), dtype=np.int32), labels, 1, np.ones(1))


def test_s28_recall_is_the_share_of_exact_answers_that_are_found():
    best = np.array([[4, 2, 7], [1, 0, -1], [5, 6, 8]])
    assert recall_at(best, best, 3) == 1 and recall_at(best[:, ::-1], best, 3) == 1
    others = np.array([[7, 9, 4], [0, -1, -1], [-1, -1, -1]])
    assert recall_at(others, best, 3) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert recall_at(others, best, 1) == 0


def test_s16_inverse_propensity_is_that_of_jain_et_al():
    n_samples, counts = 1000, np.array([0, 1, 10, 1000])
    C = (math.log(n_samples) - 1) * (1.5 + 1) ** 0.55
    wanted = [1 + C * math.exp(-0.55 * math.log(count + 1.5)) for count in counts]
    assert np.allclose(inverse_propensity(counts, n_samples), wanted, rtol=1e-14, atol=0)
    assert np.all(np.diff(inverse_propensity(counts, n_samples, A=0.6, B=2.6)) < 0)
    assert inverse_propensity(counts, 1).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_s16_ndcg_equals_scikit_learn(k):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(k)
    truth = generator.random((40, 12)) < 0.25
    truth[:3] = False
    scores = generator.standard_normal(truth.shape)
    labels = rows_from_lists([np.flatnonzero(row).tolist() for row in truth], 12)
    wanted = sklearn_metrics.ndcg_score(truth, scores, k=k)
    assert np.isclose(ndcg_at(np.argsort(-scores), labels, k), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_s16_keys_do_not_overflow(dtype):
    n_samples, n_labels = 5000, 2**31 - 1
    top = np.full((n_samples, 1), n_labels - 1, dtype=dtype)
    labels = SparseRows(np.arange(n_samples + 1), top[:, 0].astype(np.int32), None, n_labels)
    assert precision_at(top, labels, 1) == 1
    assert precision_at(top - 1, labels, 1) == 0


def test_s16_hits_by_frequency():
    """Counts 6, 3, 3, 2, 2, 1, 1, 0: the head is label 7, the torso 0 and 2, the tail all others."""
    counts = np.array([3, 1, 3, 2, 0, 2, 1, 6])
    ids = np.array([[7, 0, 1, 2, 3, 4], [4, 2, 7, -1, -1, -1], [5, 6, 0, 1, 3, 2]])
    labels = rows_from_lists([[1, 4, 7], [7], [2, 5, 6]], 8)
    found = by_frequency(ids, labels, counts)
    assert [(g["group"], g["n_labels"], g["n_true"], g["hits"]) for g in found] == [
        ("head", 1, 2, 2), ("torso", 2, 1, 0), ("tail", 5, 4, 3),
    ]  # fmt: skip
    assert [g["recall_at_5"] for g in found] == [1, 0, 0.75]


@given(cases(), st.lists(st.integers(0, 9), min_size=N_LABELS, max_size=N_LABELS))
def test_s16_groups_by_frequency_share_all_labels_and_hits(case, counts):
    ids, truths, _, _ = case
    labels = rows_from_lists(truths, N_LABELS)
    found = by_frequency(ids, labels, np.array(counts))
    assert sum(g["n_labels"] for g in found) == N_LABELS and sum(g["n_true"] for g in found) == labels.nnz
    assert sum(g["hits"] for g in found) == round(5 * len(ids) * precision_at(ids, labels, 5))
    groups = [g["n_labels"] for g in found]
    assert all(size >= 0 for size in groups) and (not sum(counts) or groups[0] >= 1)
    with pytest.raises(DataError, match="only 6 counts"):
        by_frequency(ids, labels, np.array(counts[:6]))
