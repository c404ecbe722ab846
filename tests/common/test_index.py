"""S28: which samples an index is made of, and how much of a bucket a wanted recall needs."""

import numpy as np
import pytest
from problems import random_dataset

from slide_ref.common import index as module
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.index import (
    Index,
    Preview,
    bucket_size,
    has_preview,
    recall_measured,
    samples_for_index,
    size_for,
)
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.storage.index_arrays import arrays_of, checked, from_arrays

FEATURES = random_dataset(0).features


def rows_in(part):
    """Which of the features' rows these are."""
    whole = [tuple(map(tuple, map(np.ndarray.tolist, FEATURES.row(i)))) for i in range(FEATURES.n_rows)]
    return [whole.index(tuple(map(tuple, map(np.ndarray.tolist, part.row(i))))) for i in range(part.n_rows)]


def with_places(places, room=8):
    buckets = np.tile(np.arange(room, dtype=np.int32), (2, 1))
    return Index(np.zeros((2, 3), dtype=np.float32), buckets, np.array(places, dtype=np.int32))


def test_s28_a_quarter_of_the_samples_is_kept_aside_by_key():
    order = permutation(5, Purpose.INDEX, n=40)
    clustered, kept_aside = samples_for_index(5, FEATURES)
    assert kept_aside.n_rows == 10 and clustered.n_rows == 30
    for part, wanted in ((kept_aside, order[:10]), (clustered, order[10:])):
        assert [row for row in rows_in(part) if FEATURES.row(row)[0].size] == [
            row for row in wanted.tolist() if FEATURES.row(row)[0].size
        ]


def test_s28_no_more_samples_are_used_than_are_needed(monkeypatch):
    monkeypatch.setattr(module, "KEPT_ASIDE", 3)
    monkeypatch.setattr(module, "CLUSTERED", 5)
    clustered, kept_aside = samples_for_index(0, FEATURES)
    assert (clustered.n_rows, kept_aside.n_rows) == (5, 3)


def test_s28_samples_that_were_not_trained_on_are_kept_aside_where_there_are_some():
    others = FEATURES.take(np.arange(4))
    clustered, kept_aside = samples_for_index(0, FEATURES, others)
    assert clustered.n_rows == 40 and kept_aside.n_rows == 4
    assert samples_for_index(0, FEATURES, others.take(np.arange(0))).kept_aside.n_rows == 10


@pytest.mark.parametrize(
    ("n_labels", "n_inputs", "expected"), [(513, 512, True), (512, 512, False), (4, 1536, False), (9999, 511, False)]
)
def test_s28_wide_layers_of_many_labels_have_a_preview(n_labels, n_inputs, expected):
    assert has_preview(n_labels, n_inputs) == expected


def test_s28_an_index_needs_two_samples():
    assert [part.n_rows for part in samples_for_index(0, FEATURES.take(np.arange(2)))] == [1, 1]
    with pytest.raises(DataError, match="two samples or more, but there are 1"):
        samples_for_index(0, FEATURES.take(np.arange(1)))


@pytest.mark.parametrize(
    ("n_labels", "n_inputs", "expected"),
    [(1, 4, 1), (1024, 4, 1024), (5000, 4, 1024), (80_000, 511, 10_000), (80_000, 512, 40_000), (900, 512, 900)],
)
def test_s28_a_bucket_holds_an_eighth_of_the_labels_and_half_of_them_in_a_wide_layer(n_labels, n_inputs, expected):
    assert bucket_size(n_labels, n_inputs) == expected


def test_s28_the_size_is_the_least_that_finds_the_wanted_share_and_a_reserve():
    index = with_places([[0, 5, 2, 1], [3, 6, 4, 7]])
    assert size_for(index, 1, 0.5, 9) == 4  # a reserve of half a per cent needs both
    assert size_for(index, 1, 0.4, 9) == 1 and size_for(index, 1, 0.99, 9) == 4
    assert size_for(index, 2, 0.7, 9) == 6 and recall_measured(index, 2, 6, 9) == 0.75
    assert size_for(index, 4, 0.1, 9) == 4  # as many as are wanted, at least
    assert recall_measured(index, 4, 8, 9) == 1


