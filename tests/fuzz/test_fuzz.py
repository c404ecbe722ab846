"""Inputs made by hypothesis and by chance; `fuzz_text.py` makes a million, guided by the code that they reach."""

import io
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import corpus
import fuzz_text
import reading

from slide_fast.data import NPZ_KEYS, read_npz, read_xmc, write_npz
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

FILE_PER_TEST = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.lists(st.sampled_from(corpus.WORDS) | st.binary(max_size=3), max_size=60).map(b"".join)
HEADERS = st.sampled_from([b"", b"2 5 4\n", b"1 2147483647 2147483647\n", b"2147483647 9 9\n"])


@FILE_PER_TEST
@given(header=HEADERS, text=TEXTS)
def test_s17_made_up_text_is_data_or_an_error_with_its_place(tmp_path, header, text):
    reading.check_text(header + text, tmp_path / "text")


def test_s17_mutated_text_is_data_or_an_error_with_its_place(tmp_path):
    target = fuzz_text.Target(tmp_path / "text")
    fuzz_text.by_chance(target, 4000, seed=0)
    assert target.runs == 4000 and 40 < target.accepted < 4000


@pytest.mark.parametrize("content", [
    *corpus.SEEDS,
    b"2147483647 2147483647 2147483647\n" + b" \n" * 20_000,
    b"1 2147483647 2147483647\n0 " + b" ".join(b"%d:1" % i for i in range(0, 2**31 - 1, 2**18)) + b"\n",
    b"1 9 9\n" + b"1," * 100_000 + b"x\n",
    b"1 9 9\n" + b"0 1:" + b"1" * 300_000 + b"\n",
    b" " * 500_000,
    b"9" * 500_000,
], ids=range(len(corpus.SEEDS) + 6))  # fmt: skip
def test_reading_takes_a_small_multiple_of_the_input(tmp_path, content):
    reading.check_memory(read_xmc, content, tmp_path / "text")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "data.npz"
    features = rows_from_lists([[0, 3], [1], []], 5)
    values = np.array([1, 2, 3], np.float32)
    features = SparseRows(features.indptr, features.indices, values, 5)
    write_npz(path, Dataset(features, rows_from_lists([[1], [], [0]], 4)))
    return path.read_bytes()


def test_damaged_archives_are_data_or_an_error(tmp_path, archive):
    rng = random.Random(0)
    for _ in range(1500):
        content = bytearray(archive)
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        reading.check_npz(bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content),
                          tmp_path / "data.npz")  # fmt: skip


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(4611686018427387904,)", "(1048576, 1048576)"])
def test_an_archive_that_claims_to_be_huge_takes_no_memory(tmp_path, archive, shape):
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(tmp_path / "data.npz", "w") as target:
        for key in NPZ_KEYS:
            content = source.read(f"{key}.npy")
            if key == "X_data":
                header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
                content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content[-12:]
            target.writestr(f"{key}.npy", content)
    content = (tmp_path / "data.npz").read_bytes()
    with pytest.raises(DataError, match="not an intact .npz file"):
        read_npz(tmp_path / "data.npz")
    reading.check_memory(read_npz, content, tmp_path / "data.npz")
