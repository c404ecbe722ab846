"""Parameters from Python are checked as strictly as on the command line, and before any work."""

import math
import warnings

import numpy as np
import pytest
from problems import random_dataset

from slide_fast import SlideClassifier
from slide_fast.datasets.synthetic import generate
from slide_fast.engine.memory_estimate import buffers
from slide_fast.inference.predictor import with_index
from slide_fast.mpi.communicator import Communicator
from slide_fast.mpi.process_grid import check_number
from slide_fast.mpi.training import fit_sharded
from slide_fast.prediction import predict_topk, predict_topk_index
from slide_fast.training import fit, fit_with_state
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.index import samples_for_index, size_for
from slide_ref.common.parameters import layers_of
from slide_ref.common.storage.model_folder import load_model

NAN, INF = math.nan, math.inf
NO_NUMBERS = ["1", "", [1], None, np.array([1, 2]), True, np.bool_(True)]
POSITIVE = [0, -1, NAN, -INF, np.float32(0), *NO_NUMBERS]
WHOLE = [0, -1, 1.0, 2.5, NAN, INF, np.float64(2), 2**70, *NO_NUMBERS]


def but(values, *fine):
    return [value for value in values if not any(value is other for other in fine)]


WRONG_OF_RUNS = {
    "n_workers": [-2, np.int8(-3), -1.0, *but(WHOLE, -1, None)],
    "eval_every": POSITIVE,
    "eval_samples": WHOLE,
    "max_seconds": but(POSITIVE, None),
    "patience": but(WHOLE, None, INF),
    "eval_metric": ["precision_at_2", "", None, 1, ["loss"]],
}
WRONG_OF_FIT = WRONG_OF_RUNS | {
    "max_restarts": but(WHOLE, 0),
    "worker_timeout": POSITIVE,
    "callback": [3, "print"],
    "checkpoints": ["folder"],
    "state": [{}],
    "label_names": [5, "abc", b"abc", {"a"}, {"a": 1}],
}
WRONG_OF_ESTIMATORS = WRONG_OF_RUNS | {
    "hidden": [0, -1, 64.0, "64", [], [0], [8.0], [True], {8}, np.ones((2, 2), int)],
    "epochs": but(WHOLE, 0),
    "class_weight": ["balance", "", 1, [1.0, 2.0]],
    "validation_fraction": [1, 1.5, *but(POSITIVE, None)],
    "micro_batch": WHOLE,
    "learning_rate": [-1, NAN, INF, *NO_NUMBERS],
    "settings": [
        3,
        [],
        "",
        [("epochs", 3)],
        {"epoch": 3},
        {3: 3},
        {"lsh": 3},
        {"lsh": {"k": 3}},
        {"lsh": {"K": 0.5}},
    ],
    "random_state": [1.5, -1, 2**63, "0", [0], True, NAN, np.int64(-1)],
    "warm_start": [0, 1, "yes", None],
    "verbose": [-1, 0.5, "yes", None],
}
NO_FILE = "no such file.svm"


def each(wrong):
    return [pytest.param(key, value, id=f"{key}={value!r}") for key, values in wrong.items() for value in values]


@pytest.mark.parametrize(("key", "value"), each(WRONG_OF_FIT))
def test_an_option_of_a_run_is_refused_before_data_are_looked_at(key, value):
    with pytest.raises(ConfigError, match=rf"^{key} is .*; it must be ") as caught:
        fit(Config(), None, **{key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), each(WRONG_OF_ESTIMATORS))
def test_a_parameter_of_an_estimator_is_refused_before_data_are_read(key, value):
    model = SlideClassifier(**{key: value})
    for train in (model.fit, model.partial_fit):
        with pytest.raises(ConfigError) as caught:
            train(NO_FILE)
        text = str(caught.value)
        assert "\n" not in text and (text.startswith(f"{key} is ") or key == "settings"), text
        assert "; it must be " in text or "known are" in text


@pytest.mark.parametrize("eval_set", [[(1, 2)], [], (1, 2, 3), (1,), 3, np.ones((2, 3)), {"X": 1, "y": 2}])
def test_an_eval_set_is_a_pair_or_a_path(eval_set):
    with pytest.raises(ConfigError, match=r"^eval_set is [^\n]*; it must be a pair \(X, y\), a path, or None$"):
        SlideClassifier().fit(NO_FILE, eval_set=eval_set)


def test_callback_and_patience_are_checked_before_data_are_read():
    with pytest.raises(ConfigError, match="^callback is 3; it must be a function"):
        SlideClassifier().fit(NO_FILE, callback=3)
    with pytest.raises(ConfigError, match="^patience needs samples to evaluate on"):
        SlideClassifier(patience=2).fit(NO_FILE)
    with pytest.raises(ConfigError, match="^patience needs samples to evaluate on"):
        fit(Config(), None, patience=2)


def test_what_is_no_config_or_does_not_fit_the_data_is_refused():
    train = random_dataset(0)
    with pytest.raises(ConfigError, match="^config is {}; it must be a Config"):
        fit({}, train)
    for options_of_fit, message in (
        ({"train": (1, 2)}, "training data: of type tuple; give a Dataset"),
        ({"test": 3}, "test data: of type int; give a Dataset"),
        ({"weights": np.ones(1)}, "weights: give an array of .* floats, one per sample"),
        ({"weights": np.full(train.n_samples, NAN)}, "weights, row 0: nan is negative or not"),
        ({"weights": np.where(np.arange(train.n_samples) == 2, -1.5, 1)}, "weights, row 2: -1.5 is negative or not"),
        ({"weights": np.full(train.n_samples, 1e308)}, "weights: their sum is not finite"),
        ({"weights": np.zeros(train.n_samples)}, "weights: all samples that have labels have"),
        ({"weights": [1.0] * train.n_samples}, "weights: give an array"),
        ({"label_names": ["a"]}, "label_names: 1 names, but there are"),
    ):
        with pytest.raises(DataError, match=f"^{message}"):
            fit(Config(), **{"train": train} | options_of_fit)


def small(**parameters):
    return SlideClassifier(**{"hidden": (8,), "epochs": 1, "micro_batch": 16, "n_workers": 1} | parameters)


def problem(n=64, n_classes=8):
    return np.eye(n_classes, dtype=np.float32)[np.arange(n) % n_classes], np.arange(n) % n_classes


def test_numbers_of_numpy_are_taken_everywhere(tmp_path):
    X, y = problem()
    model = SlideClassifier(
        hidden=np.array([8, 4]), epochs=np.int64(1), micro_batch=np.int16(16), learning_rate=np.float32(0.5),
        settings={"scope": np.str_("sample"), "lsh": {"K": np.int64(3), "min_active": np.array(4)}},
        n_workers=np.int64(1), random_state=np.uint8(3), warm_start=np.bool_(True), eval_every=np.float32(0.5),
        eval_samples=np.int32(10), patience=np.int64(2), max_seconds=np.float64(100), verbose=np.bool_(False),
    )  # fmt: skip
    plain = SlideClassifier(
        hidden=[8, 4], epochs=1, micro_batch=16, learning_rate=0.5, warm_start=True, eval_every=0.5, eval_samples=10,
        settings={"scope": "sample", "lsh": {"K": 3, "min_active": 4}}, n_workers=1, random_state=3, patience=2,
    )  # fmt: skip
    assert isinstance(model.get_params()["hidden"], np.ndarray)  # the constructor keeps what it is given
    for one in (model, plain):
        one.fit(X, y, eval_set=(X, y)).save(tmp_path / str(one is model))
    one, other = (load_model(tmp_path / name) for name in ("True", "False"))
    assert one.config == other.config and all(np.array_equal(one.arrays[key], other.arrays[key]) for key in one.arrays)
    best = model.predict_topk(X, k=np.int64(2), mode=np.str_("lsh"), recall=np.float32(0.5))[0]
    assert np.array_equal(best, plain.predict_topk(X, k=2, mode="index", recall=0.5)[0])
    state = fit_with_state(
        Config(hidden=8, epochs=np.int8(1)), random_dataset(0), n_workers=np.int64(1), eval_every=np.float32(1),
        eval_samples=np.uint16(3), max_seconds=np.int64(9), max_restarts=np.int64(0), worker_timeout=np.float16(9),
    )[1]  # fmt: skip
    assert type(state.config.epochs) is int


