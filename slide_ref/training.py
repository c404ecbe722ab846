"""Training: one step, one epoch, a whole run (paper, algorithm 1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .active_sets import choose_active
from .common.config import Config
from .common.divergence import check_loss, check_weights
from .common.hash_constants import ROUNDS, samples_to_cluster
from .common.micro_batches import MicroBatch, micro_batch
from .common.parameters import array_shapes, initialise, layers_of
from .common.parts import parts_of
from .common.priors import label_priors
from .common.schedule import (
    fresh_steps,
    in_batch_steps,
    learns_by_heart,
    n_epochs,
    rebuild_steps,
    repeated_steps,
    sample_order,
    steps_per_epoch,
    total_steps,
)
from .common.sparse_rows import Dataset, SparseRows
from .hash_tables import CentroidTable, HashTables, build_tables
from .hashing import hash_constants
from .hashing.centroid import buckets_of, k_means
from .network import Activation, Network, RowGradient, backward, forward
from .optimizers import update
from .prediction import hidden_outputs


class StepReport(NamedTuple):
    """Results of one step.

    Attributes
    ----------
    loss : float
        Weighted mean over the labelled rows; nan if there are none.
    n_labelled : int
    active : dict of int to list of ndarrays of int64
        For each layer after the first, the active set of each labelled row.
    gradients : list of RowGradient, one per layer
    inclusion : list of ndarrays of float64, or None
        Inclusion probabilities of the output's active sets; None if logits were not corrected.
    """

    loss: float
    n_labelled: int
    active: dict[int, list[np.ndarray]]
    gradients: list[RowGradient]
    inclusion: list[np.ndarray] | None = None


class Earlier(NamedTuple):
    """A network to train further (S13).

    Attributes
    ----------
    network : Network
        Only its layers are used.
    steps, epochs, rebuilds : int
        Those of the training before; `rebuilds` includes the build before its first step.
    """

    network: Network
    steps: int = 0
    epochs: int = 0
    rebuilds: int = 0


def new_network(config: Config, n_features: int, n_labels: int, dtype: type = np.float32) -> Network:
    """Make a network with initial weights in `dtype`, float32 or float64, and without tables. Implements S1.

    Raises
    ------
    ConfigError
        If there are more shards than labels.
    """
    shapes = array_shapes(config, n_features, n_labels)
    layers = layers_of({name: np.empty(shape, dtype) for name, shape in shapes.items()})
    initialise(layers, config)
    parts = parts_of(config, n_labels)
    constants = {w: hash_constants(p.lsh, config.seed, w, layers[p.layer].W.shape[1]) for w, p in parts.items()}
    return Network(config, layers, parts, constants, {})


def mean_loss(reports: list[StepReport]) -> float:
    """Return the mean loss over the labelled samples of some steps; nan if there are none."""
    n_labelled = sum(report.n_labelled for report in reports)
    loss = sum(report.loss * report.n_labelled for report in reports if report.n_labelled)
    return loss / n_labelled if n_labelled else float("nan")


def rebuild(network: Network, number: int, features: SparseRows | None = None) -> None:
    """Rebuild all tables from the current weights. Implements S14, S34 and S35.

    The output layer's tables stay empty in a run that memorises its samples (S37).

    Parameters
    ----------
    network : Network
    number : int
        Number of the rebuild; 0 takes place before step 1.
    features : SparseRows, optional
        Features of the training samples; only centroid tables need them.
    """
    seed = network.config.seed
    for word, part in network.parts.items():
        layer, lsh = network.layers[part.layer], part.lsh
        W, b = layer.W[part.first : part.last], layer.b[part.first : part.last]
        if network.is_by_heart and part.layer == len(network.layers) - 1:
            network.tables[word] = HashTables(lsh.L, 1)
        elif lsh.family != "centroid":
            network.tables[word] = build_tables(W, network.constants[word], lsh, seed, word, number)
        elif lsh.L == 0:
            network.tables[word] = CentroidTable(np.empty((0, lsh.room(len(b))), dtype=np.int32))
        else:
            assert features is not None
            samples = samples_to_cluster(lsh, seed, part.layer, number, features.n_rows)
            queries = hidden_outputs(network.layers[: part.layer + 1], features.take(samples))
            centroids = network.constants[word] = k_means(queries, lsh.n_centroids, ROUNDS)
            network.tables[word] = CentroidTable(buckets_of(centroids, W, b, lsh))


@np.errstate(over="ignore", invalid="ignore")  # check_loss says it better
def train_step(
    network: Network,
    batch: MicroBatch,
    active: dict[int, list[np.ndarray]] | None = None,
    probabilities: list[np.ndarray] | None = None,
) -> StepReport:
    """Train on one micro-batch: forward, backward, update. Implements S29.

    Parameters
    ----------
    network : Network
        Changed in place.
    batch : MicroBatch
        Without labelled rows nothing changes (S10).
    active : dict of int to list of ndarrays of int64, optional
        By layer, active sets to use instead of querying the tables.
    probabilities : list of ndarrays of float64, optional
        Inclusion probabilities of such a set of the output layer, to correct its logits (S30).

    Raises
    ------
    DivergedError
        If the loss shows that training diverged; the step then changes nothing.
    """
    if not len(batch.samples):
        return StepReport(float("nan"), 0, {}, [])

    def choose(l: int, inputs: list[Activation]) -> list[np.ndarray]:
        nonlocal probabilities
        if active and l in active:
            return active[l]
        sets, probabilities = choose_active(network, l, inputs, batch)
        return sets

    trace = forward(network.layers, batch.data.features, choose)
    loss, gradients = backward(network.layers, trace, batch.data.labels, batch.weights, probabilities)
    check_loss(batch.step, loss)
    update(network.layers, gradients, batch.step, batch.rate, network.config)
    sets = {l: [activation.ids for activation in trace[l + 1]] for l in range(1, len(network.layers))}
    return StepReport(loss, len(batch.samples), sets, gradients, probabilities)


def fit(
    config: Config,
    train: Dataset,
    dtype: type = np.float32,
    weights: np.ndarray | None = None,
    earlier: Earlier | None = None,
) -> tuple[Network, list[float]]:
    """Train a new network, or an earlier one further, with one worker. Implements S13 and S18.

    The same settings and data give the same bytes on the same machine and libraries, since all randomness is keyed.

    Parameters
    ----------
    config : Config
    train : Dataset
        Canonical rows.
    dtype : type
        Of a new network: float32 or float64.
    weights : ndarray of float, shape (n_samples,), optional
        Weight of each sample, finite and at least 0 (S10); default: all equal.
    earlier : Earlier, optional
        Its layers are changed in place. Settings may differ, but for those that change the shapes of arrays.

    Returns
    -------
    network : Network
    losses : list of float
        Mean training loss over the labelled rows, one value per epoch.

    Raises
    ------
    DivergedError
        If training diverged (S29).
    """
    network = new_network(config, train.features.n_columns, train.labels.n_columns, dtype)
    if earlier is None:
        earlier = Earlier(network)
    network.layers = earlier.network.layers
    network.priors = label_priors(train.labels) if config.correction else None
    rebuild(network, earlier.rebuilds, train.features)
    n_steps, per_epoch = total_steps(config, train.n_samples), steps_per_epoch(train.n_samples, config.micro_batch)
    alone = in_batch_steps(config, n_steps)
    due = {step: number for number, step in enumerate(rebuild_steps(config, n_steps), start=earlier.rebuilds + 1)}
    losses: list[float] = []
    steps: list[StepReport] = []  # without active sets and gradients
    for epoch in range(earlier.epochs, earlier.epochs + n_epochs(config, train.n_samples)):
        order = sample_order(config.seed, epoch, train.n_samples)
        for step in range(len(steps), len(steps) + per_epoch):
            if step == alone:
                halves = ([steps[i - 1] for i in of(config, train.n_samples)] for of in (fresh_steps, repeated_steps))
                network.is_by_heart = learns_by_heart(config, *map(mean_loss, halves))
            if step in due:
                rebuild(network, due[step], train.features)
            batch = micro_batch(config, train, order, epoch, step + 1, weights)
            report = train_step(network, batch._replace(step=earlier.steps + step + 1))
            steps.append(StepReport(report.loss, report.n_labelled, {}, []))
        losses.append(mean_loss(steps[-per_epoch:]))
    for l, layer in enumerate(network.layers):
        check_weights(earlier.steps + n_steps, {f"W{l}": layer.W, f"b{l}": layer.b})
    return network, losses
