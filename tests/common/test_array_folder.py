"""Folders of arrays: what is written comes back, and what is damaged is named and refused."""

import json
import os
import pickle
import string
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slide_ref.common.errors import ModelError
from slide_ref.common.parameters import layers_of
from slide_ref.common.storage import array_files
from slide_ref.common.storage.array_folder import load_arrays, save_arrays

NAMES = st.text(string.ascii_letters + string.digits + "_", max_size=8).map("x".__add__)
KINDS = hnp.floating_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes()
KEYS = st.text().filter(lambda key: key not in ("format_version", "arrays"))
ARRAYS = st.dictionaries(NAMES, hnp.arrays(KINDS, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)), max_size=3)


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    """A model folder with two arrays."""
    save_arrays(tmp_path / "model", {"kind": "test"}, {"W0": np.arange(6.0).reshape(2, 3), "b0": np.arange(3)})
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", [None, np.float64])
def test_an_array_in_blocks_is_put_together_where_it_is_needed(dtype):
    whole = np.arange(12, dtype=np.float32).reshape(6, 2)
    blocks = array_files.Blocks(whole.shape, whole.dtype, lambda: iter(np.split(whole, [1, 4])))
    found = np.asarray(blocks, dtype)
    assert found.dtype == (dtype or np.float32) and found.tolist() == whole.tolist()
    (layer,) = layers_of({"W0": blocks, "b0": whole[:, 0]})
    assert layer.W.tolist() == whole.tolist() and np.shares_memory(layer.b, whole) and blocks.size == 12


def edit_config(folder, change):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("mmap", [False, True])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=ARRAYS, description=st.dictionaries(KEYS, st.integers() | st.text() | st.none(), max_size=3))
def test_what_is_saved_is_loaded(tmp_path, mmap, arrays, description):
    save_arrays(tmp_path / "model", description, arrays)
    found_description, found = load_arrays(tmp_path / "model", mmap=mmap)
    assert found_description == description and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert type(found[name]) is np.ndarray and found[name].flags.writeable is (not mmap or array.size == 0)
        assert found[name].dtype == array.dtype.newbyteorder("<") and found[name].shape == array.shape
        assert found[name].tobytes() == array.astype(found[name].dtype).tobytes()
    assert os.listdir(tmp_path) == ["model"]


