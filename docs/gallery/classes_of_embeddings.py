"""Classes of embeddings: 5,000 products, each with photographs from three sides.

Embeddings are drawn, as no encoder comes with this package: a product has three centres in 256 dimensions, and a
photograph lies near one of them. A mean of all its photographs, as the nearest centroid needs, lies between the three;
a network with a hidden layer learns them all.
"""

import sys
import time

import numpy as np
from sklearn.neighbors import NearestCentroid

from slide_fast import SlideClassifier


def photographs(n_products, noise, n_each=12, seed=0):
    """Return embeddings of length 1, float32 of shape (n_products * n_each, 256), and the products they show."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_products, 3, 256), dtype=np.float32)
    products = np.repeat(np.arange(n_products), n_each)
    X = centres[products, rng.integers(3, size=len(products))]
    X += noise * rng.standard_normal(X.shape, dtype=np.float32)
    order = rng.permutation(len(products))
    return (X / np.linalg.norm(X, axis=1, keepdims=True))[order], products[order]


def main(n_products=5_000, picture=None):
    noises, accuracy = (0.5, 1.0, 1.5, 2.0), {"nearest centroid": [], "SLIDE": []}
    for noise in noises:
        X, y = photographs(n_products, noise)
        n_test = len(y) // 10
        for name, model in (("nearest centroid", NearestCentroid()), ("SLIDE", SlideClassifier(random_state=0))):
            started = time.perf_counter()
            model.fit(X[n_test:], y[n_test:])
            seconds = time.perf_counter() - started
            accuracy[name].append(np.mean(model.predict(X[:n_test]) == y[:n_test]))
            print(f"noise {noise}: {name:17} accuracy {accuracy[name][-1]:.1%}, {seconds:.0f} s of training")

    if picture:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
        for name, values in accuracy.items():
            axes.plot(noises, [100 * value for value in values], marker="o", label=name)
        axes.set(xlabel="noise, in standard deviations of a centre", ylabel="accuracy, per cent", ylim=(0, 100))
        axes.legend()
        figure.savefig(picture, dpi=150)
    return accuracy


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
