"""S15 and S28: both sides rank labels alike."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import assert_same, dyadic_arrays, feature_rows, indexes, layers, real_arrays

import slide_fast.prediction as fast
import slide_ref.prediction as ref
from slide_fast.inference.probabilities import logits_of, probabilities_of
from slide_fast.verify.lockstep import Report, as_dtype, check_answers, check_floats, without_signs
from slide_ref.common.config import Config
from slide_ref.common.index import Index, Preview
from slide_ref.common.parameters import Layer, array_shapes, layers_of
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.network import forward

RANKS = st.sampled_from([1, 2, 3, 5, 12])
GROUP, BLOCK = 4, 12
BORDERS = sorted({n for edge in (GROUP, BLOCK, 2 * BLOCK) for n in (edge - 1, edge, edge + 1)} | {1, 40})


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Blocks so small that a few labels and rows fill several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "LABELS_OF_FEW_AT_ONCE", 2 * BLOCK)
        patch.setattr(fast, "CACHED", 5)
        patch.setattr(fast, "LABELS_AT_ONCE", BLOCK)
        patch.setattr(fast, "ROWS_AT_ONCE", 3)
        patch.setattr(fast, "GROUPED_AT_ONCE", 6)
        patch.setattr(fast, "FEW", 2)
        patch.setattr(fast, "NARROW", 1)
        patch.setattr(fast, "MEMBERS", 3)
        for side in (fast, ref):
            patch.setattr(side, "n_previewed", lambda k: k + 1)
        yield


@st.composite
def problems(draw, values, hidden=((1,), (3,), (5, 4))):
    config, n_features = Config(hidden=draw(st.sampled_from(hidden))), draw(st.integers(1, 10))
    parameters = draw(layers(config, n_features, draw(st.sampled_from(BORDERS)), values))
    return parameters, draw(feature_rows(draw(st.integers(0, 7)), n_features, values)), draw(RANKS)


def one_unit_network(logits):
    """A sample whose only feature is x >= 0 has these logits, times x."""
    arrays = array_shapes(Config(hidden=(1,)), 1, len(logits))
    arrays = {name: np.zeros(shape, dtype=np.float32) for name, shape in arrays.items()}
    arrays["W0"][:] = 1
    arrays["W1"][:, 0] = logits
    return layers_of(arrays)


def rows_of(*xs):
    n = len(xs)
    return SparseRows(np.arange(n + 1), np.zeros(n, dtype=np.int32), np.array(xs, dtype=np.float32), 1)


def assert_equal_answers(parameters, features, k):
    (ids, scores), (ref_ids, ref_scores) = (side.predict_topk(parameters, features, k) for side in (fast, ref))
    assert ids.dtype == ref_ids.dtype == np.int32 and scores.dtype == ref_scores.dtype == np.float32
    assert np.array_equal(ids, ref_ids)
    assert np.array_equal(scores, ref_scores)


@given(problems(dyadic_arrays, hidden=((1,), (3,))))
def test_s15_answers_of_dyadic_networks_are_equal(problem):
    assert_equal_answers(*problem)


@pytest.mark.parametrize("n_labels", BORDERS)
@pytest.mark.parametrize("k", [1, 2, 5, 12, 50])
def test_s15_ties_go_to_the_lower_id_around_the_borders_of_blocks(n_labels, k):
    xs = rows_of(1, 0.5, 2)
    rng = np.random.default_rng(n_labels)
    assert_equal_answers(one_unit_network(np.zeros(n_labels)), xs, k)
    assert_equal_answers(one_unit_network(np.full(n_labels, -1.5)), xs, k)
    assert_equal_answers(one_unit_network(np.arange(n_labels)), xs, k)
    assert_equal_answers(one_unit_network(-np.arange(n_labels)), xs, k)
    for _ in range(5):
        assert_equal_answers(one_unit_network(rng.integers(-1, 2, n_labels)), xs, k)


@pytest.mark.parametrize("place", [0, GROUP - 1, GROUP, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, 39])
@pytest.mark.parametrize("sign", [1, -1])
def test_s15_the_best_label_is_found_wherever_it_stands(place, sign):
    logits = np.full(40, sign)
    logits[place] += 1
    ids, _ = fast.predict_topk(one_unit_network(logits), rows_of(1), 1)
    assert ids.tolist() == [[place]]
    assert_equal_answers(one_unit_network(logits), rows_of(1), 3)


def test_s15_weights_of_negative_zero_tie_with_zero():
    assert_equal_answers(one_unit_network([-0.0, 0.0, -0.0, 0.0]), rows_of(1), 4)


def test_s15_large_and_small_scores_keep_their_order():
    assert_equal_answers(one_unit_network([1e-30, -1e30, 3e38, -1e-30, 0, -3e38, 1e30]), rows_of(1), 7)


def logits_on_both_sides(parameters, features, candidates=None):
    """Logits of the reference in float32, in float64 and without signs, of all neurons or of candidates."""

    def choose(l, inputs):
        if candidates is not None and l == len(parameters) - 1:
            return candidates
        return [np.arange(len(parameters[l].b))] * len(inputs)

    sides = ((parameters, features), (as_dtype(parameters, np.float64), features), without_signs(parameters, features))
    return [forward(*side, choose)[-1] for side in sides]


@given(problems(real_arrays))
def test_s15_answers_of_real_networks_agree_except_where_scores_tie_within_rounding(problem):
    parameters, features, k = problem
    check_answers(
        Report(), "x", *fast.predict_topk(parameters, features, k), *logits_on_both_sides(parameters, features)
    )


@settings(max_examples=30)
@given(problems(real_arrays))
def test_s15_a_batch_is_answered_as_its_rows_are_one_by_one(problem):
    parameters, features, k = problem
    logits = logits_on_both_sides(parameters, features)
    for i in range(features.n_rows):
        answers = fast.predict_topk(parameters, features.take(np.array([i])), k)
        check_answers(Report(), "x", *answers, *(side[i : i + 1] for side in logits))


@given(problems(dyadic_arrays, hidden=((1,), (3,))), st.integers(1, 3))
def test_s15_answers_depend_neither_on_the_batch_nor_on_threads(problem, n_threads):
    parameters, features, k = problem
    ids, scores = fast.predict_topk(parameters, features, k, n_threads)
    for i in range(features.n_rows):
        alone = fast.predict_topk(parameters, features.take(np.array([i])), k)
        assert np.array_equal(ids[i], alone[0][0]) and np.array_equal(scores[i], alone[1][0])


@st.composite
def index_problems(draw, values, hidden=((1,), (3,))):
    """Parameters, features, k, an index and how much of a bucket is looked at."""
    parameters, features, k = draw(problems(values, hidden))
    index = draw(indexes(*parameters[-1].W.shape))
    return parameters, features, k, index, draw(st.integers(1, index.buckets.shape[1]))


@given(index_problems(dyadic_arrays))
def test_s28_answers_of_dyadic_networks_are_equal(problem):
    ours, theirs = (side.predict_topk_index(*problem) for side in (fast, ref))
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other)


@given(index_problems(dyadic_arrays))
def test_s28_candidates_are_equal(problem):
    parameters, features, k, index, size = problem
    rows = np.random.default_rng(features.nnz).integers(-32, 33, (4, parameters[-1].W.shape[1])) / 16
    for row, found in zip(rows, fast.candidates(index, rows.astype(np.float32), size, k), strict=True):
        assert_same(found, ref.candidates(index, row.astype(np.float32), size, k))
    assert fast.candidates(index, rows[:0].astype(np.float32), size, k) == []


def test_s28_what_a_row_sees_is_its_own_also_among_rows_of_its_cell():
    rng = np.random.default_rng(0)
    logits, xs = rng.integers(-32, 33, 30) / 16, rows_of(*range(1, 7))
    reduced, levels = (rng.integers(-n, n + 1, shape).astype(np.float32) for n, shape in ((2, (30, 1)), (9, (1, 30))))
    preview = Preview(np.ones((1, 1), np.float32), reduced, levels)
    index = Index(
        np.zeros((1, 1), np.float32), np.arange(30, dtype=np.int32)[None], np.zeros((0, 0), np.int32), preview
    )
    ours, theirs = (side.predict_topk_index(one_unit_network(logits), xs, 2, index, 30) for side in (fast, ref))
    assert np.array_equal(ours[0], theirs[0]) and len(np.unique(ours[0], axis=0)) > 1


@settings(max_examples=30)
@given(index_problems(dyadic_arrays), st.integers(1, 3))
def test_s28_answers_depend_neither_on_the_batch_nor_on_threads(problem, n_threads):
    parameters, features, k, index, size = problem
    together = fast.predict_topk_index(*problem, n_threads)
    for i in range(features.n_rows):
        alone = fast.predict_topk_index(parameters, features.take(np.array([i])), k, index, size)
        assert all(np.array_equal(mine[i], other[0]) for mine, other in zip(together, alone, strict=True))


@given(index_problems(real_arrays))
def test_s28_answers_of_real_networks_are_the_best_of_their_candidates(problem):
    parameters, features, k, index, size = problem
    inputs = fast.all_hidden_outputs(parameters, features)
    found = fast.candidates(index._replace(preview=None), inputs, size, k)
    answers = fast.predict_topk_index(parameters, features, k, index._replace(preview=None), size)
    check_answers(Report(), "x", *answers, *logits_on_both_sides(parameters, features, found))


@settings(max_examples=30)
@given(problems(real_arrays))
def test_s28_buckets_of_all_labels_give_the_exact_answers(problem):
    parameters, features, k = problem
    n_labels, n_inputs = parameters[-1].W.shape
    centroids, places = np.zeros((1, n_inputs), dtype=np.float32), np.zeros((0, 0), dtype=np.int32)
    index = Index(centroids, np.arange(n_labels, dtype=np.int32)[None, ::-1].copy(), places)
    answers = fast.predict_topk_index(parameters, features, k, index, n_labels)
    check_answers(Report(), "x", *answers, *logits_on_both_sides(parameters, features))


@given(problems(dyadic_arrays, hidden=((1,), (3,), (5, 4))))
def test_s28_hidden_outputs_are_equal(problem):
    parameters, features, _ = problem
    ours, theirs = fast.all_hidden_outputs(parameters, features, 2), ref.hidden_outputs(parameters, features)
    if len(parameters) == 2:
        assert_same(ours, theirs)
    sides = (as_dtype(parameters, np.float64), features), without_signs(parameters, features)
    exact, size = (ref.hidden_outputs(*side) for side in sides)
    n_terms = int(np.diff(features.indptr).max(initial=0)) + sum(layer.W.shape[1] for layer in parameters[1:-1])
    check_floats(Report(), "hidden outputs", ours, theirs, exact, size, n_terms)


def test_s15_the_best_of_a_block_of_labels_do_not_keep_the_block_alive():
    keys = np.arange(60, dtype=np.uint64).reshape(3, 20)
    best = fast._largest(keys, 2)
    assert np.sort(best).tolist() == [[18, 19], [38, 39], [58, 59]] and best.base is None


def in_float16(parameters):
    """Layers with weights in float16, and layers with the same weights in float32."""
    half = [Layer(layer.W.astype(np.float16), layer.b) for layer in parameters]
    return half, [Layer(layer.W.astype(np.float32), layer.b) for layer in half]


@given(index_problems(real_arrays))
def test_weights_in_float16_answer_as_the_same_weights_in_float32(problem):
    parameters, features, k, index, size = problem
    half, full = in_float16(parameters)
    labels = np.arange(len(half[-1].b))[::-1]
    for ask in (
        lambda layers: fast.predict_topk(layers, features, k),
        lambda layers: fast.predict_topk_index(layers, features, k, index, size),
        lambda layers: (fast.all_hidden_outputs(layers, features), logits_of(layers, features, labels)),
        lambda layers: (probabilities_of(layers, features, labels),),
    ):
        for mine, other in zip(ask(half), ask(full), strict=True):
            assert_same(mine, other)


@pytest.mark.parametrize("n_rows", [1, 20])
def test_weights_in_float16_are_never_all_turned_into_float32(monkeypatch, n_rows):
    monkeypatch.setattr(fast, "LABELS_AT_ONCE", 256)
    monkeypatch.setattr(fast, "CACHED", 2**14)
    monkeypatch.setattr(fast, "LABELS_OF_FEW_AT_ONCE", 2**18)
    rng, n_labels, n_inputs = np.random.default_rng(0), 20_000, 64
    half = [Layer(rng.standard_normal(shape).astype(np.float16), np.zeros(n, np.float32))
            for shape, n in (((n_labels, n_inputs), n_inputs), ((n_labels, n_inputs), n_labels))]  # fmt: skip
    features = SparseRows(np.arange(n_rows + 1), np.arange(n_rows, dtype=np.int32), None, n_labels)
    tracemalloc.start()
    fast.predict_topk(half, features, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_labels * n_inputs  # of four times as many bytes