def test_a_plain_file_an_array_that_numpy_reads(folder):
    assert np.load(folder / "W0.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert sorted(os.listdir(folder)) == ["W0.npy", "b0.npy", "config.json"]
    described = json.loads((folder / "config.json").read_text())
    assert described["format_version"] == 1 and described["kind"] == "test"
    assert described["arrays"] == {
        "W0": {"dtype": "float64", "shape": [2, 3], "crc32": zlib.crc32(np.arange(6.0).tobytes())},
        "b0": {"dtype": "int64", "shape": [3], "crc32": zlib.crc32(np.arange(3).tobytes())},
    }


def test_the_same_content_gives_the_same_bytes(tmp_path, folder):
    turned = {"b0": np.arange(3), "W0": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    save_arrays(tmp_path / "again", {"kind": "test"}, turned)
    assert content_of(tmp_path / "again") == content_of(folder)


def test_big_endian_and_strided_arrays_are_stored_plain(tmp_path):
    array = np.arange(20, dtype=">i4")[::3]
    save_arrays(tmp_path / "model", {}, {"a": array})
    found = load_arrays(tmp_path / "model")[1]["a"]
    assert found.dtype == np.dtype("<i4") and found.tolist() == array.tolist()


def test_the_folder_is_as_readable_as_any_new_one(tmp_path, folder):
    (tmp_path / "plain").mkdir()
    assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_missing_parents_are_made_and_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "a" / "empty").mkdir(parents=True)
    for place in ("a/b/model", "a/empty"):
        save_arrays(tmp_path / place, {}, {"x": np.ones(1)})
        assert load_arrays(tmp_path / place)[1]["x"] == 1
    assert sorted(os.listdir(tmp_path / "a")) == ["b", "empty"]


def test_an_earlier_model_is_replaced_whole(tmp_path, folder):
    mapped = load_arrays(folder, mmap=True)[1]["W0"]
    save_arrays(folder, {"kind": "new"}, {"W1": np.zeros(1)})
    assert sorted(os.listdir(folder)) == ["W1.npy", "config.json"] and os.listdir(tmp_path) == ["model"]
    assert os.name == "nt" or mapped[1, 2] == 5  # a reader that has the old files mapped keeps them


def test_a_link_to_a_folder_stays_a_link(tmp_path, folder):
    (tmp_path / "link").symlink_to(folder)
    save_arrays(tmp_path / "link", {"kind": "new"}, {})
    assert (tmp_path / "link").is_symlink() and load_arrays(folder)[0] == {"kind": "new"}


def test_what_is_no_model_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "config", "file"):
        with pytest.raises(ModelError, match=f"{name}: it exists and is not a model"):
            save_arrays(tmp_path / name, {}, {"x": np.ones(1)})
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"
    assert sorted(os.listdir(tmp_path)) == ["config", "file", "thesis"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", "1a", "_a", "W0\n", "é", "con fig"])
def test_names_that_leave_the_folder_are_not_written(tmp_path, name):
    with pytest.raises(ModelError, match="cannot be stored"):
        save_arrays(tmp_path / "model", {}, {name: np.ones(1)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", complex, bool, [("x", "f4")]])
def test_only_numbers_are_written(tmp_path, dtype):
    with pytest.raises(ModelError, match="cannot be stored"):
        save_arrays(tmp_path / "model", {}, {"a": np.zeros(2, dtype=dtype)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("key", ["format_version", "arrays", "texts"])
def test_a_description_cannot_replace_what_describes_the_files(tmp_path, key):
    with pytest.raises(ModelError, match="a description cannot contain the keys format_version, arrays and texts"):
        save_arrays(tmp_path / "model", {key: 1}, {})
    assert os.listdir(tmp_path) == []


def test_a_description_that_is_no_json_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_arrays(tmp_path / "model", {"x": object()}, {})
    assert os.listdir(tmp_path) == []


def test_the_old_model_is_kept_even_if_it_cannot_be_moved_back(tmp_path, folder, monkeypatch):
    before, rename = content_of(folder), Path.rename

    def only_away(self, target):
        if self != folder:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_away)
    with pytest.raises(ModelError):
        save_arrays(folder, {}, {})
    (left,) = tmp_path.iterdir()
    assert content_of(left / "old") == before and os.listdir(left) == ["old"]
    assert load_arrays(folder)[0] == {"kind": "test"}


def test_a_file_that_outgrows_the_disk(tmp_path, folder):
    resource = pytest.importorskip("resource")
    before, limits = content_of(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ModelError, match="model: cannot be written"):
            save_arrays(folder, {}, {"W": np.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content_of(folder) == before and os.listdir(tmp_path) == ["model"]


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match="notes.txt: cannot be written"):
        save_arrays(tmp_path / "notes.txt" / "model", {}, {})


def refused(folder, file, wanted):
    for mmap in (False, True):
        with pytest.raises(ModelError) as caught:
            load_arrays(folder, mmap)
        message = str(caught.value)
        assert message.startswith(str(folder / file) + ": ") and wanted in message and ";" in message
        assert "\n" not in message


def test_a_missing_folder_or_file_is_named(tmp_path, folder):
    refused(tmp_path / "none", "config.json", "No such file")
    refused(tmp_path, "config.json", "give the folder of a model or of a run that training wrote")
    (folder / "W0.npy").unlink()
    refused(folder, "W0.npy", "No such file")
    (folder / "W0.npy").mkdir()
    refused(folder, "W0.npy", "directory")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"format_version": ' + b"1" * 5000 + b"}"])
def test_config_json_that_is_no_json(folder, text):
    (folder / "config.json").write_bytes(text)
    refused(folder, "config.json", "not valid JSON")


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"format_version": "1"}', '{"format_version": true}',
                                  '{"format_version": 0}', '{"format_version": 1.0}'])  # fmt: skip
def test_config_json_of_something_else(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "config.json", "no format_version")


def test_a_newer_format_says_so(folder):
    edit_config(folder, lambda content: content.update(format_version=2))
    refused(folder, "config.json", "format 2 is newer than this release reads; upgrade slide-numpy")


@pytest.mark.parametrize("entries", [None, [], 3, "W0"])
def test_no_table_of_arrays(folder, entries):
    edit_config(folder, lambda content: content.update(arrays=entries))
    refused(folder, "config.json", "no table of arrays")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", "a/b", "W0\n", "."])
def test_names_that_leave_the_folder_are_not_read(folder, name):
    np.save(folder.parent / "x.npy", np.ones(1))
    edit_config(folder, lambda content: content["arrays"].update({name: content["arrays"]["b0"]}))
    refused(folder, "config.json", "is not an array name")


@pytest.mark.parametrize("entry", [
    None, [], {}, {"shape": [2, 3]}, {"dtype": "float64"}, {"shape": 6, "dtype": "float64"},
    {"shape": [2, -3], "dtype": "float64"}, {"shape": [2, True], "dtype": "float64"},
    {"shape": [2.0], "dtype": "float64"}, {"shape": [2, 3], "dtype": "object"}, {"shape": [2, 3], "dtype": 8},
    {"shape": [2, 3], "dtype": ["float64"]}, {"shape": [0, 2**62], "dtype": "float64"},
    {"shape": [0] * 65, "dtype": "float64"}, {"shape": [2, 3], "dtype": "float64"},
    {"shape": [2, 3], "dtype": "float64", "crc32": "0"}, {"shape": [2, 3], "dtype": "float64", "crc32": -1},
])  # fmt: skip
def test_entries_of_wrong_types(folder, entry):
    edit_config(folder, lambda content: content["arrays"].update(W0=entry))
    refused(folder, "config.json", "array W0 needs a shape, a dtype and a checksum")


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.zeros((3, 2)), "holds float64 of shape (3, 2), but config.json says float64 of shape (2, 3)"),
        (np.zeros(6), "shape (6,)"),
        (np.zeros((2, 3), np.float32), "holds float32"),
        (np.zeros((2, 3), ">f8"), "holds >f8"),
        (np.asfortranarray(np.zeros((2, 3))), "in Fortran order"),
        (np.array([[{}] * 3] * 2), "holds object"),
        (np.zeros((2, 3), [("x", "f8")]), "holds [('x', '<f8')]"),
    ],
)
def test_an_array_file_of_something_else(folder, array, wanted):
    np.save(folder / "W0.npy", array, allow_pickle=True)
    refused(folder, "W0.npy", wanted)


