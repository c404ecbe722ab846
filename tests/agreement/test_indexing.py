"""S28: both sides make the same index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import assert_same, feature_rows, indexes, layers, random_dataset, real_arrays

import slide_fast.indexing as fast
import slide_fast.prediction
import slide_ref.indexing as ref
import slide_ref.prediction
from slide_fast.verify.centroids import check_strongest
from slide_fast.verify.comparison import Report, check_floats
from slide_ref.common.config import Config
from slide_ref.common.index import IndexSamples, samples_for_index
from slide_ref.common.parameters import array_shapes, layers_of


@pytest.fixture(scope="module", autouse=True)
def small():
    """Few rows and labels are many, and a network of few neurons is wide."""
    with pytest.MonkeyPatch.context() as patch:
        for side in (fast, ref):
            patch.setattr(side, "has_preview", lambda n_labels, n_inputs: n_inputs >= 4)
            patch.setattr(side, "N_CENTROIDS", 3)
            patch.setattr(side, "DEEP_ROWS", 2)
            patch.setattr(side, "DEEP_MEASURED", 5)
            patch.setattr(side, "MEASURED", 2)
        for module in (slide_fast.prediction, slide_ref.prediction, fast, ref):
            patch.setattr(module, "n_previewed", lambda k: k + 1)
        patch.setattr(fast, "LABELS_AT_ONCE", 3)
        patch.setattr(fast, "CELLS_AT_ONCE", 2)
        patch.setattr(fast, "WEIGHTS_AT_ONCE", 40)
        yield


@given(st.integers(1, 5).flatmap(lambda d: st.tuples(real_arrays(20, d), real_arrays(9, d))))
def test_s28_spreads_agree(arrays):
    W, deviations = arrays
    second_moment = deviations.T @ deviations / np.float32(len(deviations))
    exact = W.astype(np.float64), second_moment.astype(np.float64)
    ours, theirs, in_float64 = fast.spreads(W, second_moment), ref.spreads(W, second_moment), ref.spreads(*exact)
    size = np.sqrt((np.abs(exact[0]) ** 2).sum(axis=1) * np.abs(exact[1]).sum()) + 1
    check_floats(Report(), "spreads", ours, theirs, in_float64, size * len(second_moment))
    assert (ours >= 0).all()


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(1, 3))
def test_s28_indexes_of_real_networks_agree(seed, n_threads):
    data = random_dataset(seed, n_samples=30)
    shapes, rng = array_shapes(Config(hidden=(8,)), 30, 60), np.random.default_rng(seed)
    parameters = layers_of({name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()})
    samples = samples_for_index(seed, data.features)
    ours, theirs = fast.build_index(parameters, samples, n_threads), ref.build_index(parameters, samples)
    assert np.allclose(ours.centroids, theirs.centroids, rtol=2.0**-18, atol=2.0**-18)
    output, inputs = parameters[-1], slide_ref.prediction.hidden_outputs(parameters, samples.clustered)
    cells = ref.nearest(inputs, ours.centroids, 1)[:, 0]
    second_moment = (inputs - ours.centroids[cells]).T @ (inputs - ours.centroids[cells]) / np.float32(len(inputs))
    upper = output.b + np.float32(3) * ref.spreads(output.W, second_moment)
    expected = ref.strongest(ours.centroids, output.W, upper, 60)
    check_strongest(Report(), ours.buckets, expected, ours.centroids, output.W, upper)
    assert ours.preview is not None and theirs.preview is not None
    again = ref.preview_of(output, ours.centroids, ours.buckets, second_moment)
    signs = np.sign((ours.preview.directions * again.directions).sum(axis=0))  # an eigenvector has no sign of its own
    wanted = again.directions * signs, again.reduced * signs, again.levels
    for mine, other in zip(ours.preview, wanted, strict=True):
        assert mine.dtype == other.dtype == np.float32 and mine.shape == other.shape
        assert np.allclose(mine, other, rtol=1e-3, atol=1e-3)
    places, limits = fast.places_of_best(parameters, samples.kept_aside, ours, 1)
    assert_same(ours.places, places)
    assert_same(ours.limits, limits)
    assert theirs.limits.shape == theirs.places.shape == ours.places.shape and (ours.places[2:, 2:] == -1).all()


@given(st.data())
def test_s28_places_of_the_best_labels_are_equal(data):
    parameters = data.draw(layers(Config(hidden=(3,)), 5, data.draw(st.integers(1, 20))))
    features, index = data.draw(feature_rows(7, 5)), data.draw(indexes(*parameters[-1].W.shape))
    ours, theirs = (side.places_of_best(parameters, features, index) for side in (fast, ref))
    assert_same(ours[0], theirs[0])
    assert (ours[1] is None) == (theirs[1] is None) == (index.preview is None)
    if ours[1] is not None:
        assert_same(ours[1], theirs[1])


@given(st.data())
def test_s28_a_narrow_layer_has_no_preview(data):
    config = Config(hidden=(3,))
    parameters = data.draw(layers(config, 4, 6, real_arrays))
    samples = IndexSamples(*(data.draw(feature_rows(n, 4, real_arrays)) for n in (5, 2)))
    ours, theirs = (side.build_index(parameters, samples) for side in (fast, ref))
    assert ours.preview is None and theirs.preview is None


def test_s28_the_preview_of_a_wide_layer_depends_on_its_labels(monkeypatch):
    asked, samples = [], samples_for_index(0, random_dataset(0, n_samples=30).features)
    shapes = array_shapes(Config(hidden=(8,)), 30, 6)
    parameters = layers_of({name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    for side in (fast, ref):
        monkeypatch.setattr(side, "has_preview", lambda *sizes: asked.append(sizes) or False)
        assert side.build_index(parameters, samples).preview is None
    assert asked == [(6, 8)] * 2
