"""A call that fails leaves an estimator exactly as it was; Ctrl-C leaves what was learned, under its own names."""

import pickle
import signal

import numpy as np
import pytest

from slide_fast import SlideClassifier
from slide_ref.common.errors import ConfigError, DataError, DivergedError, ModelError, WorkerDiedError

pandas = pytest.importorskip("pandas")

N_CLASSES = 6
FEATURES = np.eye(N_CLASSES, dtype=np.float32)[np.arange(60) % N_CLASSES]
OLD = pandas.DataFrame(FEATURES, columns=[f"f{i}" for i in range(N_CLASSES)])
NEW = pandas.DataFrame(np.hstack([FEATURES, FEATURES]), columns=[f"g{i}" for i in range(2 * N_CLASSES)])
NAMES = np.array([f"L{i}" for i in range(N_CLASSES)])[np.arange(60) % N_CLASSES]
OTHERS = [[i % 3, 7] for i in range(60)]


def fitted(**parameters):
    usual = {"hidden": (8,), "epochs": 4, "micro_batch": 10, "learning_rate": 0.05, "n_workers": 1}
    return SlideClassifier(**usual | parameters).fit(OLD, NAMES, eval_set=(OLD, NAMES))


def everything(model):
    """All that is fitted, to the byte."""
    own = {name: value for name, value in vars(model).items() if name not in model.get_params()}
    index = own.pop("_indexed", None)
    return pickle.dumps(own), index


class Told(Exception):
    """What a callback raises."""


def telling(kind, error):
    """Options of a fit whose callback raises at the first event of a kind."""

    def callback(event):
        if event["kind"] == kind:
            raise error

    return {"callback": callback}


FAILURES = [
    (DataError, {}, {"sample_weight": [1, 2]}),
    (DataError, {}, {"eval_set": (NEW.iloc[:3], OTHERS)}),
    (ConfigError, {"epochs": -1}, {}),
    (ConfigError, {"settings": {"shards": 10**6}}, {}),
    (MemoryError, {"hidden": 10**12}, {}),
    (DivergedError, {"learning_rate": 1e30}, {}),
    (Told, {}, telling("memory", Told())),
    (Told, {}, telling("epoch", Told())),
    (Told, {}, telling("end", Told())),
    (WorkerDiedError, {}, telling("progress", WorkerDiedError("a worker died"))),
    (KeyboardInterrupt, {}, telling("evaluation", KeyboardInterrupt())),
]


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(("error", "parameters", "options"), FAILURES)
def test_a_fit_that_fails_changes_nothing(error, parameters, options, warm_start):
    model = fitted(warm_start=warm_start)
    model.predict_topk(OLD, mode="index")  # makes an index
    before, answers = everything(model), model.predict_topk(OLD)
    data = (OLD, NAMES) if warm_start else (NEW, OTHERS)
    options = {"eval_set": data, **options}
    with pytest.raises(error):
        model.set_params(**parameters).fit(*data, **options)
    assert everything(model) == before
    for ours, theirs in zip(model.predict_topk(OLD), answers, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("parameters", [{"learning_rate": -1}, {"patience": 0}, {"n_workers": 0}])
def test_a_partial_fit_that_fails_changes_nothing(parameters):
    model = fitted(epochs=1).partial_fit(OLD, NAMES)
    before = everything(model)
    for options in ({"sample_weight": [1]}, {"classes": ["L1", "L2"]}):
        with pytest.raises(DataError):
            model.partial_fit(OLD, NAMES, **options)
    with pytest.raises(DataError):
        model.partial_fit(OLD.iloc[:, :3], NAMES)
    with pytest.raises(ConfigError):
        model.set_params(**parameters).partial_fit(OLD, NAMES)
    assert everything(model) == before


@pytest.mark.parametrize("train", ["fit", "partial_fit"])
def test_an_estimator_that_never_learned_stays_untrained(train):
    model = SlideClassifier(hidden=8, epochs=1, n_workers=1)
    before = dict(vars(model))
    with pytest.raises(DataError):
        getattr(model, train)(OLD, NAMES, sample_weight=[1])
    with pytest.raises(MemoryError):
        getattr(model.set_params(hidden=10**12), train)(OLD, NAMES)
    model.set_params(hidden=8)
    assert vars(model) == before
    with pytest.raises(ModelError, match="not trained"):
        model.predict(OLD)


def test_training_further_leaves_the_earlier_network_alone():
    for model in (fitted(warm_start=True), SlideClassifier(hidden=8, n_workers=1).partial_fit(OLD, NAMES)):
        first, state, history = model.model_, model._state, model.history_
        kept = pickle.dumps((first.arrays, state.arrays, history))
        for train in (model.fit, model.partial_fit):
            train(OLD, NAMES)
            assert model.model_ is not first and pickle.dumps((first.arrays, state.arrays, history)) == kept


@pytest.mark.parametrize("kind", ["memory", "progress", "epoch"])
def test_ctrl_c_leaves_what_was_learned_under_its_own_names(kind):
    model, told = fitted(), []

    def callback(event):
        if event["kind"] == kind and not told:
            told.append(event)
            signal.raise_signal(signal.SIGINT)

    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(NEW, OTHERS, callback=callback)
    if kind == "memory":
        assert everything(model) == before
        return
    assert model.model_.n_labels == len(model.classes_) == 8 and model._kind == "lists"
    assert model.n_features_in_ == model.model_.n_features == 12 and model.feature_names_in_[0] == "g0"
    assert model._state is None and model.labels_per_sample_ == 2 and len(model.predict(NEW)[0]) == 2
    assert [event["kind"] for event in model.history_] == ["epoch"]


def test_ctrl_c_before_the_first_step_changes_nothing():
    model = fitted(warm_start=True)
    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(OLD, NAMES, callback=lambda event: event["kind"] == "start" and signal.raise_signal(signal.SIGINT))
    assert everything(model) == before


def test_names_of_earlier_features_go_with_the_earlier_network():
    model = fitted()
    model.fit(FEATURES, NAMES)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize("columns", [["f0", "f1"], ["f1", "f0", "f2", "f3", "f4", "f5"]])
def test_an_eval_set_with_other_columns_is_refused(columns):
    held_out = OLD[columns] if len(columns) < N_CLASSES else OLD.set_axis(columns, axis=1)
    with pytest.raises(DataError, match="^eval_set: "):
        fitted().fit(OLD, NAMES, eval_set=(held_out, NAMES))