def test_one_number_is_one_layer_and_verbose_may_count():
    X, y = problem()
    model = small(hidden=6, verbose=0, settings=None, eval_every=INF, max_seconds=INF).fit(X, y)
    assert model.model_.config.hidden == (6,) and model.get_params()["hidden"] == 6


def test_minus_one_is_as_many_workers_as_cpus(monkeypatch):
    monkeypatch.setattr("slide_fast.engine.option_checks.available_cpus", lambda: 2)
    (X, y), events = problem(), []
    small(n_workers=-1).fit(X, y, callback=events.append)
    assert [event["n_workers"] for event in events if event["kind"] == "start"] == [2]


def test_a_micro_batch_larger_than_the_data_is_all_of_them():
    X, y = problem()
    whole, huge = small(micro_batch=64).fit(X, y), small(micro_batch=10**9).fit(X, y)
    assert np.array_equal(whole.predict_topk(X)[1], huge.predict_topk(X)[1])
    train = random_dataset(0)
    assert buffers(Config(micro_batch=10**9), train, None) == buffers(Config(micro_batch=train.n_samples), train, None)


@pytest.mark.parametrize("hidden", [10**12, (8, 10**15), 2**63 - 1])
def test_a_layer_that_no_machine_could_hold_is_refused_at_once(hidden, monkeypatch):
    monkeypatch.setattr("slide_fast.parallel.machine.memory_left", lambda: 1 << 40)
    with pytest.raises(MemoryError, match=r"^besides the data, training needs \d+\.\d GB, but only 1099.5 GB are left"):
        small(hidden=hidden).fit(*problem())


@pytest.mark.parametrize("k", WHOLE)
def test_k_is_a_whole_number_of_1_or_more(k):
    X, y = problem()
    model = small().fit(X, y)
    train = random_dataset(0)
    network = fit(Config(hidden=8, epochs=1), train, n_workers=1)
    layers, index = layers_of(network.arrays), with_index(network, samples_for_index(0, train.features)).index
    for ask in (
        lambda: model.predict_topk(X, k=k),
        lambda: model.predict_topk(NO_FILE, k=k),
        lambda: model.predict_topk(X, k=k, mode="index"),
        lambda: predict_topk(layers, train.features, k),
        lambda: predict_topk_index(layers, train.features, k, index, 1),
        lambda: size_for(index, k, 0.9, network.n_labels),
    ):
        with pytest.raises(ConfigError, match=r"^k is .*; it must be (a whole number of )?1 or more"):
            ask()


@pytest.mark.parametrize("k", [10**13, 2**62])
def test_more_answers_than_memory_holds_are_refused(k):
    model = small().fit(*problem())
    with pytest.raises(MemoryError, match=rf"^{k} labels for each of 64 samples need [\d,]+\.\d GB; request fewer"):
        model.predict_topk(problem()[0], k=k)


@pytest.mark.parametrize("mode", ["exact", "index", "lsh"])
def test_mode_and_recall_are_checked_before_data_are_read(mode):
    model = small().fit(*problem())
    for recall in [1.1, *POSITIVE]:
        with pytest.raises(ConfigError, match="^recall is .*; it must be above 0 and at most 1"):
            model.predict_topk(NO_FILE, mode=mode, recall=recall)
    for wrong in ("Exact", None, 3, ["exact"], np.array(["exact", "lsh"])):
        with pytest.raises(ConfigError, match="^mode is .*; it must be one of exact, index"):
            model.predict_topk(NO_FILE, mode=wrong)


