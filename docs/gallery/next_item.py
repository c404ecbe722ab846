"""The next item of a session: 20,000 items of a shop, and what a visitor looks at next.

Sessions are drawn, as no data come with this package: items lie in a space of 8 dimensions; a visitor has a taste that
moves a little with every step, and popular items are looked at more often. A sample is the bag of items seen so far,
and in a block of its own the last one; its label is the next item.
"""

import sys

import numpy as np
from scipy import sparse

from slide_fast import SlideClassifier

N_ITEMS = 20_000


def sessions(n, seed, length=6):
    """Return the items of n sessions, int array (n, length)."""
    rng = np.random.default_rng(seed)
    items = np.random.default_rng(0).standard_normal((N_ITEMS, 8)).astype(np.float32)  # the same shop for every seed
    popularity = -0.7 * np.log(1 + np.arange(N_ITEMS, dtype=np.float32))
    taste = 2 * rng.standard_normal((n, 8)).astype(np.float32)
    seen = np.empty((n, length), dtype=np.int64)
    for step in range(length):
        taste += 0.5 * rng.standard_normal(taste.shape, dtype=np.float32)
        for first in range(0, n, 1000):
            rows = slice(first, first + 1000)
            scores = taste[rows] @ items.T + popularity
            scores += rng.gumbel(size=scores.shape).astype(np.float32)  # the largest is a draw of the softmax
            seen[rows, step] = scores.argmax(axis=1)
    return seen


def samples(seen):
    """Return X, CSR of shape (n * (length - 1), 2 * N_ITEMS), and the next items y."""
    n, length = seen.shape
    prefixes, last, following = [], [], []
    for step in range(1, length):
        ends = np.arange(0, n * step + 1, step)
        prefixes.append(sparse.csr_array((np.ones(n * step), seen[:, :step].ravel(), ends), shape=(n, N_ITEMS)))
        last.append(seen[:, step - 1])
        following.append(seen[:, step])
    last = np.concatenate(last)
    latest = sparse.csr_array((np.ones(len(last)), (np.arange(len(last)), last)), shape=(len(last), N_ITEMS))
    return sparse.hstack([sparse.vstack(prefixes), latest], format="csr"), np.concatenate(following)


def followers(seen, k):
    """Return the k items that followed each item most often, -1 where there are fewer: a common baseline."""
    pairs = sparse.coo_array((np.ones(seen[:, 1:].size), (seen[:, :-1].ravel(), seen[:, 1:].ravel())),
                             shape=(N_ITEMS, N_ITEMS)).tocsr()  # fmt: skip
    found = np.full((N_ITEMS, k), -1)
    for item in range(N_ITEMS):
        row = slice(pairs.indptr[item], pairs.indptr[item + 1])
        best = pairs.indices[row][np.argsort(-pairs.data[row], kind="stable")[:k]]
        found[item, : len(best)] = best
    return found


def main(n=20_000, picture=None):
    seen, held_out = sessions(n, seed=1), sessions(max(n // 20, 100), seed=2)
    (X, y), (X_test, y_test) = samples(seen), samples(held_out)
    model = SlideClassifier(random_state=0).fit(X, y)

    k = 20
    ids, _ = model.predict_topk(X_test, k=k)
    last = held_out[:, :-1].T.ravel()
    popular = np.bincount(y, minlength=N_ITEMS).argsort()[::-1][:k]
    answers = {
        "the most popular": np.tile(popular, (len(y_test), 1)),
        "what followed most often": followers(seen, k)[last],
        "SLIDE": ids,
    }
    print(f"{len(y):,} samples, {N_ITEMS:,} items, {len(y_test):,} samples for testing")
    shares = {}
    for name, found in answers.items():
        shares[name] = (found == y_test[:, None]).cumsum(axis=1).mean(axis=0)
        print(f"{name:26} the next item is among the first 1: {shares[name][0]:.1%}, 5: {shares[name][4]:.1%}, "
              f"20: {shares[name][19]:.1%}")  # fmt: skip

    if picture:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
        for name, values in shares.items():
            axes.plot(np.arange(1, k + 1), 100 * values, label=name)
        axes.set(
            xlabel="items shown", ylabel="next item among them, per cent", xticks=(1, 5, 10, 15, 20), ylim=(0, None)
        )
        axes.legend()
        figure.savefig(picture, dpi=150)
    return shares


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
