"""Model folders: what a trained network needs is kept, and a folder that does not fit together is refused."""

import dataclasses
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slide_ref.common.config import Config
from slide_ref.common.errors import DataError, ModelError
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parameters import array_shapes, initialise, layers_of
from slide_ref.common.storage import model_folder
from slide_ref.common.storage.array_folder import load_arrays, save_arrays
from slide_ref.common.storage.index_arrays import checked, from_arrays
from slide_ref.common.storage.label_names import read_label_names
from slide_ref.common.storage.model_folder import Model, TextColumns, load_model, save_model

CONFIG = Config(hidden=(4,), seed=7, lsh=LshConfig(K=3))
N_FEATURES, N_LABELS = 6, 3
NAMES = ["for", "été", ""]
FACTS = {"steps": 12, "seconds": 1.5, "n_train_samples": 9, "note": None}


def layers_for(config=CONFIG, dtype=np.float32):
    shapes = array_shapes(config, N_FEATURES, N_LABELS)
    layers = layers_of({name: np.empty(shape, dtype) for name, shape in shapes.items()})
    initialise(layers, Config())
    return layers


def arrays_for(config=CONFIG):
    layers = layers_for(config)
    return {f"{name}{i}": getattr(layer, name) for i, layer in enumerate(layers) for name in ("W", "b")}


def model_for(config=CONFIG, facts=FACTS, **more):
    return Model(config, N_FEATURES, N_LABELS, arrays_for(config), facts, **more)


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "model", model_for(label_names=NAMES, label_counts=np.array([4, 0, 5])))
    return tmp_path / "model"


@pytest.mark.parametrize("mmap", [False, True])
def test_everything_comes_back(folder, mmap):
    model = load_model(folder, mmap)
    assert (model.config, model.n_features, model.n_labels) == (CONFIG, N_FEATURES, N_LABELS)
    assert model.facts == FACTS and model.label_names == NAMES
    assert model.label_counts.dtype == np.int64 and model.label_counts.tolist() == [4, 0, 5]
    layers = layers_for()
    assert model.arrays.keys() == {"W0", "b0", "W1", "b1"}
    for name, wanted in {"W0": layers[0].W, "b0": layers[0].b, "W1": layers[1].W, "b1": layers[1].b}.items():
        assert model.arrays[name].dtype == np.float32 and np.array_equal(model.arrays[name], wanted)
        assert model.arrays[name].flags.writeable is not mmap


def test_names_and_counts_may_be_left_out(tmp_path):
    save_model(tmp_path / "model", model_for(facts={}))
    model = load_model(tmp_path / "model")
    assert model.label_names is None and model.label_counts is None and model.facts == {}
    assert {array.dtype.name for array in model.arrays.values()} == {"float32"}
    files = {"config.json", "W0.npy", "b0.npy", "W1.npy", "b1.npy"}
    assert set(os.listdir(tmp_path / "model")) == files


def test_several_hidden_layers(tmp_path):
    config = CONFIG.replace(hidden=[5, 4])
    save_model(tmp_path / "model", model_for(config))
    arrays = load_model(tmp_path / "model").arrays
    assert (arrays["W0"].shape, arrays["W1"].shape, arrays["W2"].shape) == ((6, 5), (4, 5), (3, 4))


@pytest.mark.parametrize("place", ["inner", "inner/most", "../link/inner"])
def test_nothing_is_saved_within_a_model_folder(tmp_path, folder, place):
    """The next save of the outer model would remove it."""
    (tmp_path / "link").symlink_to(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match="lies in a model folder; choose another place"):
        save_model(folder / place, model_for())
    assert sorted(tmp_path.rglob("*")) == before
    save_model(folder, model_for())  # the model itself is replaced, also through the link
    save_model(tmp_path / "link", model_for())
    save_model(tmp_path / "run" / "model", model_for())


def test_the_same_model_gives_the_same_bytes(tmp_path, folder):
    counts = np.array([4, 0, 5], dtype=np.int32)
    save_model(tmp_path / "again", model_for(label_names=NAMES, label_counts=counts))
    assert set(os.listdir(folder)) == set(os.listdir(tmp_path / "again"))
    assert all(path.read_bytes() == (tmp_path / "again" / path.name).read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"label_names": 5}, "label_names is no list of str"),
        ({"label_names": "abc"}, "label_names is no list of str"),
        ({"label_names": ["a", "b", 3]}, "label_names is no list of str"),
        ({"label_names": ["a", "b"]}, "2 label names, but the model has 3 labels"),
        ({"label_names": ["a", "b\nc", "d"]}, "label 1: a name cannot contain a line break"),
        ({"label_names": ["a", "b", "c\r"]}, "label 2: a name cannot contain a line break"),
        ({"label_names": ["a", "b", "\udc80"]}, "label 2: a name cannot contain .* half a surrogate pair"),
        ({"feature_names": [1, 2, 3, 4, 5, 6]}, "feature_names is no list of str"),
        ({"facts": {"P@1": np.float32(0.5)}}, "facts: Object of type float32 is not JSON serializable; give values"),
        ({"facts": None}, "facts: found NoneType; give a dict"),
        ({"text": TextColumns([], {})}, "text settings: found list; give a dict"),
        ({"n_labels": 3.0}, "n_labels is 3.0; give an int of 0 or more"),
        ({"n_features": np.int64(6)}, r"n_features is np.int64\(6\); give an int of 0 or more"),
        ({"facts": {"loss": float("nan")}}, "facts: Out of range float values are not JSON .*; give values"),
        ({"facts": {"history": [{"loss": -np.inf}]}}, "facts: Out of range float values are not JSON"),
        ({"text": TextColumns({"min_df": np.inf}, {})}, "text settings: Out of range float values are not JSON"),
        ({"text": TextColumns({"min_df": {2}}, {})}, "text settings: Object of type set is not JSON"),
        ({"label_values": [{1}, {2}, {3}]}, "label values: Object of type set is not JSON"),
        ({"label_counts": np.zeros(2)}, r"label_counts: found int64 of shape \(2,\), but .* int64 of shape \(3,\)"),
        ({"n_labels": 4}, r"array W1: found float32 of shape \(3, 4\), but .* float32 of shape \(4, 4\)"),
        ({"arrays": {name: arrays_for()[name] for name in ("W0", "b0", "b1")}}, "array W1: found nothing"),
        ({"arrays": arrays_for() | {"b1": np.zeros(3)}}, "array b1: found float64"),
    ],
)
def test_what_does_not_fit_is_not_saved(tmp_path, changed, wanted):
    with pytest.raises(ModelError, match=wanted):
        save_model(tmp_path / "model", dataclasses.replace(model_for(), **changed))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "values", [["\ud83d\ude00", "\n", "a\0"], [2**80, -1, 0], [1e22, -0.0, 2.0], [True, False, True]]
)
def test_values_of_labels_come_back(tmp_path, values):
    save_model(tmp_path / "model", model_for(label_values=values))
    found = load_model(tmp_path / "model").label_values
    assert repr(found) == repr(values)
    with pytest.raises(ModelError, match="2 label values, but the model has 3 labels"):
        save_model(tmp_path / "model", model_for(label_values=values[:2]))
    assert load_model(tmp_path / "model").label_values == values


def refused(folder, file, wanted):
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert message.startswith(str(folder / file)) and wanted in message and "\n" not in message


def edit_config(folder, **changes):
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


@pytest.mark.parametrize("changes", [
    {"n_features": "6"}, {"n_features": -1}, {"n_labels": True}, {"n_labels": ...}, {"config": []}, {"config": ...},
    {"facts": 3}, {"facts": ...}, {"has_label_names": 1}, {"has_label_names": ...},
    {"has_feature_names": "yes"}, {"has_feature_names": None},
])  # fmt: skip
def test_a_description_of_something_else(folder, changes):
    edit_config(folder, **changes)
    refused(folder, "config.json", "does not describe a model")


@pytest.mark.parametrize(
    ("settings_found", "wanted"),
    [
        ({"hidden": [4], "colour": 3}, "unknown setting colour"),
        ({"hidden": "many"}, "hidden is 'many'"),
        ({"hidden": [4], "lsh": {"family": "simhash", "K": 99}}, "lsh.K is 99"),
    ],
)
def test_settings_that_are_none(folder, settings_found, wanted):
    edit_config(folder, config=settings_found)
    refused(folder, "config.json", wanted)


def test_shapes_must_fit_the_settings(folder):
    edit_config(folder, n_features=10**15)
    refused(folder, "config.json", "array W0: found float32 of shape (6, 4), but the settings require")


def test_arrays_that_no_setting_asks_for(tmp_path, folder):
    description, arrays = load_arrays(folder)
    del arrays["b1"], description["texts"]
    save_arrays(tmp_path / "less", description, arrays)
    refused(tmp_path / "less", "config.json", "array b1: found nothing, but the settings require float32")
    save_arrays(tmp_path / "more", description, arrays | {"b1": np.zeros(3, np.float32), "W2": np.zeros(1)})
    refused(tmp_path / "more", "config.json", "array W2: found float64 of shape (1,), but the settings require")


def test_an_array_file_that_is_missing_or_mis_shaped(folder):
    np.save(folder / "W1.npy", np.zeros((2, 4), np.float32))
    refused(folder, "W1.npy", "holds float32 of shape (2, 4)")
    (folder / "W1.npy").unlink()
    refused(folder, "W1.npy", "No such file")


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (None, "No such file"),
        (b"a\nb\n", "line 3: 2 names, but there are 3 labels"),
        (b"a\n\xff\nc\n", "line 2: not UTF-8"),
    ],
)
def test_label_names_that_are_missing_or_damaged(folder, raw, wanted):
    (folder / "labels.txt").unlink()
    if raw is not None:
        (folder / "labels.txt").write_bytes(raw)
    refused(folder, "labels.txt", wanted)


NAME = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r\ufeff"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAME, max_size=6), end=st.sampled_from(["\n", "\r\n"]), mark=st.sampled_from(["", "\ufeff"]))
def test_label_names_are_read_line_by_line(tmp_path, names, end, mark):
    path = tmp_path / "labels.txt"
    path.write_bytes((mark + "".join(name + end for name in names)).encode())
    assert read_label_names(path, len(names)) == names


def test_the_last_name_needs_no_line_end(tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"a\nb")
    assert read_label_names(tmp_path / "labels.txt", 2) == ["a", "b"]


@pytest.mark.parametrize(
    ("raw", "line", "wanted"),
    [
        (b"", 1, "0 names, but there are 2 labels"),
        (b"a\n", 2, "1 names, but there are 2 labels"),
        (b"a\nb\nc\n", 3, "3 names, but there are 2 labels"),
        (b"a\nb\n\n", 3, "3 names"),
        (b"\xef\xbb\xbfa\n\xe9t\xe9", 2, "not UTF-8 text"),
        (b"\xff\xfea\0\n\0", 1, "the file begins with a byte order mark of UTF-16; save it"),
    ],
)
def test_label_names_that_do_not_fit(tmp_path, raw, line, wanted):
    path = tmp_path / "labels.txt"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=wanted) as caught:
        read_label_names(path, 2)
    assert (caught.value.path, caught.value.line) == (str(path), line)
    assert str(caught.value).startswith(f"{path}, line {line}: ")


def test_label_names_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="none.txt: cannot be read"):
        read_label_names(tmp_path / "none.txt", 2)


COLUMNS = ["a\nb", "", "été", "a", "\udc80\0", "a"]


@pytest.mark.parametrize("mmap", [False, True])
def test_names_of_features_come_back_whatever_they_hold(tmp_path, mmap):
    save_model(tmp_path / "run" / "model", model_for(feature_names=COLUMNS))
    for path in ("run", "run/model"):
        assert load_model(tmp_path / path, mmap).feature_names == COLUMNS
    with pytest.raises(ModelError, match="5 feature names, but the model has 6 features"):
        save_model(tmp_path / "run" / "model", model_for(feature_names=COLUMNS[1:]))
    save_model(tmp_path / "run" / "model", model_for())
    assert load_model(tmp_path / "run").feature_names is None


def test_folders_of_earlier_releases_hold_no_names_of_features(folder):
    edit_config(folder, has_feature_names=...)
    assert load_model(folder).feature_names is None


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (None, "No such file"),
        (b'["a", "b"]', "not a list of 6 names"),
        (b'["a", "b", "c", "d", "e", 6]', "not a list of 6 names"),
        (b'{"a": 1}', "not a list of 6 names"),
        (b'["a', "not valid JSON"),
        (b'["\xff"]', "not valid JSON"),
    ],
)
def test_names_of_features_that_are_missing_or_damaged(tmp_path, raw, wanted):
    save_model(tmp_path / "model", model_for(feature_names=COLUMNS))
    path = tmp_path / "model" / "features.json"
    path.unlink()
    if raw is not None:
        path.write_bytes(raw)
    refused(tmp_path / "model", "features.json", wanted)


def test_a_model_with_names_comes_back_after_a_crash_between_the_renames(folder):
    work = folder.parent / ".model.saving"
    work.mkdir()
    folder.rename(work / "old")
    assert load_model(folder).label_names == NAMES


def test_names_and_weights_are_of_one_model_while_another_replaces_it(folder, monkeypatch):
    load = model_folder.load_arrays

    def replaced_meanwhile(place, mmap):
        content = load(place, mmap)
        monkeypatch.setattr(model_folder, "load_arrays", load)
        save_model(folder, model_for(label_names=NAMES[::-1], facts={"steps": 13}))
        return content

    monkeypatch.setattr(model_folder, "load_arrays", replaced_meanwhile)
    model = load_model(folder)
    assert (model.label_names, model.facts) == (NAMES[::-1], {"steps": 13})


@pytest.mark.parametrize("name", ["centroids", "buckets", "places"])
def test_an_index_array_of_no_dimension_is_refused(name):
    arrays = {"centroids": ((2, 4), "float32"), "buckets": ((2, 3), "int32"), "places": ((2, 3), "int32")}
    made = {key: np.zeros(() if key == name else shape, dtype) for key, (shape, dtype) in arrays.items()}
    with pytest.raises(DataError, match="does not match the network"):
        checked(from_arrays(made), 4, 3)