@pytest.mark.parametrize("length", [0, 1, 5, 6, 9, 100, 127, 128, 129, 128 + 47])
def test_a_truncated_array_file(folder, length):
    raw = (folder / "W0.npy").read_bytes()
    assert len(raw) == 128 + 48
    (folder / "W0.npy").write_bytes(raw[:length])
    refused(folder, "W0.npy", "instead of 48" if length >= 128 else "not a plain .npy file")


def test_an_array_file_with_something_after_the_end(folder):
    (folder / "W0.npy").write_bytes((folder / "W0.npy").read_bytes() + b"\0")
    refused(folder, "W0.npy", "49 bytes of data instead of 48")


@pytest.mark.parametrize("place", [128, 150, 175])
def test_a_single_damaged_bit_is_noticed(folder, place):
    raw = bytearray((folder / "W0.npy").read_bytes())
    raw[place] ^= 4
    (folder / "W0.npy").write_bytes(raw)
    refused(folder, "W0.npy", "does not match its checksum in config.json")


def test_exchanged_arrays_are_noticed(tmp_path):
    save_arrays(tmp_path / "model", {}, {"W1": np.ones((3, 3)), "W2": np.zeros((3, 3))})
    for source, target in (("W1", "x"), ("W2", "W1"), ("x", "W2")):
        (tmp_path / "model" / f"{source}.npy").rename(tmp_path / "model" / f"{target}.npy")
    refused(tmp_path / "model", "W1.npy", "does not match its checksum")


def test_nothing_is_unpickled(tmp_path, folder):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (folder / "W0.npy").write_bytes(pickle.dumps(Trap()))
    refused(folder, "W0.npy", "not a plain .npy file")
    np.save(folder / "W0.npy", np.array([[Trap()] * 3] * 2), allow_pickle=True)
    refused(folder, "W0.npy", "holds object")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_damaged_header_is_refused_or_harmless(folder, place, byte):
    np.save(folder / "W0.npy", np.arange(6.0).reshape(2, 3))
    raw = bytearray((folder / "W0.npy").read_bytes())
    raw[place] = byte
    (folder / "W0.npy").write_bytes(raw)
    try:
        found = load_arrays(folder)[1]["W0"]
    except ModelError as error:
        assert str(folder / "W0.npy") in str(error) and "\n" not in str(error)
    else:
        assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_every_dtype_that_can_be_written_is_known_to_numpy():
    assert all(np.dtype(name).name == name for name in array_files.DTYPES)
