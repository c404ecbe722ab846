"""Reference and fast path side by side: what it means that they agree.

Discrete results are equal. Floats may differ by what the reference itself loses in float32: with ref64 the reference
in float64 on the same inputs, ``max |fast - ref64| <= 2 max |ref32 - ref64| + 2**-22 max size`` over each array, where
the size of a sum is what its terms add up to without their signs (at least ``|ref64|``, and much more only where terms
cancel). A bit of a code may differ only where rounding can decide on which side of 0 a projection lies.

This module, when called, is the only one of the fast path that looks at the reference's algorithms.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

import slide_ref as ref
import slide_ref.hash_tables
import slide_ref.hashing
import slide_ref.network
import slide_ref.optimizers
import slide_ref.training
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from . import hash_tables, hashing, network, optimizers, sampling
from .sampling import Active
from .scratch import Scratch

UNIT = 2.0**-22


class Disagreement(AssertionError):
    """Reference and fast path differ by more than rounding; says where first."""


@dataclass
class Report:
    """What was compared, stage by stage: number of values, and the largest deviation over its bound."""

    compared: dict[str, int] = field(default_factory=dict)
    deviation: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, n: int, deviation: float) -> None:
        self.compared[stage] = self.compared.get(stage, 0) + n
        self.deviation[stage] = max(self.deviation.get(stage, 0.0), deviation)


def float_bound(ref32: np.ndarray, ref64: np.ndarray, size: np.ndarray | None = None) -> float:
    """The largest error allowed to the fast path over an array; `size` is ``|ref64|`` unless given."""
    if not ref64.size:
        return 0.0
    return 2 * float(np.abs(ref32 - ref64).max()) + UNIT * float(np.abs(ref64 if size is None else size).max())


def check_floats(
    report: Report,
    stage: str,
    fast: np.ndarray,
    ref32: np.ndarray,
    ref64: np.ndarray,
    size: np.ndarray | None = None,
) -> None:
    """Raise Disagreement unless `fast` is as near to `ref64` as the reference's own rounding allows."""
    if not fast.shape == ref32.shape == ref64.shape:
        raise Disagreement(f"{stage}: the fast path has shape {fast.shape}, the reference {ref32.shape}")
    bound = float_bound(ref32, ref64, size)
    errors = np.abs(fast - ref64)
    wrong = ~(errors <= bound)  # so that NaN is wrong
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        sides = f"the fast path has {fast[at]!r}, the reference {ref64[at]!r}"
        raise Disagreement(f"{stage}: at {at} {sides} ± {bound:.3g}")
    report.add(stage, fast.size, float(errors.max() / bound) if bound else 0.0)


def check_equal(report: Report, stage: str, fast: np.ndarray, reference: np.ndarray) -> None:
    """Raise Disagreement unless two arrays of whole numbers are the same."""
    if fast.shape != reference.shape:
        raise Disagreement(f"{stage}: the fast path has shape {fast.shape}, the reference {reference.shape}")
    if not np.array_equal(fast, reference):
        at = tuple(int(i) for i in np.argwhere(fast != reference)[0])
        raise Disagreement(f"{stage}: at {at} the fast path has {fast[at]}, the reference {reference[at]}")
    report.add(stage, fast.size, 0.0)


