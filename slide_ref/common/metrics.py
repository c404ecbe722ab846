"""Metrics of ranked predictions (S16). Each is a fraction in 0..1.

P@k and nDCG@k are averaged over all samples; PSP@k and recall by frequency are ratios of two sums over all samples.
The metrics are those of the Extreme Classification Repository. Throughout, `ids` holds one row of predicted labels per
sample, best first and distinct, -1 where a prediction is missing, and `labels` holds the true ones in canonical form. A
sample without true labels counts as 0. If `ids` has fewer than k columns, the rest counts as missing.
"""

from __future__ import annotations

import numpy as np

from .errors import DataError
from .sparse_rows import SparseRows

RANKS = (1, 3, 5)


def hits_at(ids: np.ndarray, labels: SparseRows, k: int) -> np.ndarray:
    """Mark which of the first `k` predictions of each sample are true labels: bool, shape (n_samples, <= k).

    Raises DataError as `precision_at` does.
    """
    if len(ids) != labels.n_rows or labels.n_rows == 0:
        raise DataError(f"predictions for {len(ids)} samples cannot be compared with {labels.n_rows} rows of labels")
    first = np.asarray(ids)[:, :k]
    width = max(labels.n_columns, int(first.max(initial=0)) + 1)
    true_keys = labels.row_of() * width + labels.indices
    return np.isin(np.arange(len(first))[:, None] * width + first, true_keys) & (first >= 0)


def precision_at(ids: np.ndarray, labels: SparseRows, k: int) -> float:
    """Return P@k, the fraction of true labels among the first k predictions: hits / k. Implements S16.

    Parameters
    ----------
    ids : integer ndarray, shape (n_samples, at least k if there are so many labels)
    labels : SparseRows, shape (n_samples, n_labels)
    k : int

    Raises
    ------
    DataError
        If there are no samples, or `ids` and `labels` have different numbers of them.

    Examples
    --------
    Of four predictions three are right:

    >>> import numpy as np
    >>> from slide_ref.common.metrics import precision_at
    >>> from slide_ref.common.sparse_rows import rows_from_lists
    >>> precision_at(np.array([[4, 1], [0, 2]]), rows_from_lists([[1, 4], [0]], n_columns=5), k=2)
    0.75
    """
    return float(hits_at(ids, labels, k).sum() / (k * labels.n_rows))


def ndcg_at(ids: np.ndarray, labels: SparseRows, k: int) -> float:
    """Return nDCG@k: hits discounted by 1 / log2(rank + 1), over that sum for min(k, labels) hits. Implements S16.

    Raises DataError as `precision_at` does.
    """
    hits = hits_at(ids, labels, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(np.diff(labels.indptr), k)]
    gained = (hits * discounts[: hits.shape[1]]).sum(axis=1)
    return float(np.divide(gained, best, out=np.zeros(len(best)), where=best > 0).mean())


def psp_at(ids: np.ndarray, labels: SparseRows, k: int, inverse_propensities: np.ndarray) -> float:
    """Return PSP@k: hits weighted by inverse propensity, over the largest attainable value. Implements S16.

    Parameters
    ----------
    ids, labels, k
        As in `precision_at`.
    inverse_propensities : ndarray, shape (at least n_labels,)
        From `inverse_propensity`. Rare labels weigh more.

    Raises
    ------
    DataError
        As for `precision_at`, or if there are labels without a propensity.
    """
    if len(inverse_propensities) < labels.n_columns:
        raise DataError(f"{labels.n_columns} labels but only {len(inverse_propensities)} propensities")
    hits = hits_at(ids, labels, k)
    gained = inverse_propensities[np.asarray(ids)[:, :k][hits]].sum()
    weights = inverse_propensities[labels.indices]
    row_of = labels.row_of()
    heaviest_first = np.lexsort((-weights, row_of))
    place_in_row = np.arange(labels.nnz) - labels.indptr[row_of]
    best = weights[heaviest_first][place_in_row < k].sum()
    return float(gained / best) if labels.nnz else 0.0


def recall_at(ids: np.ndarray, best: np.ndarray, k: int) -> float:
    """Return the fraction of the exact top k that is among the first k of other answers. Implements S28.

    Parameters
    ----------
    ids, best : integer ndarrays, shape (n_samples, at least k)
        Answers to judge, and exact ones; distinct ids, -1 where there is none.
    k : int

    Returns
    -------
    float
        Averaged over the samples; there must be at least one.
    """
    ids, best = ids[:, :k], best[:, :k]
    is_there = best >= 0
    hits = (best[:, :, None] == ids[:, None, :]).any(axis=2) & is_there
    return float((hits.sum(axis=1) / is_there.sum(axis=1)).mean())


