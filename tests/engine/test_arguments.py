"""What a training run refuses before it begins: data, weights and names that do not fit."""

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.engine.checkpoints import Checkpoints, load_state
from slide_fast.engine.handover import Handover
from slide_fast.prediction import predict_topk
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.storage.model_folder import load_model, save_model

TRAIN, TEST = random_dataset(0, n_samples=40), random_dataset(1, n_samples=20)
CONFIG = Config(hidden=(4,), micro_batch=8, epochs=4)
N_LABELS = TRAIN.labels.n_columns


@pytest.mark.parametrize("names", [
    list(range(N_LABELS)), ["a\nb"] * N_LABELS, ["\ud800"] * N_LABELS, [b"a"] * N_LABELS, [None] * N_LABELS
])  # fmt: skip
def test_label_names_are_looked_at_before_training(tmp_path, names):
    checkpoints = Checkpoints(tmp_path / "run", every=1)
    with pytest.raises(DataError, match="label_names: .*; give str without line breaks"):
        fit(CONFIG, TRAIN, n_workers=1, label_names=names, checkpoints=checkpoints)
    assert not checkpoints.saved()


def test_label_names_in_an_array_are_names(tmp_path):
    names = np.array([f"label {i}" for i in range(N_LABELS)])
    checkpoints = Checkpoints(tmp_path / "run", every=1)
    fit(CONFIG, TRAIN, n_workers=1, label_names=names, checkpoints=checkpoints)
    assert checkpoints.last().label_names == names.tolist()


def test_a_first_name_may_begin_with_a_byte_order_mark(tmp_path):
    names = ["\ufeffa", *(f"label {i}" for i in range(1, N_LABELS))]
    save_model(tmp_path / "model", fit(CONFIG, TRAIN, n_workers=1, label_names=names))
    assert load_model(tmp_path / "model").label_names == names


@pytest.mark.parametrize(
    "weights", [np.full(40, 1e308), np.ones(40, np.longdouble), (np.diff(TRAIN.labels.indptr) == 0).astype(float)]
)
def test_weights_from_which_nothing_is_learned(weights):
    with pytest.raises(DataError, match="weights: "):
        fit(CONFIG, TRAIN, n_workers=1, weights=weights)


def test_rows_are_canonical():
    labels = SparseRows(np.arange(41) * 2, np.zeros(80, np.int32), None, N_LABELS)
    with pytest.raises(
        DataError, match=r"training data: ids of a row are repeated or not ascending, .*; call canonical\("
    ):
        fit(CONFIG, Dataset(TRAIN.features, labels), n_workers=1)
    with pytest.raises(DataError, match="training data: of type NoneType; give a Dataset"):
        fit(CONFIG, None, n_workers=1)


def test_a_handover_is_for_one_call():
    data = Handover(TRAIN)
    fit(CONFIG, data, n_workers=1)
    with pytest.raises(ConfigError, match="a Handover was taken before"):
        fit(CONFIG, data, n_workers=1)


def test_a_new_run_wants_a_folder_of_its_own(tmp_path):
    fit(CONFIG.replace(epochs=9), TRAIN, n_workers=1, checkpoints=Checkpoints(tmp_path, every=1))
    checkpoints = Checkpoints(tmp_path, every=1)
    with pytest.raises(ConfigError, match="holds checkpoints of another run; give another folder, or resume"):
        fit(CONFIG, TRAIN, n_workers=1, checkpoints=checkpoints)
    assert [path.name for path in checkpoints.saved()] == ["step-000000040", "step-000000045"]


@pytest.mark.parametrize("place", ["model", "model/checkpoints"])
def test_checkpoints_within_a_model_folder_are_refused_before_training(tmp_path, place):
    save_model(tmp_path / "model", fit(CONFIG, TRAIN, n_workers=1))
    with pytest.raises(ConfigError, match="lies in a model folder; choose another place"):
        fit(CONFIG, TRAIN, n_workers=1, checkpoints=Checkpoints(tmp_path / place, every=1))


def test_a_run_resumed_from_an_earlier_checkpoint_keeps_what_it_writes(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1, keep=50)
    fit(CONFIG.replace(epochs=9), TRAIN, n_workers=1, checkpoints=checkpoints)
    state, few = load_state(checkpoints.saved()[2]), Checkpoints(tmp_path, every=1, keep=2)
    fit(CONFIG.replace(epochs=6), TRAIN, n_workers=1, checkpoints=few, state=state)
    assert [path.name for path in few.saved()] == ["step-000000025", "step-000000030"]
    assert few.last().config.epochs == 6


def test_the_best_network_of_a_resumed_run_is_at_hand(tmp_path):
    checkpoints, options = Checkpoints(tmp_path, every=1), {"n_workers": 1, "test": TEST, "patience": 3}
    fit(CONFIG, TRAIN, checkpoints=checkpoints, **options)
    with pytest.raises(ConfigError, match="the best network of the run to resume is kept with its checkpoints"):
        fit(CONFIG.replace(epochs=6), TRAIN, state=checkpoints.last(), **options)


@pytest.mark.parametrize("n_rows", [1, 300])
def test_samples_to_predict_have_the_features_of_the_network(n_rows):
    layers, n = layers_of(fit(CONFIG, TRAIN, n_workers=1).arrays), TRAIN.features.n_columns
    rows = SparseRows(np.arange(n_rows + 1), np.full(n_rows, n, np.int32), None, n + 1)
    with pytest.raises(DataError, match=f"samples have {n + 1} features, but the network has {n}"):
        predict_topk(layers, rows, 2)


def test_a_run_is_not_resumed_for_fewer_epochs_than_it_has_done(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1)
    fit(CONFIG, TRAIN, n_workers=1, checkpoints=checkpoints)
    with pytest.raises(ConfigError, match="the run to resume has done 20 steps, and 10 are planned"):
        fit(CONFIG.replace(epochs=2), TRAIN, n_workers=1, checkpoints=checkpoints, state=checkpoints.last())


def test_labels_have_no_values():
    labels = SparseRows(TRAIN.labels.indptr, TRAIN.labels.indices, np.zeros(TRAIN.labels.nnz, np.float32), N_LABELS)
    with pytest.raises(
        DataError, match=r"training data: labels must have no values; convert them with labels.indicator\("
    ):
        fit(CONFIG, Dataset(TRAIN.features, labels), n_workers=1)
    with pytest.raises(DataError, match="test data: labels must have no values"):
        fit(CONFIG, TRAIN, test=Dataset(TRAIN.features, labels), n_workers=1)


def test_text_settings_are_looked_at_before_training():
    with pytest.raises(ConfigError, match="text is {}; it must be a TextColumns"):
        fit(CONFIG, TRAIN, n_workers=1, text={})