@pytest.mark.parametrize("mmap", [1, "r", None])
def test_mmap_is_true_or_false(mmap, tmp_path):
    small().fit(*problem()).save(tmp_path / "model")
    with pytest.raises(ConfigError, match="^mmap is .*; it must be true or false"):
        SlideClassifier.load(tmp_path / "model", mmap=mmap)


def test_options_of_ranks_are_checked():
    for key, wrong in (("n_workers", 0), ("n_workers", 1.0), ("eval_every", 0), ("max_seconds", NAN)):
        with pytest.raises(ConfigError, match=f"^{key} is "):
            fit_sharded(Config(hidden=8), random_dataset(0), ranks=Communicator(), **{key: wrong})
    with pytest.raises(ConfigError, match="^n_workers is 0"):
        check_number(2, 0)


@pytest.mark.parametrize(("key", "value"), [("n_samples", 0), ("n_labels", 2.5), ("nonzeros", "3"), ("seed", -1)])
def test_sizes_of_generated_data_are_checked(key, value, tmp_path):
    with pytest.raises(ConfigError, match=f"^{key} is .*; it must be "):
        generate(tmp_path / "data", "wiki10-31k", **{key: value})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["epochs", "hidden", "micro_batch", "learning_rate", "random_state"])
def test_a_parameter_and_a_setting_of_the_same_thing_exclude_each_other(name):
    setting = {"random_state": "seed"}.get(name, name)
    with pytest.raises(ConfigError, match=f"^{name} is given as a parameter and {setting} in settings; leave one"):
        SlideClassifier(**{name: 3}, settings={setting: 3}, n_workers=1).fit(np.eye(4), range(4))
    SlideClassifier(settings={setting: 3}, n_workers=1).fit(np.eye(4), range(4))


def test_a_default_as_a_number_of_numpy_is_not_given():
    model = SlideClassifier(
        epochs=np.int64(0), random_state=np.int64(0), settings={"epochs": 1, "seed": 5}, n_workers=1
    )
    assert model.fit(np.eye(4), range(4)).model_.config.seed == 5


def test_warnings_point_at_the_line_that_called():
    X, y = np.eye(4), np.arange(4)
    model = SlideClassifier(hidden=4, epochs=1, n_workers=1).fit(X, y)
    calls = (lambda: model.fit(X, y.reshape(-1, 1)), lambda: model.score(X, y.reshape(-1, 1)),
             lambda: model.partial_fit(X, y.reshape(-1, 1)), lambda: model.score(X, y + 9),
             lambda: model.fit(X, [[0, 0, 1]] * 4))  # fmt: skip
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("training", ["fit", "partial_fit"])
def test_samples_of_which_no_step_was_trained_do_not_count(training):
    model = getattr(SlideClassifier(hidden=4, n_workers=1, max_seconds=1e-9), training)(np.eye(4), range(4))
    assert model.model_.facts["steps"] == model.model_.facts["n_train_samples"] == 0
    assert model.model_.label_counts is None
    model.set_params(max_seconds=None).partial_fit(np.eye(4), range(4))
    assert model.model_.facts["n_train_samples"] == 4


def test_further_training_that_takes_no_step_leaves_the_counts(tmp_path):
    model = SlideClassifier(hidden=4, n_workers=1, epochs=2, warm_start=True).fit(np.eye(4), range(4))
    model.set_params(max_seconds=1e-9).fit(np.eye(4), range(4))
    assert model.model_.facts["steps"] == 2 and model.model_.facts["n_train_samples"] == 4
    assert model.model_.label_counts.tolist() == [1, 1, 1, 1]
    model.save(tmp_path)
    loaded = SlideClassifier.load(tmp_path).set_params(warm_start=True, max_seconds=1e-9).fit(np.eye(4), range(4))
    assert loaded.model_.facts["n_train_samples"] == 4 and loaded.model_.label_counts.tolist() == [1, 1, 1, 1]


def test_a_dotted_setting_is_told_as_python_has_it():
    with pytest.raises(ConfigError, match=r"unknown setting lsh.L; .*give it as {'lsh': {'L': …}}"):
        SlideClassifier(settings={"lsh.L": 0}).fit(np.eye(3), range(3))