def test_s28_where_buckets_do_not_reach_the_recall_all_labels_are_looked_at():
    index = with_places([[0, 8], [3, 2]])
    assert size_for(index, 1, 0.99, 9) == 4 and size_for(index, 2, 0.8, 9) is None
    assert size_for(index, 1, 1.0, 9) is None and size_for(index, 3, 0.1, 9) is None
    assert recall_measured(index, 2, None, 9) == 1


def test_s28_what_the_preview_leaves_out_of_so_many_neurons_is_not_found_among_them():
    index = with_places([[0, 2]])._replace(limits=np.array([[3, 8]], dtype=np.int32))
    assert size_for(index, 1, 0.99, 9) == 1 and recall_measured(index, 1, 4, 9) == 0
    assert size_for(index, 2, 0.99, 9) == 3 and recall_measured(index, 2, 4, 9) == 0.5
    never = index._replace(limits=np.array([[3, 2]], dtype=np.int32))
    assert size_for(never, 2, 0.99, 9) is None and size_for(never, 2, 0.4, 9) == 2


def test_s28_rows_whose_places_are_not_known_do_not_count():
    index = with_places([[0, 5, 7], [3, -1, -1], [1, -1, -1]])
    assert size_for(index, 1, 0.99, 9) == 4 and size_for(index, 3, 0.99, 9) == 8
    assert size_for(index, 3, 0.5, 9) == 6
    assert size_for(index, 50, 0.99, 3) == 8  # of three labels all are wanted


@pytest.mark.parametrize(("k", "recall"), [(0, 0.5), (1.5, 0.5), (1, 0), (1, 1.1), (1, float("nan")), (1, "all")])
def test_s28_k_and_recall_are_checked(k, recall):
    with pytest.raises(ConfigError):
        size_for(with_places([[0]]), k, recall, 9)


def a_preview():
    shapes = (3, 0), (8, 0), (2, 8)
    return Preview(*(np.zeros(shape, dtype=np.float32) for shape in shapes))


def test_an_index_comes_back_from_its_arrays():
    for index in (
        with_places([[0]]),
        with_places([[0]])._replace(preview=a_preview(), limits=np.array([[3]], dtype=np.int32)),
    ):
        again = from_arrays(arrays_of(index))
        assert arrays_of(again).keys() == arrays_of(index).keys() and type(again.preview) is type(index.preview)
    assert checked(with_places([[0, 8], [-1, -1]]), 3, 8) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"centroids": np.zeros((2, 4), dtype=np.float32)},
        {"centroids": np.zeros((2, 3))},
        {"centroids": np.zeros((0, 3), dtype=np.float32)},
        {"buckets": np.zeros((2, 9), dtype=np.int32)},
        {"buckets": np.full((2, 8), 8, dtype=np.int32)},
        {"buckets": np.full((2, 8), -1, dtype=np.int32)},
        {"places": np.zeros(3, dtype=np.int32)},
        {"places": np.full((1, 1), 9, dtype=np.int32)},
        {"places": np.full((1, 1), -2, dtype=np.int32)},
        {"preview": a_preview()},
        {"limits": np.full((1, 1), 9, dtype=np.int32)},
        {"limits": np.full((1, 2), 1, dtype=np.int32)},
    ],
)
def test_an_index_of_another_layer_is_refused(change):
    with pytest.raises(DataError, match="index"):
        checked(with_places([[0]])._replace(**change), 3, 8)


def test_an_index_that_lacks_an_array_is_refused():
    arrays = arrays_of(with_places([[0]]))
    del arrays["buckets"]
    with pytest.raises(DataError, match="the index has no buckets"):
        from_arrays(arrays)
