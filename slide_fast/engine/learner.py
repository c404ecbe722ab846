"""One worker's operations on the network: training steps, and its part of a rebuild of the tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.divergence import check_loss
from slide_ref.common.hash_constants import HashConstants
from slide_ref.common.micro_batches import MicroBatch
from slide_ref.common.parameters import layers_of
from slide_ref.common.parts import Part, label_edges, parts_of
from slide_ref.common.schedule import in_batch_steps, total_steps
from slide_ref.common.sparse_rows import SparseRows

from ..active_sets import choose_in_part, settings_in, unite
from ..hash_tables import HashTables, hash_rows, insertion_order, priority_order, sort_table
from ..hashing import addresses_of, hash_constants
from ..hashing.centroid import fill_buckets, listed_by_groups, means, nearest
from ..kernels.scratch import Scratch
from ..network import LayerPass, Reduce, RowGradient, alone, backward, forward
from ..optimizers import update
from ..prediction import hidden_outputs
from ..sampling import Active
from .layout import tables_of


def parts_queried(
    config: Config, parts: Mapping[int, Part], step: int, n_samples: int, is_by_heart: bool = False
) -> list[int]:
    """Return the parts whose tables are queried by the step after `step` (S32, S37)."""
    all_are = step >= in_batch_steps(config, total_steps(config, n_samples)) and not is_by_heart
    return [word for word, part in parts.items() if all_are or part.layer < len(config.hidden)]


class Learner:
    """Network and tables in arrays that may be shared, with private buffers.

    Parameters
    ----------
    config : Config
    arrays : mapping of str to ndarray
        Parameters, moments and tables.
    n_labels : int
        Number of labels of the whole output layer.
    priors : ndarray of float64, shape (n_own_labels,)
        From `slide_ref.common.priors.label_priors`, for the labels of `shards`.
    shards : range, optional
        Shards of the output layer whose rows the arrays hold (S31); default: all.
    reduce : callable
        Combines sums over labels with those of the other shards; see `slide_fast.network.softmax_loss`.
    """

    def __init__(
        self,
        config: Config,
        arrays: Mapping[str, np.ndarray],
        n_labels: int,
        priors: np.ndarray,
        shards: range | None = None,
        reduce: Reduce = alone,
    ):
        self.config, self.arrays, self.scratch, self.reduce = config, arrays, Scratch(), reduce
        self.layers = layers_of(arrays)
        self.priors = priors if config.correction else None
        self.parts = parts_of(config, n_labels, shards)
        self.first_label = 0 if shards is None else label_edges(config, n_labels)[shards.start]
        self.tables = tables_of(self.parts, arrays)
        self.constants = {word: self._constants(part) for word, part in self.parts.items()}

    def _constants(self, part: Part) -> HashConstants:
        """Return the constants of a part's hash functions; centroids are in the arrays, written by a rebuild."""
        if part.lsh.family == "centroid":
            return self.arrays[f"centroids{part.name}"]
        return hash_constants(part.lsh, self.config.seed, part.word, self.layers[part.layer].W.shape[1])

    @np.errstate(over="ignore", invalid="ignore")  # check_loss says it better
    def train_step(self, batch: MicroBatch) -> tuple[float, float]:
        """Train on one micro-batch: forward, backward, update. Without labelled rows nothing changes (S10).

        Returns the mean loss and the mean number of active neurons of the labelled samples. Raises DivergedError if the
        loss shows that training diverged (S29); the step then changes nothing.
        """
        if not len(batch.samples):
            return 0.0, 0.0
        passes = forward(
            self.layers, batch.data.features, lambda l, inputs: self.choose_active(l, inputs, batch), self.scratch
        )
        loss, gradients = self.backward(passes, batch)
        check_loss(batch.step, loss)
        update(self.layers, gradients, batch.step, batch.rate, self.config, self.scratch)
        mask, logits = passes[-1].mask, passes[-1].outputs
        return loss, logits.shape[1] if mask is None else mask.sum() / len(mask)

    def backward(self, passes: list[LayerPass], batch: MicroBatch) -> tuple[float, list[RowGradient]]:
        """Return loss and gradient of a micro-batch; in the output layer, the gradient of the local labels."""
        labels = batch.data.labels
        return backward(self.layers, passes, labels, self.scratch, batch.weights, self.reduce, self.first_label)

    def choose_active(self, l: int, inputs: np.ndarray, batch: MicroBatch) -> Active | None:
        """Choose the active sets of layer l, given the layer's inputs; None: all neurons. Implements S25."""
        chosen, config = [], self.config
        for word, part in self.parts.items():
            if part.layer == l:
                addresses = None
                if settings_in(part, config, batch).L:
                    addresses = addresses_of(inputs, self.constants[word], part.lsh, config.seed, word)
                priors = self.priors_of(part)
                chosen.append(choose_in_part(part, self.tables[word], addresses, config, batch, self.scratch, priors))
        return unite(chosen, self.first_label if l == len(config.hidden) else 0) if chosen else None

    def priors_of(self, part: Part) -> np.ndarray | None:
        """Return the priors of a part's labels; None if logits are not corrected (S30)."""
        if self.priors is None or part.layer < len(self.config.hidden):
            return None
        return self.priors[part.first - self.first_label : part.last - self.first_label]

    def neurons_of(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights and biases of a part's neurons."""
        first = self.first_label if part.layer == len(self.config.hidden) else 0
        layer, rows = self.layers[part.layer], slice(part.first - first, part.last - first)
        return layer.W[rows], layer.b[rows]

    def order_insertion(self, word: int, rebuild: int) -> None:
        """Write the order in which the neurons of a part are inserted; first half of a rebuild."""
        part = self.parts[word]
        n = part.last - part.first
        self.arrays[f"insertion{part.name}"][:] = insertion_order(n, self.config.seed, word, rebuild)

    def hash_neurons(self, word: int, first: int, last: int) -> None:
        """Write the addresses of neurons `first` to `last` - 1 of a part; first half of a rebuild."""
        part = self.parts[word]
        W, addresses = self.neurons_of(part)[0][first:last], self.arrays[f"addresses{part.name}"][:, first:last]
        hash_rows(W, self.constants[word], part.lsh, self.config.seed, word, addresses)

    def sort_table(self, word: int, table: int, rebuild: int) -> None:
        """Make one table of a part from addresses and order of insertion; second half of a rebuild."""
        part, tables = self.parts[word], self.tables[word]
        assert isinstance(tables, HashTables)
        addresses, insertion = self.arrays[f"addresses{part.name}"][table], self.arrays[f"insertion{part.name}"]
        if part.lsh.policy == "reservoir":
            insertion = priority_order(len(insertion), self.config.seed, word, rebuild, table)
        sort_table(addresses, insertion, tables.ids[table], tables.offsets[table])

    def take_queries(self, word: int, first: int, features: SparseRows) -> None:
        """Write the inputs of a part's layer for some samples, as queries number `first` and up. Implements S34."""
        part = self.parts[word]
        for start in range(0, features.n_rows, self.config.micro_batch):
            rows = features.take(np.arange(start, min(start + self.config.micro_batch, features.n_rows)))
            inputs = hidden_outputs(self.layers[: part.layer + 1], rows, self.scratch)
            self.arrays[f"queries{part.name}"][first + start : first + start + len(inputs)] = inputs

    def assign_queries(self, word: int, first: int, last: int) -> None:
        """Write the cells of queries `first` to `last` - 1 of a part."""
        name, rows = self.parts[word].name, slice(first, last)
        queries, centroids = self.arrays[f"queries{name}"][rows], self.arrays[f"centroids{name}"]
        self.arrays[f"cells{name}"][rows] = nearest(queries, centroids, 1)[:, 0]

    def move_centroids(self, word: int, round: int) -> None:
        """Move the centroids of a part to the means of their cells; in round 0, set them to the first queries."""
        name = self.parts[word].name
        queries, centroids = self.arrays[f"queries{name}"], self.arrays[f"centroids{name}"]
        moved = means(queries, self.arrays[f"cells{name}"], centroids) if round else queries[: len(centroids)]
        centroids[:] = moved

    def list_neurons(self, word: int, first: int, last: int) -> None:
        """List the candidate neurons of groups `first` to `last` - 1 of a part's centroids. Implements S35."""
        part, listed = self.parts[word], self.arrays[f"listed{self.parts[word].name}"]
        centroids, groups = self.arrays[f"centroids{part.name}"], slice(first, last)
        listed[groups] = listed_by_groups(centroids, *self.neurons_of(part), listed.shape[1], groups)

    def fill_buckets(self, word: int, first: int, last: int) -> None:
        """Fill the buckets of centroids `first` to `last` - 1 of a part, in the order of groups. Implements S35."""
        part = self.parts[word]
        centroids, ids = self.arrays[f"centroids{part.name}"], self.tables[word].ids
        self.arrays[f"filled{part.name}"][:] = 1
        listed = self.arrays.get(f"listed{part.name}")
        fill_buckets(ids, centroids, *self.neurons_of(part), listed, slice(first, last))
