"""Tags of texts: from a docstring of Python's standard library to its module and the names of its parameters.

The texts come with every Python, so nothing is downloaded. A text has about three of some thousand tags: names such as
``path``, ``encoding`` or ``socket``. A tenth of the texts is for testing.
"""

import ast
import sys
import sysconfig
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from slide_fast import SlideTextClassifier


def docstrings(most=100_000):
    """Return texts and their tags: module and parameters of functions that have a docstring."""
    texts, tags = [], []
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if "site-packages" in path.parts or len(texts) >= most:
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # some are there to be wrong
        module = path.relative_to(library).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
                names = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)} - {"self", "cls"}
                texts.append(text)
                tags.append([module, *sorted(names)])
    return texts[:most], tags[:most]


def main(most=100_000, picture=None):
    texts, tags = docstrings(most)
    order = np.random.default_rng(0).permutation(len(texts))
    train, test = order[len(texts) // 10 :], order[: len(texts) // 10]
    X_train, y_train = [texts[i] for i in train], [tags[i] for i in train]
    X_test, y_test = [texts[i] for i in test], [tags[i] for i in test]

    model = SlideTextClassifier(random_state=0).fit(X_train, y_train)
    found = model.predict_topk(X_test, k=5)[0]

    common = [tag for tag, _ in Counter(tag for own in y_train for tag in own).most_common(5)]
    print(f"{len(train):,} texts, {len(model.classes_):,} tags, {len(test):,} texts for testing")
    shares = {}
    for name, answers in {"the commonest tags": [common] * len(test), "SLIDE": found}.items():
        hits = np.array([[tag in own for tag in row] for row, own in zip(answers, y_test, strict=True)])
        shares[name] = [hits[:, :k].mean() for k in (1, 3, 5)]
        print(f"{name:20}" + "  ".join(f"P@{k} {share:5.1%}" for k, share in zip((1, 3, 5), shares[name], strict=True)))
    for text in ("Open a file and return its contents, decoded.", "Wait until the lock is free, or for some seconds."):
        print(text, "->", ", ".join(model.predict_topk([text], k=5)[0][0]))

    if picture:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
        for place, (name, values) in enumerate(shares.items()):
            axes.bar(np.arange(3) + 0.4 * place, [100 * value for value in values], width=0.38, label=name)
        axes.set(xticks=np.arange(3) + 0.2, xticklabels=["P@1", "P@3", "P@5"], ylabel="per cent")
        axes.legend()
        figure.savefig(picture, dpi=150)
    return shares


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
