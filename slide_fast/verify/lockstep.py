"""Lockstep of reference and fast path: both run every stage of training from the same state.

`slide_fast.verify.comparison` defines when they agree.
"""

from __future__ import annotations

import numpy as np

import slide_ref as ref
import slide_ref.active_sets
import slide_ref.correction
import slide_ref.hash_tables
import slide_ref.hashing.centroid
import slide_ref.indexing
import slide_ref.network
import slide_ref.optimizers
import slide_ref.prediction
import slide_ref.training
from slide_ref.common.config import Config
from slide_ref.common.hash_constants import HashConstants
from slide_ref.common.index import samples_for_index
from slide_ref.common.micro_batches import MicroBatch
from slide_ref.common.parameters import Layer
from slide_ref.common.parts import Part
from slide_ref.common.priors import label_priors
from slide_ref.common.sparse_rows import Dataset, SparseRows

from .. import active_sets, hash_tables, hashing, network, optimizers, prediction
from ..hashing import centroid
from ..kernels.ordering import concatenate_slices
from ..kernels.scratch import Scratch
from ..kernels.sparse_products import Multiples
from ..sampling import Active
from .centroids import check_nearest, rebuild_centroids
from .comparison import (
    Disagreement,
    Report,
    check_addresses,
    check_constants,
    check_equal,
    check_floats,
    weights_in_float64,
)
from .sizes import corrected, gradient_sizes, terms_of_gradient, widths, without_signs


def one_by_one(active: Active, n_samples: int) -> list[np.ndarray]:
    """Convert active sets of the fast path to the reference's form, one per sample."""
    if active.mask is None:
        return [active.ids] * n_samples
    return [active.ids[row] for row in active.mask]


def as_dtype(layers: list[Layer], dtype: type) -> list[Layer]:
    """Copy parameters and moments to another dtype."""
    return [
        Layer(**{name: array.astype(dtype) for name, array in vars(layer).items() if array is not None})
        for layer in layers
    ]


def check_activations(report: Report, passes: list[network.LayerPass], *traces: ref.network.Trace) -> None:
    """Compare the activations of every layer, then overwrite the fast path's with those of the reference.

    Parameters
    ----------
    report : Report
    passes : list of LayerPass
        From the fast path; its outputs at active neurons are overwritten.
    *traces : Trace
        Traces of the reference in float32, in float64, and in float64 without signs.
    """
    for l, this in enumerate(passes):
        active = slice(None) if this.mask is None else this.mask
        sides = (np.concatenate([a.values for a in trace[l + 1]]) for trace in traces)
        theirs, exact, size = (side.reshape(this.outputs[active].shape) for side in sides)
        n_terms = widths(traces[0])[l]
        check_floats(report, f"activations of layer {l}", this.outputs[active], theirs, exact, size, n_terms)
        this.outputs[active] = theirs
        if this.mask is not None and l < len(passes) - 1:
            inactive = this.outputs[~this.mask]
            check_equal(report, f"inactive neurons of layer {l}", inactive, np.zeros_like(inactive))


def check_inclusion(report: Report, fast: Active, theirs: list[np.ndarray], labels: SparseRows) -> None:
    """Check that inclusion probabilities are equal where they are used: not at a sample's own labels."""
    assert fast.inclusion is not None
    for i, wanted in enumerate(theirs):
        found = fast.inclusion if fast.mask is None else fast.inclusion[i][fast.mask[i]]
        ids = fast.ids if fast.mask is None else fast.ids[fast.mask[i]]
        others = ~np.isin(ids, labels.row(i)[0])
        check_equal(report, "probabilities of being active", found[others], wanted[others])


