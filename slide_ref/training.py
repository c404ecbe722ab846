"""Training: one step, one epoch, a whole run (paper, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .common.config import Config
from .common.parameters import Layer, array_shapes, initialise, layers_of
from .common.sparse_rows import Dataset
from .hash_tables import HashTables, build_tables
from .hashing import addresses_of, hash_constants
from .network import Activation, RowGradient, backward, forward
from .optimizers import update
from .sampling import active_sets, vanilla
from .schedule import rebuild_steps, sample_order, steps_per_epoch


class MicroBatch(NamedTuple):
    """The labelled samples of one step.

    Attributes
    ----------
    data : Dataset
        Rows without labels are left out (S10).
    samples : ndarray of int64
        Index of each row in the training set.
    epoch, step : int
        Epoch from 0, step over the whole run from 1 (S13).
    n_unlabelled : int
        Rows left out.
    """

    data: Dataset
    samples: np.ndarray
    epoch: int
    step: int
    n_unlabelled: int


class StepReport(NamedTuple):
    """What one step did. `loss` is the mean over labelled rows (nan without any); `active` one set a sample."""

    loss: float
    n_labelled: int
    active: list[np.ndarray]
    gradients: list[RowGradient]


@dataclass
class Network:
    """Parameters, hash functions and tables. Only the last layer carries tables here.

    Attributes
    ----------
    config : Config
    layers : list of Layer
    constants : ndarray
        Of the last layer's hash functions.
    tables : HashTables or None
        None until `rebuild` is called.
    """

    config: Config
    layers: list[Layer]
    constants: np.ndarray
    tables: HashTables | None = None


def new_network(config: Config, n_features: int, n_labels: int, dtype: type = np.float32) -> Network:
    """A network with fresh weights in `dtype` (float32 or float64) and no tables yet (S1)."""
    shapes = array_shapes(config, n_features, n_labels)
    layers = layers_of({name: np.empty(shape, dtype) for name, shape in shapes.items()})
    initialise(layers, config.seed)
    constants = hash_constants(config.lsh, config.seed, len(layers) - 1, layers[-1].W.shape[1])
    return Network(config, layers, constants)


def rebuild(network: Network, number: int) -> None:
    """Hash all neurons of the last layer anew; `number` counts the rebuilds, 0 comes before step 1 (S14)."""
    last = len(network.layers) - 1
    config, W = network.config, network.layers[last].W
    network.tables = build_tables(W, network.constants, config.lsh, config.seed, last, number)


def micro_batch(config: Config, train: Dataset, order: np.ndarray, epoch: int, step: int) -> MicroBatch:
    """The samples of a step: its place in the epoch's order, rows without labels left out (S13)."""
    place = (step - 1) % steps_per_epoch(train.n_samples, config.micro_batch)
    samples = order[place * config.micro_batch : (place + 1) * config.micro_batch]
    labelled = samples[np.diff(train.labels.indptr)[samples] > 0]
    return MicroBatch(train.take(labelled), labelled, epoch, step, len(samples) - len(labelled))


def choose_active(network: Network, l: int, inputs: list[Activation], batch: MicroBatch) -> list[np.ndarray]:
    """The active set of each sample in layer l, from the activations that enter it (S8, S9)."""
    config, lsh, layer = network.config, network.config.lsh, network.layers[l]
    if l < len(network.layers) - 1 or lsh.min_active >= len(layer.b):
        return [np.arange(len(layer.b))] * len(inputs)
    retrieved = []
    for activation, sample in zip(inputs, batch.samples, strict=True):
        vector = np.zeros(layer.W.shape[1], dtype=layer.W.dtype)
        vector[activation.ids] = activation.values
        addresses = addresses_of(vector[None], network.constants, lsh, config.seed, l)[0]
        buckets = network.tables.query(addresses)
        retrieved.append(vanilla(buckets, lsh.budget, config.seed, l, batch.epoch, int(sample)))
    labels = [batch.data.labels.row(i)[0] for i in range(len(inputs))]
    return active_sets(
        retrieved, labels, lsh, config.scope, len(layer.b), config.seed, l, batch.epoch, batch.samples, batch.step
    )


def train_step(network: Network, batch: MicroBatch, active: list[np.ndarray] | None = None) -> StepReport:
    """Forward, backward and update for one micro-batch.

    Parameters
    ----------
    network : Network
        Changed in place.
    batch : MicroBatch
        Without labelled rows nothing changes (S10).
    active : list of ndarrays of int64, optional
        Active sets of the last layer to use instead of the tables' answer.
    """
    if not len(batch.samples):
        return StepReport(float("nan"), 0, [], [])

    def choose(l: int, inputs: list[Activation]) -> list[np.ndarray]:
        if active is not None and l == len(network.layers) - 1:
            return active
        return choose_active(network, l, inputs, batch)

    trace = forward(network.layers, batch.data.features, choose)
    loss, gradients = backward(network.layers, trace, batch.data.labels)
    update(network.layers, gradients, batch.step, network.config)
    return StepReport(loss, len(batch.samples), [logits.ids for logits in trace[-1]], gradients)


def fit(config: Config, train: Dataset, dtype: type = np.float32) -> tuple[Network, list[float]]:
    """Train a new network for `config.epochs` epochs.

    Returns
    -------
    network : Network
    losses : list of float
        Mean training loss over the labelled rows, one value an epoch.
    """
    network = new_network(config, train.features.n_columns, train.labels.n_columns, dtype)
    rebuild(network, 0)
    schedule = enumerate(rebuild_steps(config.rebuild_gap, config.rebuild_growth), start=1)
    number, next_rebuild = next(schedule)
    step = 0
    losses = []
    for epoch in range(config.epochs):
        order = sample_order(config.seed, epoch, train.n_samples)
        reports = []
        for _ in range(steps_per_epoch(train.n_samples, config.micro_batch)):
            if step == next_rebuild:
                rebuild(network, number)
                number, next_rebuild = next(schedule)
            step += 1
            reports.append(train_step(network, micro_batch(config, train, order, epoch, step)))
        labelled = sum(r.n_labelled for r in reports)
        losses.append(sum(r.loss * r.n_labelled for r in reports if r.n_labelled) / max(labelled, 1))
    return network, losses
