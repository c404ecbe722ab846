"""The examples in docstrings print what they say, and what users import has one."""

import doctest
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path

import pytest

import slide_fast
import slide_ref

ROOT = Path(__file__).parents[2]
PUBLIC = [getattr(slide_fast, name) for name in slide_fast.__all__]
ERRORS = [found for found in PUBLIC if inspect.isclass(found) and issubclass(found, slide_fast.SlideError)]
CALLED = [found for found in PUBLIC if callable(found) and found not in ERRORS]
# Further names of the page on the API, and what the reference teaches with.
OTHERS = (
    "slide_fast.data.read_dataset",
    "slide_fast.estimator.answers.PredictionMixin.predict_proba",
    "slide_fast.estimator.answers.PredictionMixin.predict_topk",
    "slide_fast.estimator.classifier.SlideClassifier.load",
    "slide_fast.estimator.embeddings.EmbeddingMixin.similar_labels",
    "slide_fast.training.fit_with_state",
    "slide_ref.common.metrics.precision_at",
    "slide_ref.common.sparse_rows.SparseRows",
    "slide_ref.common.storage.model_folder.save_model",
    "slide_ref.hash_tables.HashTables",
    "slide_ref.hashing.simhash.simhash_codes",
    "slide_ref.sampling.top_k",
)


def modules():
    for package in (slide_ref, slide_fast):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def examples():
    """All docstrings with examples, by full name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return {test.name: test for module in modules() for test in finder.find(module) if test.examples}


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(name, tmp_path, monkeypatch):
    """Each in an empty folder, without what is defined in its module: users import what they use."""
    monkeypatch.chdir(tmp_path)
    test, printed = EXAMPLES[name], io.StringIO()
    test.globs = {}
    failed, _ = doctest.DocTestRunner().run(test, out=printed.write)
    assert not failed, printed.getvalue()


@pytest.mark.parametrize("name", [*(f"{found.__module__}.{found.__qualname__}" for found in CALLED), *OTHERS])
def test_what_users_call_has_an_example(name):
    assert name in EXAMPLES


def test_examples_train_with_one_worker():
    """With more, no two runs are the same."""
    trains = re.compile(r"\bfit(_with_state)?\([Cc]onfig|Classifier\(")
    sources = [example.source for test in EXAMPLES.values() for example in test.examples]
    training = [source for source in sources if trains.search(source)]
    assert training and [source for source in training if "n_workers=1" not in source] == []


def test_an_example_that_prints_something_else_is_noticed():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(wrong, out=lambda _: None).failed == 1


# The tour walks through the reference, whose functions are there to be read.
IMPORTED = re.compile(r"^from (slide_(?:fast|ref)(?:\.\w+)*) import (.+)$", re.MULTILINE)
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "tour.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_pages_import_is_on_the_page_of_the_api(page):
    """Else a reader would rely on what docs/compatibility.md calls internal."""
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for module, names in IMPORTED.findall(page.read_text(encoding="utf-8")):
        for name in names.split(", "):
            assert f"::: {module}.{name}" in api or (f"`{name}`" in api and f"`{module}`" in api), f"{module}.{name}"