def check_gradients(
    report: Report,
    layers: list[Layer],
    passes: list[network.LayerPass],
    trace: ref.network.Trace,
    labels: SparseRows,
    scratch: Scratch,
    weights: np.ndarray | None = None,
    inclusion: list[np.ndarray] | None = None,
) -> list[ref.network.RowGradient]:
    """Compare loss and gradients from the same activations; return the reference's gradients."""
    layers64 = weights_in_float64(layers)
    trace64 = [[ref.network.Activation(a.ids, a.values.astype(np.float64)) for a in part] for part in trace]
    loss64, gradients64 = ref.network.backward(layers64, trace64, labels, weights, inclusion)
    loss, gradients = ref.network.backward(layers, trace, labels, weights, inclusion)
    fast_loss, fast = network.backward(layers, passes, labels, scratch, weights)
    size = np.array([1 + np.mean([np.ptp(a.values) for a in corrected(trace, inclusion)])])
    mine, other, wanted = (np.array([x]) for x in (fast_loss, loss, loss64))
    check_floats(report, "loss", mine, other, wanted, size)
    sizes = gradient_sizes(layers64, trace64, labels, weights, inclusion)
    fast = [rows_in_order(gradient) for gradient in fast]
    for l, (ours, theirs, exact, (W, b)) in enumerate(zip(fast, gradients, gradients64, sizes, strict=True)):
        ids = np.arange(len(ours.W)) if ours.ids is None else ours.ids
        check_equal(report, f"touched rows of layer {l}", ids, theirs.ids)
        n_terms = terms_of_gradient(trace, l)
        check_floats(report, f"gradients of layer {l}", ours.W, theirs.W, exact.W, W, n_terms)
        check_floats(report, f"bias gradients of layer {l}", ours.b, theirs.b, exact.b, b, n_terms)
    return gradients


def rows_in_order(gradient: network.RowGradient) -> network.RowGradient:
    """Return a gradient whose multiples, if any, are among its other rows."""
    multiples = gradient.multiples
    if multiples is None or gradient.ids is None:
        return gradient
    ids = np.concatenate([gradient.ids, multiples.ids])
    W = np.empty((len(ids), gradient.W.shape[1]), gradient.W.dtype)
    W[: len(gradient.ids)] = gradient.W
    multiples.compute(W[len(gradient.ids) :])
    order = np.argsort(ids)
    return network.RowGradient(ids[order], W[order], gradient.b)