def within_rounding_of_zero(vectors: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """Which projections may come out on either side of 0, depending on the order of summation in float32.

    A sum of m numbers errs by less than ``m * 2**-24`` times the sum of their absolute values, in any order.
    A projection that is 0 because all its terms are 0 has no rounding.

    Returns
    -------
    ndarray of bool, shape (n, L * K)
    """
    vectors, constants = vectors.astype(np.float64), constants.T.astype(np.float64)
    n_terms = np.count_nonzero(constants, axis=0)
    return np.abs(vectors @ constants) < n_terms * 2.0**-24 * (np.abs(vectors) @ np.abs(constants))


def check_addresses(
    report: Report,
    stage: str,
    fast: np.ndarray,
    reference: np.ndarray,
    vectors: np.ndarray,
    constants: np.ndarray,
    K: int,
) -> None:
    """Raise Disagreement unless the vectors have the same address in every table, or rounding decides a bit.

    Parameters
    ----------
    fast, reference : ndarray of int, shape (n, L)
    vectors : ndarray of float32, shape (n, d)
        What was hashed.
    constants : ndarray of int8, shape (L * K, d)
    K : int
        Bits a code.
    """
    undecided = within_rounding_of_zero(vectors, constants).reshape(*reference.shape, K).any(axis=2)
    check_equal(report, stage, np.where(undecided, reference, fast), reference)


def one_by_one(active: Active, n_samples: int) -> list[np.ndarray]:
    """Active sets of the fast path as the reference has them, one a sample."""
    if active.mask is None:
        return [active.ids] * n_samples
    return [active.ids[row] for row in active.mask]


def as_dtype(layers: list[Layer], dtype: type) -> list[Layer]:
    """A copy of parameters and moments in another dtype."""
    return [Layer(**{name: array.astype(dtype) for name, array in vars(layer).items()}) for layer in layers]


def without_signs(layers: list[Layer], features: SparseRows) -> tuple[list[Layer], SparseRows]:
    """Parameters and samples in float64, made positive: what goes through them is the size of what went through."""
    data = None if features.data is None else np.abs(features.data)
    positive = [Layer(np.abs(layer.W.astype(np.float64)), np.abs(layer.b.astype(np.float64))) for layer in layers]
    return positive, dataclasses.replace(features, data=data)


def gradient_sizes(
    layers: list[Layer], trace: ref.network.Trace, labels: SparseRows
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sizes of the gradients of W and b, one pair a layer: backpropagation without signs."""
    rows = [np.unique(np.concatenate([a.ids for a in activations])) for activations in trace]
    values = []
    for activations, ids in zip(trace, rows, strict=True):
        values.append(np.zeros((len(activations), len(ids))))
        for row, a in zip(values[-1], activations, strict=True):
            row[np.searchsorted(ids, a.ids)] = np.abs(a.values)
    size = np.zeros(values[-1].shape)
    for i, logits in enumerate(trace[-1]):
        own = labels.row(i)[0]
        size[i, np.searchsorted(rows[-1], logits.ids)] = np.abs(ref.network.softmax_loss(logits, own)[1])
        size[i, np.searchsorted(rows[-1], own)] += 2 / len(own)  # |p - y| + 2 y is at least p + y
    size /= labels.n_rows
    sizes = []
    for l in reversed(range(len(layers))):
        sizes.append((size.T @ values[l], size.sum(axis=0)))
        if l > 0:
            size = size @ np.abs(layers[l].W[rows[l + 1]][:, rows[l]]) * (values[l] > 0)
    return sizes[::-1]


def check_activations(report: Report, passes: list[network.LayerPass], *traces: ref.network.Trace) -> None:
    """Compare the activations of every layer, then give the fast path those of the reference.

    Parameters
    ----------
    report : Report
    passes : list of LayerPass
        From the fast path; its outputs at active neurons are overwritten.
    *traces : Trace
        Of the reference in float32, in float64, and in float64 without signs.
    """
    for l, this in enumerate(passes):
        active = slice(None) if this.mask is None else this.mask
        sides = (np.concatenate([a.values for a in trace[l + 1]]) for trace in traces)
        theirs, exact, size = (side.reshape(this.outputs[active].shape) for side in sides)
        check_floats(report, f"activations of layer {l}", this.outputs[active], theirs, exact, size)
        this.outputs[active] = theirs


def check_gradients(
    report: Report,
    layers: list[Layer],
    passes: list[network.LayerPass],
    trace: ref.network.Trace,
    labels: SparseRows,
    scratch: Scratch,
) -> list[ref.network.RowGradient]:
    """Compare loss and gradients from the same activations; returns the reference's gradients."""
    layers64 = as_dtype(layers, np.float64)
    trace64 = [[ref.network.Activation(a.ids, a.values.astype(np.float64)) for a in part] for part in trace]
    loss64, gradients64 = ref.network.backward(layers64, trace64, labels)
    loss, gradients = ref.network.backward(layers, trace, labels)
    fast_loss, fast = network.backward(layers, passes, labels, scratch)
    size = np.array([1 + np.mean([np.ptp(a.values) for a in trace[-1]])])
    check_floats(report, "loss", *(np.array([x]) for x in (fast_loss, loss, loss64)), size)
    sizes = gradient_sizes(layers64, trace64, labels)
    for l, (ours, theirs, exact, size) in enumerate(zip(fast, gradients, gradients64, sizes, strict=True)):
        ids = np.arange(len(ours.W)) if ours.ids is None else ours.ids
        check_equal(report, f"touched rows of layer {l}", ids, theirs.ids)
        check_floats(report, f"gradients of layer {l}", ours.W, theirs.W, exact.W, size[0])
        check_floats(report, f"bias gradients of layer {l}", ours.b, theirs.b, exact.b, size[1])
    return gradients


class Lockstep:
    """Train the reference in float32 and hold the fast path against it at every stage of every step.

    Each stage gets the reference's state and the reference's result of the stage before, so that differences do not
    add up and every stage can be judged by the rounding of that stage alone. Where rounding decides a bit of a code,
    both sides go on with the reference's address.

    Parameters
    ----------
    reference : slide_ref.training.Network
        In float32; trained by `step`.
    """

    def __init__(self, reference: ref.training.Network):
        self.reference, self.config = reference, reference.config
        self.last = len(reference.layers) - 1
        self.scratch = Scratch()
        self.report = Report()
        self.tables: hash_tables.HashTables | None = None

    def rebuild(self, number: int) -> None:
        """Rebuild both sides' tables from the reference's weights and compare all buckets."""
        config, lsh, W = self.config, self.config.lsh, self.reference.layers[-1].W
        constants = hashing.hash_constants(lsh, config.seed, self.last, W.shape[1])
        check_equal(self.report, "hash constants", constants, self.reference.constants)
        ref.training.rebuild(self.reference, number)
        theirs = ref.hashing.addresses_of(W, self.reference.constants, lsh, config.seed, self.last)
        ours = np.empty((lsh.L, len(W)), dtype=np.int64)
        hash_tables.hash_rows(W, constants, lsh, config.seed, self.last, ours)
        check_addresses(self.report, "addresses of neurons", ours.T, theirs, W, self.reference.constants, lsh.K)
        self.tables = hash_tables.tables_from_addresses(theirs.T, lsh, config.seed, self.last, number)
        check_buckets(self.report, self.tables, self.reference.tables)

    def step(self, batch: ref.training.MicroBatch) -> None:
        """One step of the reference, every stage compared."""
        if not len(batch.samples):
            return
        layers, features, labels = self.reference.layers, *batch.data

        def choose_hidden(l: int, inputs: list) -> list[np.ndarray]:
            return [np.arange(0 if l == self.last else len(layers[l].b))] * len(inputs)

        hidden = ref.network.forward(layers, features, choose_hidden)[-2]
        active, sets = self.active_sets(hidden, batch)

        def choose(l: int, inputs: list) -> list[np.ndarray]:
            return sets if l == self.last else choose_hidden(l, inputs)

        trace, trace64, sizes = (
            ref.network.forward(*side, choose)
            for side in (
                (layers, features),
                (as_dtype(layers, np.float64), features),
                without_signs(layers, features),
            )
        )
        passes = network.forward(layers, features, lambda l, _: active if l == self.last else None, self.scratch)
        check_activations(self.report, passes, trace, trace64, sizes)
        gradients = check_gradients(self.report, layers, passes, trace, labels, self.scratch)
        self._check_update(gradients, batch.step)

    def active_sets(
        self, hidden: list[ref.network.Activation], batch: ref.training.MicroBatch
    ) -> tuple[Active | None, list[np.ndarray]]:
        """From the same activations both sides must choose the same neurons; returns both sides' choice."""
        config, lsh = self.config, self.config.lsh
        n, seed = len(self.reference.layers[-1].b), config.seed
        chosen = ref.training.choose_active(self.reference, self.last, hidden, batch)
        if lsh.min_active >= n:
            return None, chosen
        vectors, constants = np.array([activation.values for activation in hidden]), self.reference.constants
        theirs = ref.hashing.addresses_of(vectors, constants, lsh, seed, self.last)
        ours = hashing.addresses_of(vectors, constants.astype(np.float32), lsh, seed, self.last)
        check_addresses(self.report, "addresses of samples", ours, theirs, vectors, constants, lsh.K)
        found = sampling.vanilla(self.tables, theirs, lsh.budget, seed, self.last, batch.epoch, batch.samples)
        fast = sampling.active_sets(
            self.scratch, found, batch.data.labels, lsh, config.scope, n, seed, self.last, batch.epoch,
            batch.samples, batch.step,
        )  # fmt: skip
        for mine, other in zip(one_by_one(fast, len(chosen)), chosen, strict=True):
            check_equal(self.report, "active sets", mine, other)
        return fast, chosen

    def _check_update(self, gradients: list[ref.network.RowGradient], step: int) -> None:
        """Apply the reference's gradients on both sides; the reference's layers take the step for good."""
        before, fast = (as_dtype(self.reference.layers, np.float32) for _ in range(2))
        ours = [network.RowGradient(g.ids, g.W.copy(), g.b.copy()) for g in gradients]
        optimizers.update(fast, ours, step, self.config, self.scratch)
        layers64 = as_dtype(before, np.float64)
        exact = [ref.network.RowGradient(g.ids, g.W.astype(np.float64), g.b.astype(np.float64)) for g in gradients]
        ref.optimizers.update(layers64, exact, step, self.config)
        ref.optimizers.update(self.reference.layers, gradients, step, self.config)
        for l, sides in enumerate(zip(fast, self.reference.layers, layers64, before, strict=True)):
            for name in vars(sides[0]):
                this, theirs, exact_one, old = (getattr(side, name) for side in sides)
                size = np.maximum(np.abs(exact_one), np.abs(old))
                check_floats(self.report, f"{name} of layer {l}", this, theirs, exact_one, size)


def check_buckets(report: Report, fast: hash_tables.HashTables, reference: ref.hash_tables.HashTables) -> None:
    """Every bucket holds the same neurons in the same order."""
    addresses = np.arange(fast.offsets.shape[1] - 1)
    starts, lengths = fast.slices(np.repeat(addresses[:, None], len(fast.ids), axis=1))
    for table, buckets in enumerate(reference.tables):
        sizes = np.array([len(buckets.get(address, ())) for address in addresses.tolist()])
        members = [neuron for address in sorted(buckets) for neuron in buckets[address]]
        check_equal(report, f"bucket sizes of table {table}", lengths[:, table], sizes)
        found = fast.ids.reshape(-1)[sampling.concatenate_slices(starts[:, table], lengths[:, table])]
        check_equal(report, f"buckets of table {table}", found, np.array(members, dtype=np.int32))
    if fast.occupancy() != reference.occupancy():
        raise Disagreement(f"occupancy: {fast.occupancy()} on the fast path, {reference.occupancy()} in the reference")
