"""The probability that a neuron was active, which corrects the logits of a sampled output layer (S30)."""

from __future__ import annotations

import numpy as np


def inclusion(
    active: list[np.ndarray], retrieved: list[np.ndarray], labels: list[np.ndarray], scope: str, priors: np.ndarray
) -> list[np.ndarray]:
    """Return the probability that each neuron of a sample's active set was included in it. Implements S30.

    Parameters
    ----------
    active : list of ndarrays of int64
        From `active_sets`.
    retrieved, labels, scope
        The arguments that `active_sets` took.
    priors : ndarray of float64, shape (n_neurons,)
        From `slide_ref.common.priors.label_priors`.

    Returns
    -------
    list of ndarrays of float64, each with the shape of its active set
    """
    n, probabilities = len(priors), []
    found = [np.unique(np.concatenate(retrieved))] * len(active) if scope == "batch" else retrieved
    for i, ids in enumerate(active):
        known = np.concatenate(labels) if scope == "batch" else labels[i]
        held = np.union1d(found[i], known)
        drawn = (len(ids) - len(held)) / max(n - len(held), 1)
        absent = 1 - drawn
        if scope == "batch":  # the labels of each other sample might have brought it in
            absent = absent * (1 - priors[ids]) ** (len(active) - 1)
        certain = np.isin(ids, np.union1d(found[i], labels[i]))
        probabilities.append(np.where(certain, 1.0, 1 - absent))
    return probabilities