def every_other_a_multiple(gradient: network.RowGradient) -> network.RowGradient:
    """Return a gradient with every other of its rows as a multiple, so that both kinds are updated."""
    ids, W, b, _ = gradient
    assert ids is not None
    rows, factors = np.arange(1, len(W), 2), np.full(len(W) // 2, 2, W.dtype)
    return network.RowGradient(ids[::2], W[::2].copy(), b, Multiples(ids[1::2], rows, factors, W / 2))


def new_lockstep(config: Config, train: Dataset) -> Lockstep:
    """Make a new reference network, to be trained in lockstep on some samples."""
    network = ref.training.new_network(config, train.features.n_columns, train.labels.n_columns)
    network.priors = label_priors(train.labels) if config.correction else None
    return Lockstep(network, train.features)


class Lockstep:
    """Trains the reference in float32 and compares the fast path with it at every stage of every step.

    Each stage starts from the reference's state and the reference's result of the previous stage, so that differences
    do not accumulate and every stage is judged by its own rounding alone. If rounding decides a bit of a code, both
    sides continue with the reference's address.

    Parameters
    ----------
    reference : slide_ref.network.Network
        In float32; trained by `step`.
    features : SparseRows
        Features of the training samples, some of which are clustered in a rebuild of centroid tables.
    """

    def __init__(self, reference: ref.network.Network, features: SparseRows):
        self.reference, self.config, self.features = reference, reference.config, features
        self.scratch = Scratch()
        self.report = Report()
        self.constants: dict[int, HashConstants] = {}
        self.tables: dict[int, hash_tables.Tables] = {}

    def rebuild(self, number: int) -> None:
        """Rebuild both sides' tables of all layers from the reference's weights and compare all buckets."""
        for word, part in self.reference.parts.items():
            seed, lsh, constants = self.config.seed, part.lsh, self.reference.constants[word]
            if lsh.family == "centroid":
                of = self.report, self.reference.layers, part, self.features, seed, number, self.scratch
                constants, self.reference.tables[word], self.tables[word] = rebuild_centroids(*of)
                self.constants[word] = self.reference.constants[word] = constants
                continue
            W = self.reference.layers[part.layer].W[part.first : part.last]
            own = self.constants[word] = hashing.hash_constants(lsh, seed, word, W.shape[1])
            check_constants(self.report, own, constants)
            theirs = ref.hashing.addresses_of(W, constants, lsh, seed, word)
            ours = np.empty((lsh.L, len(W)), dtype=np.int64)
            hash_tables.hash_rows(W, own, lsh, seed, word, ours)
            check_addresses(self.report, "addresses of neurons", ours.T, theirs, W, constants, lsh)
            self.reference.tables[word] = ref.hash_tables.tables_from_addresses(theirs.T, lsh, seed, word, number)
            self.tables[word] = hash_tables.tables_from_addresses(theirs.T, lsh, seed, word, number)
            check_buckets(self.report, self.tables[word], self.reference.tables[word])

    def step(self, batch: MicroBatch) -> None:
        """Take one step of the reference, comparing every stage."""
        if not len(batch.samples):
            return
        layers, features, labels = self.reference.layers, *batch.data
        active: dict[int, Active | None] = {}
        sets: dict[int, list[np.ndarray]] = {}
        inclusion: list[np.ndarray] | None = None

        def choose(l: int, inputs: list) -> list[np.ndarray]:
            nonlocal inclusion
            if l not in sets:
                active[l], sets[l], inclusion = self.active_sets(l, inputs, batch)
            return sets[l]

        trace, trace64, sizes = self._traces(features, choose)
        passes = network.forward(layers, features, lambda l, _: active[l], self.scratch)
        check_activations(self.report, passes, trace, trace64, sizes)
        gradients = check_gradients(self.report, layers, passes, trace, labels, self.scratch, batch.weights, inclusion)
        self._check_update(gradients, batch)

    def active_sets(
        self, l: int, inputs: list[ref.network.Activation], batch: MicroBatch
    ) -> tuple[Active | None, list[np.ndarray], list[np.ndarray] | None]:
        """Check that both sides choose the same neurons, given the same activations.

        Returns
        -------
        fast : Active or None
        sets, inclusion
            Of the reference.
        """
        layer = self.reference.layers[l]
        chosen, probabilities = ref.active_sets.choose_active(self.reference, l, inputs, batch)
        vectors = np.zeros((len(inputs), layer.W.shape[1]), layer.W.dtype)
        for vector, activation in zip(vectors, inputs, strict=True):
            vector[activation.ids] = activation.values
        parts = [part for part in self.reference.parts.values() if part.layer == l]
        if not parts:
            return None, chosen, None
        fast = active_sets.unite([self._active_in_part(part, vectors, batch) for part in parts])
        for mine, other in zip(one_by_one(fast, len(chosen)), chosen, strict=True):
            check_equal(self.report, "active sets", mine, other)
        if probabilities is not None:
            check_inclusion(self.report, fast, probabilities, batch.data.labels)
        return fast, chosen, probabilities

    def _active_in_part(self, part: Part, vectors: np.ndarray, batch: MicroBatch) -> Active:
        """Return what the fast path chooses in a part, given the reference's addresses."""
        word, lsh, seed = part.word, part.lsh, self.config.seed
        constants = self.reference.constants[word]
        theirs = ref.hashing.addresses_of(vectors, constants, lsh, seed, word)
        ours = hashing.addresses_of(vectors, self.constants[word], lsh, seed, word)
        if lsh.family == "centroid":
            assert isinstance(constants, np.ndarray)
            check_nearest(self.report, "nearest centroids", ours, theirs, vectors, constants)
        else:
            check_addresses(self.report, "addresses of samples", ours, theirs, vectors, constants, lsh)
        priors = self.reference.priors if part.layer == len(self.config.hidden) else None
        priors = None if priors is None else priors[part.first : part.last]
        return active_sets.choose_in_part(part, self.tables[word], theirs, self.config, batch, self.scratch, priors)

    def predict(self, features: SparseRows, k: int) -> None:
        """Compare exact predictions, and predictions through an index built from the samples themselves (S28)."""
        layers = self.reference.layers

        def everyone(l: int, inputs: list) -> list[np.ndarray]:
            return [np.arange(len(layers[l].b))] * len(inputs)

        traces = self._traces(features, everyone)
        exact = prediction.predict_topk(layers, features, k)
        n_terms = sum(widths(traces[0])[:-1])
        check_answers(self.report, "exact answers", *exact, *(trace[-1] for trace in traces), n_terms=n_terms)
        if features.n_rows < 2:
            return
        index = ref.indexing.build_index(layers, samples_for_index(self.config.seed, features))
        size, last = -(-index.buckets.shape[1] // 2), len(layers) - 1  # half of a bucket, so that something is left out
        inputs = np.array([sample.values for sample in traces[0][last]])
        hidden = prediction.all_hidden_outputs(layers, features)
        ours, own = (centroid.nearest(x, index.centroids, 1) for x in (inputs, hidden))
        theirs = ref.hashing.centroid.nearest(inputs, index.centroids, 1)
        check_nearest(self.report, "cells of samples", ours, theirs, inputs, index.centroids)
        found = [ref.prediction.candidates(index, row, size, k) for row in inputs]
        mine = prediction.candidates(index, hidden, size, k)
        rows = np.flatnonzero([np.array_equal(*sides) for sides in zip(mine, found, strict=True)])
        for row in np.flatnonzero(own[:, 0] == theirs[:, 0]) if index.preview is None else ():  # else rounding decides
            check_equal(self.report, "candidates", mine[row], found[row])
        ids, scores = prediction.predict_topk_index(layers, features.take(rows), k, index, size)
        known = [found[row] for row in rows]
        traces = self._traces(features.take(rows), lambda l, a: known if l == last else everyone(l, a))
        logits = (trace[-1] for trace in traces)
        check_answers(self.report, "answers of the index", ids, scores, *logits, n_terms=n_terms)

    def _traces(self, features: SparseRows, choose: ref.network.Choose) -> list[ref.network.Trace]:
        """Trace the reference in float32, in float64, and in float64 without signs."""
        layers = self.reference.layers
        sides = (layers, features), (weights_in_float64(layers), features), without_signs(layers, features)
        return [ref.network.forward(*side, choose) for side in sides]

    def _check_update(self, gradients: list[ref.network.RowGradient], batch: MicroBatch) -> None:
        """Apply the reference's gradients on both sides; the reference's layers keep the update.

        Compares the touched rows, and the untouched rows next to them.
        """
        layers, step, rate = self.reference.layers, batch.step, batch.rate
        rows = [_beside(g.ids, len(layer.W)) for layer, g in zip(layers, gradients, strict=True)]
        before = [_take_rows(layer, ids, l == 0) for l, (layer, ids) in enumerate(zip(layers, rows, strict=True))]
        fast, layers64 = as_dtype(before, np.float32), as_dtype(before, np.float64)
        places = [np.searchsorted(ids, g.ids) for ids, g in zip(rows, gradients, strict=True)]
        ours = [network.RowGradient(at, g.W.copy(), g.b.copy()) for at, g in zip(places, gradients, strict=True)]
        ours[0] = every_other_a_multiple(ours[0])
        optimizers.update(fast, ours, step, rate, self.config, self.scratch)
        exact = [g._replace(ids=at, W=g.W.astype(np.float64), b=g.b.astype(np.float64))
                 for at, g in zip(places, gradients, strict=True)]  # fmt: skip
        ref.optimizers.update(layers64, exact, step, rate, self.config)
        ref.optimizers.update(layers, gradients, step, rate, self.config)
        theirs = [_take_rows(layer, ids, l == 0) for l, (layer, ids) in enumerate(zip(layers, rows, strict=True))]
        for l, sides in enumerate(zip(fast, theirs, layers64, before, strict=True)):
            for name in vars(sides[0]):
                this, other, exact_one, old = (getattr(side, name) for side in sides)
                if this is not None or other is not None:
                    size = np.maximum(np.abs(exact_one), np.abs(old))
                    check_floats(self.report, f"{name} of layer {l}", this, other, exact_one, size)


def _beside(ids: np.ndarray, n: int) -> np.ndarray:
    """Return some rows of n, and the rows before and after each of them, ascending."""
    return np.unique(np.clip(np.concatenate([ids - 1, ids, ids + 1]), 0, n - 1))


def _take_rows(layer: Layer, rows: np.ndarray, is_first: bool) -> Layer:
    """Take some rows of a layer; the first layer's biases do not belong to its rows."""
    return Layer(**{
        name: array.copy() if is_first and name[0] == "b" else array[rows]
        for name, array in vars(layer).items()
        if array is not None
    })  # fmt: skip


def check_answers(
    report: Report,
    stage: str,
    ids: np.ndarray,
    scores: np.ndarray,
    *logits: list[ref.network.Activation],
    n_terms: int = 0,
) -> None:
    """Raise Disagreement unless each row's answers are the best of its logits; rounding may break ties.

    Parameters
    ----------
    report, stage
    ids, scores : ndarray, shape (n_samples, k)
        From the fast path.
    *logits : list of Activation
        Logits of the reference in float32, in float64, and in float64 without signs, for the candidates of each row.
    n_terms : int
        As in `check_floats`.
    """
    for i, sides in enumerate(zip(*logits, strict=True)):
        n_found = min(ids.shape[1], len(sides[0].ids))
        found = np.sort(ids[i, :n_found])
        known = np.isin(found, sides[0].ids) & (np.diff(found, prepend=-1) > 0)
        rest = (ids[i, n_found:] == -1) & (scores[i, n_found:] == -np.inf)
        if not known.all() or not rest.all() or not (scores[i, 1:] <= scores[i, :-1]).all():
            what = f"candidates are {sides[0].ids.tolist()[:20]}" if len(sides[0].ids) else "there is no candidate"
            raise Disagreement(f"{stage}: at {(i,)} labels {ids[i].tolist()} with scores {scores[i].tolist()}; {what}")
        at = np.searchsorted(sides[0].ids, ids[i, :n_found])
        best = (np.sort(side.values)[::-1][:n_found] for side in sides)
        for theirs, exact, size in ((side.values[at] for side in sides), best):
            try:
                check_floats(report, stage, scores[i, :n_found], theirs, exact, size, n_terms)
            except Disagreement as error:
                raise Disagreement(f"{error} (of sample {i}, answers {ids[i].tolist()})") from None


def check_buckets(report: Report, fast: hash_tables.Tables, reference: ref.hash_tables.Tables) -> None:
    """Check that every bucket holds the same neurons in the same order."""
    if isinstance(fast, hash_tables.CentroidTable):
        assert isinstance(reference, ref.hash_tables.CentroidTable)
        check_equal(report, "buckets", fast.ids, reference.buckets)
        return
    assert isinstance(reference, ref.hash_tables.HashTables)
    addresses = np.arange(fast.offsets.shape[1] - 1)
    starts, lengths = fast.slices(np.repeat(addresses[:, None], len(fast.ids), axis=1))
    for table, buckets in enumerate(reference.tables):
        sizes = np.array([len(buckets.get(address, ())) for address in addresses.tolist()])
        members = [neuron for address in sorted(buckets) for neuron in buckets[address]]
        check_equal(report, f"bucket sizes of table {table}", lengths[:, table], sizes)
        found = fast.ids.reshape(-1)[concatenate_slices(starts[:, table], lengths[:, table])]
        check_equal(report, f"buckets of table {table}", found, np.array(members, dtype=np.int32))
    if fast.occupancy() != reference.occupancy():
        raise Disagreement(f"occupancy: {fast.occupancy()} on the fast path, {reference.occupancy()} in the reference")
