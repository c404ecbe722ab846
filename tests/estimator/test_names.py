"""Names survive: of labels, of columns, of parameters; with scikit-learn and without."""

import os
import subprocess
import sys

import numpy as np
import pytest

from slide_fast import SlideClassifier

pd = pytest.importorskip("pandas")

PARAMETERS = [
    {}, {"hidden": (64,)}, {"hidden": [64, 32], "n_workers": 1}, {"settings": {"lsh": {"K": 4}}, "random_state": None},
    {"epochs": 0}, {"patience": 3, "verbose": True, "learning_rate": 0.5},
]  # fmt: skip
WITHOUT = """
import sys
sys.modules["sklearn"] = None
from slide_fast import SlideClassifier
for parameters in {parameters}:
    print(repr(SlideClassifier(**parameters)))
"""
WITHOUT_NAMES = """
import sys, warnings
sys.modules["sklearn"] = None
from test_names import look
look({folder!r})
"""


def python(code):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_repr_is_the_same_without_scikit_learn():
    pytest.importorskip("sklearn")
    told = python(WITHOUT.format(parameters=PARAMETERS)).splitlines()
    assert told == [repr(SlideClassifier(**parameters)) for parameters in PARAMETERS]
    assert told[1] == "SlideClassifier(hidden=(64,))"


def test_subclasses_are_shown_and_copied_without_scikit_learn():
    told = python(
        """
import copy, sys
sys.modules["sklearn"] = None
from slide_fast import SlideClassifier
class Own(SlideClassifier):
    def __init__(self, own=1, **others):
        super().__init__(**others)
        self.own = own
class Bare(SlideClassifier):
    def __init__(self):
        pass
print(Own(), Own(own=2), vars(copy.copy(Bare())))
"""
    )
    assert told == "Own() Own(own=2) {}\n"


def table(names):
    return pd.DataFrame(np.eye(len(names), dtype=np.float32).repeat(10, axis=0), columns=names)


def small(**settings):
    return SlideClassifier(**{"hidden": (8,), "epochs": 4, "micro_batch": 10, "n_workers": 1} | settings)


NAMES = ["é\n,", "b", "", "0"]
Y = np.arange(4).repeat(10)


def look(folder):
    """Fit on named columns, save and load; what other columns say."""
    first = small().fit(table(NAMES), Y)
    first.save(os.path.join(folder, "model"))
    loaded = SlideClassifier.load(os.path.join(folder, "model"))
    loaded.save(os.path.join(folder, "again"))
    for model in (first, loaded, SlideClassifier.load(os.path.join(folder, "again"), mmap=True)):
        assert model.feature_names_in_.tolist() == NAMES and model.feature_names_in_.dtype == object
        model.predict(table(NAMES))
        with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
            model.predict(table(NAMES[::-1]))
        with pytest.raises(ValueError, match="unseen at fit time:\n- c\nFeature names seen at fit time, .*:\n- b\n"):
            model.predict_topk(table(["é\n,", "c", "", "0"]), k=1)
        with pytest.raises(ValueError, match="unseen at fit time:\n- 1\n- 10\n- 11\n- 12\n- 2\n- \\.\\.\\.\n"):
            model.partial_fit(table([str(i) for i in range(13)]), np.arange(13).repeat(10) % 4)
        with pytest.raises(TypeError, match="only supported if all input features have string names"):
            model.score(table([*NAMES[:3], 0]), Y)
        for X in (table(NAMES).to_numpy(), table(range(4))):
            with pytest.warns(UserWarning, match="X does not have valid feature names"):
                model.predict_proba(X)
    unnamed = small().fit(table(NAMES), Y).fit(table(range(4)), Y)
    assert not hasattr(unnamed, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but SlideClassifier was fitted without feature names"):
        unnamed.predict(table(NAMES))


def test_names_of_columns_are_kept_and_checked(tmp_path):
    look(str(tmp_path))


def test_names_of_columns_are_kept_and_checked_without_scikit_learn(tmp_path):
    python(WITHOUT_NAMES.format(folder=str(tmp_path)))
