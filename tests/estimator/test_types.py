"""What `slide_fast` offers by name: to type checkers, to `dir`, and without importing more than is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import slide_fast

ROOT = Path(__file__).parents[2]
NAMES = {
    "Config", "ConfigError", "DataError", "DivergedError", "ModelError", "SlideClassifier", "SlideError",
    "SlideTextClassifier", "WorkerDiedError", "__version__", "fit", "load_model",
}  # fmt: skip
SCRIPT = """
import numpy as np

import slide_fast
from slide_fast import Config, DataError, DivergedError, ModelError, SlideClassifier, SlideError, fit, load_model
from slide_ref.common.sparse_rows import Dataset

X, y = np.eye(4), np.arange(4)
model = SlideClassifier(hidden=(8,), n_workers=1, settings={"decay": "cosine"}).fit(X, y)
reveal_type(SlideClassifier)
reveal_type(model)
reveal_type(model.predict_topk(X, k=2))
reveal_type(model.score(X, y))
reveal_type(model.classes_)
reveal_type(SlideClassifier.load("run", mmap=True))
reveal_type(load_model("run").n_labels)
reveal_type(Config(epochs=3).learning_rate)
reveal_type(slide_fast.__version__)


def train(data: Dataset) -> list[str] | None:
    try:
        return fit(Config(), data, n_workers=1).label_names
    except (DataError, ModelError, DivergedError) as error:
        own: SlideError = error
        raise own


model.fitt(X)
SlideClassifier(hidden=(8,), epoch=3)
slide_fast.Classifier
"""
REVEALED = [
    "def (hidden: ",
    "slide_fast.estimator.classifier.SlideClassifier",
    "tuple[numpy.ndarray[",
    "float",
    "numpy.ndarray[",
    "slide_fast.estimator.classifier.SlideClassifier",
    "int",
    "float",
    "str",
]
WRONG = ['has no attribute "fitt"', 'Unexpected keyword argument "epoch"', 'has no attribute "Classifier"']


@pytest.mark.slow
def test_type_checkers_see_the_classes_and_functions(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file="]
    command += ["--no-error-summary", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "script.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    told = done.stdout.replace("builtins.", "").splitlines()
    notes = [line.partition('Revealed type is "')[2] for line in told if "Revealed" in line]
    assert len(notes) == len(REVEALED), done.stdout + done.stderr
    assert all(note.startswith(start) for note, start in zip(notes, REVEALED, strict=True)), notes
    errors = [line for line in told if ": error:" in line]
    assert len(errors) == len(WRONG) and all(map(str.__contains__, errors, WRONG)), done.stdout


def test_public_names_are_there_and_listed():
    assert set(slide_fast.__all__) == NAMES <= set(dir(slide_fast))
    assert all(getattr(slide_fast, name) is not None for name in NAMES)
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        slide_fast.__getattr__("Classifier")


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import slide_fast", ("numpy", "importlib.metadata", "slide_fast.estimator", "slide_ref.common.errors")),
        ("from slide_fast import SlideError, __version__", ("numpy", "slide_fast.estimator.classifier")),
        ("import slide_fast.cli.evaluate", ("sklearn", "scipy")),
        ("import slide_fast.engine.worker", ("slide_fast.estimator.classifier", "slide_fast.training", "sklearn")),
    ],
)
def test_a_name_is_imported_when_it_is_asked_for(code, absent):
    look = f"import sys; {code}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr
