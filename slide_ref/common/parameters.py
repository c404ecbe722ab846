"""The parameters of a network, and the optimiser's moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import Config
from .storage.array_files import Arrays

ARRAYS_OF_A_LAYER = ("W", "b", "W_m", "W_v", "b_m", "b_v")


@dataclass
class Layer:
    """Weights of one layer and the optimiser's moments, all of one dtype. Implements S1.

    Attributes
    ----------
    W : ndarray
        First layer: shape (n_features, n_neurons), one row per feature. Every other layer: shape (n_neurons, n_inputs),
        one row per neuron.
    b : ndarray, shape (n_neurons,)
    W_m, b_m : ndarray
        The optimiser's first moments, with the shapes of `W` and `b`, for Adam with beta1 > 0 and SGD with momentum.
        None otherwise, and in a model that is not trained further.
    W_v, b_v : ndarray
        Adam's second moments: one for each row of `W`, one for each bias. None for SGD, and in a model that is not
        trained further.
    """

    W: np.ndarray
    b: np.ndarray
    W_m: np.ndarray | None = None
    W_v: np.ndarray | None = None
    b_m: np.ndarray | None = None
    b_v: np.ndarray | None = None


def array_shapes(config: Config, n_features: int, n_labels: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all parameters and moments: ``W0``, ``b0``, ``W_m0``, ... for layer 0, and so on.

    Includes only the moments that the optimiser needs (S12, S26).
    """
    sizes = (*config.hidden, n_labels)
    is_adam = config.optimizer == "adam"
    has = {"": True, "_m": (config.beta1 if is_adam else config.momentum) > 0, "_v": is_adam}
    shapes: dict[str, tuple[int, ...]] = {}
    for l, n_neurons in enumerate(sizes):
        weights = (n_features, n_neurons) if l == 0 else (n_neurons, sizes[l - 1])
        of_weights = {"W": weights, "W_m": weights, "W_v": weights[:1]}
        for name in ARRAYS_OF_A_LAYER:
            if has[name[1:]]:
                shapes[f"{name}{l}"] = of_weights.get(name, (n_neurons,))
    return shapes


def layers_of(arrays: Arrays) -> list[Layer]:
    """Group arrays named as in `array_shapes` into layers, first to last. Arrays in memory are not copied."""
    whole = {name: np.asarray(array) for name, array in arrays.items()}
    n_layers = sum(name[0] == "b" and name[1:].isdigit() for name in whole)
    fields = [[whole.get(f"{name}{l}") for name in ARRAYS_OF_A_LAYER[2:]] for l in range(n_layers)]
    return [Layer(whole[f"W{l}"], whole[f"b{l}"], *moments) for l, moments in enumerate(fields)]


def _fill_mirrored(W: np.ndarray, config: Config) -> None:
    """Fill weights (n_inputs, n_neurons) of neurons in pairs, one of which passes on what the other cuts off.

    Implements S40. A pair looks along a direction and against it, so that together they see all of the input along it.
    As many directions as there are inputs are orthonormal, and the next are so again.
    """
    n_inputs, n_neurons = W.shape
    generator, n_pairs = np.random.default_rng([config.seed, 0]), -(-n_neurons // 2)
    for first in range(0, n_pairs, max(n_inputs, 1)):
        drawn = generator.standard_normal((n_inputs, min(n_inputs, n_pairs - first)))
        basis = np.linalg.qr(drawn)[0] * (0.4 * config.input_scale * np.sqrt(n_inputs))
        for start, directions in ((first, basis), (n_pairs + first, -basis)):
            columns = W[:, start : start + basis.shape[1]]  # an odd number of neurons leaves one without its pair
            columns[...] = directions[:, : columns.shape[1]]


def _fill_gaussian(W: np.ndarray, generator: np.random.Generator, deviation: float, skipped: int) -> None:
    """Fill weights row by row; the values of the first `skipped` rows of the whole layer are drawn, but not kept."""
    for start in range(0, skipped + len(W), 4096):
        end = min(start + 4096, skipped + len(W))
        values = generator.standard_normal((end - start, W.shape[1]), dtype=np.float32)
        block = W[max(start - skipped, 0) : max(end - skipped, 0)]
        block[...] = values[len(values) - len(block) :] * np.float32(deviation)


def initialise(layers: list[Layer], config: Config, first_label: int = 0) -> None:
    """Fill weights with small Gaussian values from a NumPy Generator, biases and moments with zeros.

    Implements S1, S39 and S40.

    Weights of layers after the first have standard deviation 1/sqrt(3 n_inputs), the first layer's 0.1 times
    `input_scale`: its inputs are sparse, so the number of features says nothing about the size of the sum. If the last
    layer holds only labels from `first_label` on, it gets the values of these labels in the whole layer. With
    `initial_weights` "mirrored" the first layer's neurons come in pairs, and the last layer's weights are zeros.
    """
    is_mirrored, last = config.initial_weights == "mirrored", len(layers) - 1
    for l, layer in enumerate(layers):
        if is_mirrored and l == last:
            layer.W[...] = 0
        elif is_mirrored and l == 0:
            _fill_mirrored(layer.W, config)
        else:
            deviation = 1 / np.sqrt(3 * layer.W.shape[1]) if l else 0.1 * config.input_scale
            _fill_gaussian(layer.W, np.random.default_rng([config.seed, l]), deviation, first_label if l == last else 0)
        for array in (layer.b, layer.W_m, layer.W_v, layer.b_m, layer.b_v):
            if array is not None:
                array[...] = 0
