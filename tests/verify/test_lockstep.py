"""The comparators fail where they should, and say where."""

import numpy as np
import pytest
from problems import random_dataset

import slide_ref.training as ref
from slide_fast import hash_tables, hashing, network, optimizers, sampling
from slide_fast.verify.centroids import check_nearest
from slide_fast.verify.lockstep import (
    Disagreement,
    Lockstep,
    Report,
    check_addresses,
    check_constants,
    check_equal,
    check_floats,
)
from slide_ref.common.config import Config
from slide_ref.common.errors import DataError
from slide_ref.common.hash_constants import dwta_constants
from slide_ref.common.lsh_config import LshConfig

CONFIG = Config(hidden=(4,), micro_batch=20).replace(
    lsh={"family": "simhash", "K": 4, "L": 3, "budget": 5, "min_active": 10}
)


def train_two_steps():
    train = random_dataset(0)
    lockstep = Lockstep(ref.new_network(CONFIG, train.features.n_columns, train.labels.n_columns), train.features)
    lockstep.rebuild(0)
    for step in (1, 2):
        lockstep.step(ref.micro_batch(CONFIG, train, np.arange(40), 0, step))
    return lockstep.report


def enlarge(array):
    array *= 1 + 1e-4


def spoil_addresses_of_neurons(result, *args):
    args[-1][:] ^= 1


def spoil_activations(passes, *args):
    passes[0].outputs[0, 0] = np.nan
    return passes


def spoil_gradients(result, *args):
    enlarge(result[1][1].W)
    return result


FAULTS = [
    (hash_tables, "hash_rows", spoil_addresses_of_neurons, "addresses of neurons"),
    (hash_tables, "insertion_order", lambda order, *_: order[::-1], "buckets of table 0"),
    (hashing, "addresses_of", lambda addresses, *_: addresses ^ 1, "addresses of samples"),
    (sampling, "pad", lambda ids, *_: ids[1:], "active sets"),
    (network, "forward", spoil_activations, "activations of layer 0"),
    (network, "backward", lambda result, *_: (result[0] * (1 + 1e-4), result[1]), "loss"),
    (network, "backward", spoil_gradients, "gradients of layer 1"),
    (optimizers, "update", lambda result, layers, *_: enlarge(layers[0].b_v), "b_v of layer 0"),
]


def test_sides_that_agree_are_reported_in_full():
    report = train_two_steps()
    stages = {"addresses of neurons", "buckets of table 2", "addresses of samples", "active sets", "loss"}
    stages |= {"activations of layer 0", "gradients of layer 1", "touched rows of layer 0", "b_v of layer 1"}
    assert stages <= set(report.compared) == set(report.deviation)
    assert all(count > 0 for count in report.compared.values()) and max(report.deviation.values()) <= 1


@pytest.mark.parametrize(("module", "name", "change", "stage"), FAULTS)
def test_the_first_stage_that_differs_is_named(monkeypatch, module, name, change, stage):
    """A function of the fast path does its work, then its result or its arguments are changed."""
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: change(original(*args), *args))
    with pytest.raises(Disagreement, match=f"^{stage}: "):
        train_two_steps()


def test_floats_may_err_by_twice_the_error_of_the_reference_and_rounding():
    exact = np.array([1.0, -4.0])
    theirs, bound = exact + [1e-3, 0], 2e-3 + 4 * 2.0**-22
    check_floats(Report(), "x", exact + [0, 0.999 * bound], theirs, exact)
    with pytest.raises(Disagreement, match=r"x: at \(1,\)"):
        check_floats(Report(), "x", exact + [0, 1.001 * bound], theirs, exact)
    check_floats(Report(), "x", exact + [0, 3e-3], theirs, exact, size=np.array([2.0**13]))


def test_floats_that_are_sums_may_err_by_the_root_of_their_number_of_terms():
    exact = np.array([1.0, -4.0])
    bound = 4 * (4 + 3) * 2.0**-24
    check_floats(Report(), "x", exact + [0, 0.999 * bound], exact, exact, n_terms=9)
    with pytest.raises(Disagreement, match=r"x: at \(1,\)"):
        check_floats(Report(), "x", exact + [0, 1.001 * bound], exact, exact, n_terms=9)


def test_numbers_that_float32_holds_with_fewer_digits_may_differ_in_the_last():
    digit, wrong = 2.0**-149, 2.0**-140
    check_floats(Report(), "x", np.array([0.0]), np.array([digit]), np.array([digit]))
    with pytest.raises(Disagreement):
        check_floats(Report(), "x", np.array([0.0]), np.array([wrong]), np.array([wrong]))
    vector, centroids = np.array([[1e-22]], np.float32), np.array([[0], [1e-23]], np.float32)
    check_nearest(Report(), "x", np.array([[0]]), np.array([[1]]), vector, centroids)


def test_values_beyond_float32_cannot_be_compared():
    vectors, centroids = np.array([[1e20]], np.float32), np.array([[0], [1e20]], np.float32)
    with pytest.raises(DataError, match="x: the reference has values that are not finite"):
        check_nearest(Report(), "x", np.array([[0]]), np.array([[1]]), vectors, centroids)
    problem = (np.full((1, 2), np.inf, np.float32), np.zeros((1, 2), np.int32), LshConfig("wta", K=1, L=1))
    with pytest.raises(DataError, match="x: the reference has values that are not finite"):
        check_addresses(Report(), "x", np.array([[0]]), np.array([[1]]), *problem)


@pytest.mark.parametrize("wrong", [[1.0, np.nan], [np.inf, 2.0], [1.0], [[1.0, 2.0]]])
def test_floats_that_are_not_finite_or_of_another_shape_disagree(wrong):
    with pytest.raises(Disagreement):
        check_floats(Report(), "x", np.array(wrong), np.array([1.0, 2.0]), np.array([1.0, 2.0]))


@pytest.mark.parametrize("wrong", [[1, 3], [1], [1, 2, 3], []])
def test_whole_numbers_must_be_equal(wrong):
    check_equal(Report(), "x", np.array([1, 2]), np.array([1, 2]))
    with pytest.raises(Disagreement, match="x: "):
        check_equal(Report(), "x", np.array(wrong), np.array([1, 2]))


@pytest.mark.parametrize("family", ["simhash", "wta", "dwta", "doph"])
def test_only_codes_of_simhash_may_differ_by_rounding(family):
    vectors, projections = np.array([[1, -1]], dtype=np.float32), np.array([[1, 1]], dtype=np.int8)
    problem = (vectors, projections, LshConfig(family, K=1, L=1))
    check_addresses(Report(), "x", np.array([[1]]), np.array([[1]]), *problem)
    if family == "simhash":
        check_addresses(Report(), "x", np.array([[1]]), np.array([[0]]), *problem)
    else:
        with pytest.raises(Disagreement, match=r"x: at \(0, 0\)"):
            check_addresses(Report(), "x", np.array([[1]]), np.array([[0]]), *problem)


@pytest.mark.parametrize("part", [0, 1])
def test_every_part_of_the_constants_must_be_equal(part):
    theirs = dwta_constants(LshConfig("dwta", K=2, L=2), 0, 1, 9)
    ours = theirs._replace(**{theirs._fields[part]: theirs[part][::-1]})
    check_constants(Report(), theirs, theirs)
    with pytest.raises(Disagreement, match="hash constants: "):
        check_constants(Report(), ours, theirs)
