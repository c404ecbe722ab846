"""S38: which training samples are held out."""

import numpy as np
import pytest
from problems import random_dataset

from slide_ref.common.errors import DataError
from slide_ref.common.rng import Purpose, mix
from slide_ref.common.validation import kept_aside, split


@pytest.mark.parametrize(
    ("n", "fraction", "n_aside"), [(10, 0.25, 3), (10, 0.24, 2), (2, 0.01, 1), (2, 0.99, 1), (7, 0.99, 6)]
)
def test_s38_the_samples_of_smallest_keys_are_kept_aside(n, fraction, n_aside):
    aside = kept_aside(5, n, fraction)
    order = sorted(range(n), key=lambda sample: int(mix(5, Purpose.VALIDATION, sample)))
    assert aside.dtype == np.bool_ and np.flatnonzero(aside).tolist() == sorted(order[:n_aside])


def test_s38_the_others_keep_their_order():
    data = random_dataset(0, n_samples=9)
    aside = kept_aside(0, 9, 0.3)
    train, held_out = split(data, aside)
    assert (train.n_samples, held_out.n_samples) == (6, 3)
    for part, rows in ((train, np.flatnonzero(~aside)), (held_out, np.flatnonzero(aside))):
        for mine, row in enumerate(rows):
            assert np.array_equal(part.labels.row(mine)[0], data.labels.row(row)[0])
            assert np.array_equal(part.features.row(mine)[1], data.features.row(row)[1])


def test_one_sample_cannot_be_split():
    with pytest.raises(DataError, match=r"^training data: 1 sample\(s\), none of which can be held out"):
        kept_aside(0, 1, 0.5)
