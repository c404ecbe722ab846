"""Criteria for the agreement of two arrays, and a record of what was compared.

Discrete results must be equal. Floats may differ by the rounding error of the reference itself in float32: with ref64
the reference in float64 on the same inputs, over each array

    max |fast - ref64| <= 2 max |ref32 - ref64| + (4 + sqrt(n)) 2**-24 max size

where the size of a sum of n terms is the sum of their absolute values (at least ``|ref64|``, and much more only if
terms cancel). Processors add in different orders, and the error of a sum grows like sqrt(n) (Higham and Mary 2019);
4 units are for functions such as exp. A bit of a code may differ only if rounding can decide on which side of 0 a
projection lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.hash_constants import HashConstants
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parameters import Layer

UNIT = 2.0**-24  # of rounding in float32, relative
OF_FUNCTIONS = 4  # units
SMALLEST = 2.0**-126  # float32 that is held in full: below it, rounding does not shrink any further
LARGEST = float(np.finfo(np.float32).max)


class Disagreement(AssertionError):
    """A difference between reference and fast path beyond rounding; says where it first occurs."""


def _require_finite(stage: str, is_finite: bool) -> None:
    """Raise DataError unless values of the reference are finite; beyond that, no bound says what agrees."""
    if not is_finite:
        advice = "use a smaller learning rate, or scale the features to about 1"
        raise DataError(f"{stage}: the reference has values that are not finite; {advice}")


def weights_in_float64(layers: list[Layer]) -> list[Layer]:
    """Copy the parameters, without moments."""
    return [Layer(layer.W.astype(np.float64), layer.b.astype(np.float64)) for layer in layers]


@dataclass
class Report:
    """Record of comparisons by stage: number of values, and largest deviation relative to its bound."""

    compared: dict[str, int] = field(default_factory=dict)
    deviation: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, n: int, deviation: float) -> None:
        self.compared[stage] = self.compared.get(stage, 0) + n
        self.deviation[stage] = max(self.deviation.get(stage, 0.0), deviation)


def check_floats(
    report: Report,
    stage: str,
    fast: np.ndarray,
    ref32: np.ndarray,
    ref64: np.ndarray,
    size: np.ndarray | None = None,
    n_terms: int = 0,
) -> None:
    """Raise Disagreement unless `fast` is as close to `ref64` as the reference's own rounding allows.

    Raises DataError if values of the reference are not finite, as nothing can be said about them.

    Each value is computed from sums of `n_terms` numbers (0: nothing is summed). `size` holds what the rounding error
    is proportional to; by default that is ``|ref64|``.
    """
    if not fast.shape == ref32.shape == ref64.shape:
        raise Disagreement(f"{stage}: the fast path has shape {fast.shape}, the reference {ref32.shape}")
    _require_finite(stage, bool(np.isfinite(ref32).all()))
    unit = (OF_FUNCTIONS + math.sqrt(n_terms)) * UNIT
    largest = float(np.abs(ref64 if size is None else size).max(initial=SMALLEST))
    bound = 2 * float(np.abs(ref32 - ref64).max(initial=0)) + unit * largest
    errors = np.abs(fast - ref64)
    wrong = ~(errors <= bound)  # so that NaN is wrong
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        sides = f"the fast path has {fast[at].item()!r}, the reference {ref64[at].item()!r}"
        raise Disagreement(f"{stage}: at {at} {sides} ± {bound:.3g}")
    report.add(stage, fast.size, float(errors.max(initial=0) / bound))


def check_equal(report: Report, stage: str, fast: np.ndarray, reference: np.ndarray) -> None:
    """Raise Disagreement unless two arrays of whole numbers are the same."""
    if fast.shape != reference.shape:
        raise Disagreement(f"{stage}: the fast path has shape {fast.shape}, the reference {reference.shape}")
    if not np.array_equal(fast, reference):
        at = tuple(int(i) for i in np.argwhere(fast != reference)[0])
        raise Disagreement(f"{stage}: at {at} the fast path has {fast[at]}, the reference {reference[at]}")
    report.add(stage, fast.size, 0.0)


def within_rounding_of_zero(vectors: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """Mark projections that may be on either side of 0, depending on the order of summation in float32.

    A sum of m numbers errs by less than ``m * 2**-24`` times the sum of their absolute values, in any order.
    A projection that is 0 because all its terms are 0 has no rounding.

    Returns
    -------
    ndarray of bool, shape (n, L * K)
    """
    vectors, constants = vectors.astype(np.float64), constants.T.astype(np.float64)
    n_terms = np.count_nonzero(constants, axis=0)
    return np.abs(vectors @ constants) < n_terms * UNIT * (np.abs(vectors) @ np.abs(constants))


def check_order(
    report: Report,
    stage: str,
    fast: np.ndarray,
    reference: np.ndarray,
    exact: np.ndarray,
    sizes: np.ndarray,
    n_terms: int,
) -> None:
    """Raise Disagreement unless both sides chose the same candidates in the same order, or rounding decides.

    Raises DataError if values may be too large for float32: then nothing can be said.
    Rounding may decide between candidates whose values differ by no more than two sums of `n_terms` numbers can err.

    Parameters
    ----------
    fast, reference : ndarray of int, shape (n, n_chosen)
        Candidates chosen for each row, all different.
    exact, sizes : ndarray of float64, shape (n, n_candidates)
        Values by which they were chosen, and the sums of the absolute values of their terms.
    n_terms : int
    """
    _require_finite(stage, bool((sizes <= LARGEST).all()))
    if fast.shape == reference.shape and fast.size and exact.shape[1] > fast.max() and fast.min() >= 0:
        values, wanted = (np.take_along_axis(exact, side.astype(np.int64), axis=1) for side in (fast, reference))
        bound = 2 * (n_terms + 2) * UNIT * sizes.max(axis=1, keepdims=True, initial=SMALLEST)
        are_distinct = (np.diff(np.sort(fast, axis=1), axis=1) > 0).all(axis=1, keepdims=True)
        fast = np.where((np.abs(values - wanted) <= bound) & are_distinct, reference, fast)
    check_equal(report, stage, fast, reference)


def check_addresses(
    report: Report,
    stage: str,
    fast: np.ndarray,
    reference: np.ndarray,
    vectors: np.ndarray,
    constants: HashConstants,
    lsh: LshConfig,
) -> None:
    """Raise Disagreement unless the vectors have the same address in every table, or rounding decides a bit.

    Raises DataError if the vectors are not finite: then nothing can be said.
    Rounding decides in SimHash only; the other families compare values and do not compute with them.

    Parameters
    ----------
    fast, reference : ndarray of int, shape (n, L)
    vectors : ndarray of float32, shape (n, d)
        What was hashed.
    constants
        From `slide_ref.hashing.hash_constants`.
    lsh : LshConfig
    """
    _require_finite(stage, bool(np.isfinite(vectors).all()))
    if lsh.family == "simhash":
        assert isinstance(constants, np.ndarray)
        undecided = within_rounding_of_zero(vectors, constants).reshape(*reference.shape, lsh.K).any(axis=2)
        fast = np.where(undecided, reference, fast)
    check_equal(report, stage, fast, reference)


def check_constants(report: Report, fast: HashConstants, reference: HashConstants) -> None:
    """Raise Disagreement unless both sides have the same hash constants."""
    sides = (side if isinstance(side, tuple) else (side,) for side in (fast, reference))
    for ours, theirs in zip(*sides, strict=True):
        check_equal(report, "hash constants", ours, theirs)