def inverse_propensity(label_counts: np.ndarray, n_samples: int, A: float = 0.55, B: float = 1.5) -> np.ndarray:
    """Return 1 / p of each label, where p is the probability that a true label is assigned. Implements S16.

    1/p = 1 + C (count + B)^-A with C = (ln n_samples - 1) (B + 1)^A (Jain, Prabhu and Varma, KDD 2016). Fewer than
    three samples would make C negative; it is then 0.

    Parameters
    ----------
    label_counts : integer ndarray, shape (n_labels,)
        Training samples that carry each label.
    n_samples : int
        Training samples, at least 1.
    A, B : float
        Constants of the data set: 0.55 and 1.5 by default (Wikipedia: 0.5 and 0.4, Amazon: 0.6 and 2.6).

    Returns
    -------
    ndarray of float64, shape (n_labels,), all at least 1.
    """
    C = max(np.log(n_samples) - 1, 0.0) * (B + 1) ** A
    return 1 + C * (np.asarray(label_counts) + B) ** -A


def evaluate(
    ids: np.ndarray, labels: SparseRows, inverse_propensities: np.ndarray | None = None
) -> dict[str, float | int]:
    """Compute all metrics at 1, 3 and 5. Implements S16.

    Parameters
    ----------
    ids : integer ndarray, shape (n_samples, at least 5 if there are so many labels)
    labels : SparseRows, shape (n_samples, n_labels)
    inverse_propensities : ndarray, shape (at least n_labels,), optional

    Returns
    -------
    dict
        ``precision_at_1``, ``_3``, ``_5``, ``ndcg_at_1`` ..., ``psp_at_1`` ... (with propensities only), and the
        counts ``n_samples`` and ``n_unlabelled``.

    Raises
    ------
    DataError
        As for `precision_at` and `psp_at`.
    """
    figures: dict[str, float | int] = {f"precision_at_{k}": precision_at(ids, labels, k) for k in RANKS}
    figures |= {f"ndcg_at_{k}": ndcg_at(ids, labels, k) for k in RANKS}
    if inverse_propensities is not None:
        figures |= {f"psp_at_{k}": psp_at(ids, labels, k, inverse_propensities) for k in RANKS}
    n_unlabelled = int(np.count_nonzero(np.diff(labels.indptr) == 0))
    return figures | {"n_samples": labels.n_rows, "n_unlabelled": n_unlabelled}


GROUPS = ("head", "torso", "tail")


def by_frequency(ids: np.ndarray, labels: SparseRows, label_counts: np.ndarray) -> list[dict[str, float | int | str]]:
    """Split the hits at 5 by label frequency: frequent, medium and rare labels. Implements S16.

    Labels are sorted by training count, largest first; ties go to the lower id. The head is the first labels that
    together make up a third of all label occurrences in training, the torso makes up the second third, and the tail is
    the rest, including labels that never occur.

    Parameters
    ----------
    ids : integer ndarray, shape (n_samples, at least 5 if there are so many labels)
    labels : SparseRows, shape (n_samples, n_labels)
    label_counts : integer ndarray, shape (n_labels,)
        Training samples that carry each label.

    Returns
    -------
    list of dict, one per group
        ``group``; ``n_labels`` in it; ``n_true``, true labels of the samples; ``hits`` among the first 5 predictions;
        ``recall_at_5``, hits over true labels (0 without any).

    Raises
    ------
    DataError
        As for `precision_at`, or if there are labels without a count.
    """
    counts = np.asarray(label_counts, dtype=np.int64)
    if len(counts) < labels.n_columns:
        raise DataError(f"{labels.n_columns} labels but only {len(counts)} counts")
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    group_of = np.empty(len(counts), dtype=np.int64)
    group_of[order] = np.minimum(before * len(GROUPS) // max(counts.sum(), 1), len(GROUPS) - 1)
    group_of[counts == 0] = len(GROUPS) - 1
    hits = np.bincount(group_of[np.asarray(ids)[:, :5][hits_at(ids, labels, 5)]], minlength=len(GROUPS))
    true = np.bincount(group_of[labels.indices], minlength=len(GROUPS))
    sizes = np.bincount(group_of, minlength=len(GROUPS))
    return [
        {
            "group": name,
            "n_labels": int(size),
            "n_true": int(n_true),
            "hits": int(n_hits),
            "recall_at_5": float(n_hits / max(n_true, 1)),
        }
        for name, size, n_true, n_hits in zip(GROUPS, sizes, true, hits, strict=True)
    ]
