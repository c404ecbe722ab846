"""Blocks of shared memory: layout, lifetime, exhaustion, and what another process sees."""

import errno
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slide_fast.parallel import shared_arrays
from slide_fast.parallel.shared_arrays import SharedArrays

KINDS = ["memfd", "shm"] if shared_arrays.KIND == "memfd" else [shared_arrays.KIND]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
taken_at_once = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="memory is taken when it is used")
LAYOUT = {"b": ((3,), np.float32), "W": ((50, 40), "f4"), "ids": ((7,), np.int64), "none": ((0, 5), np.int32)}


@pytest.fixture(autouse=True)
def collected():
    """Blocks that earlier tests left in reference cycles are gone before a test counts its own."""
    gc.collect()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def shared_names() -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith(f"slide-{os.getpid()}-")]


def mapped_blocks() -> int:
    gc.collect()  # what other tests have left
    text = Path("/proc/self/maps").read_text()
    return text.count("memfd:slide") + text.count("/slide-")


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_have_their_shapes_and_are_zero(kind):
    with SharedArrays.create(LAYOUT, kind) as shared:
        assert list(shared.arrays) == list(LAYOUT)
        for name, (shape, dtype) in LAYOUT.items():
            assert shared[name].shape == shape
            assert shared[name].dtype == dtype
            assert not shared[name].any()
            assert shared[name].flags.writeable
            assert shared[name].flags.c_contiguous
        assert shared["W"].ctypes.data % 4096 == 0
        assert shared["ids"].ctypes.data % 64 == 0


@given(st.lists(st.tuples(st.lists(st.integers(0, 40), max_size=3), st.sampled_from("bhlfd?")), max_size=6))
def test_arrays_do_not_overlap(entries):
    layout = {f"a{i}": (tuple(shape), dtype) for i, (shape, dtype) in enumerate(entries)}
    with SharedArrays.create(layout) as shared:
        for i, array in enumerate(shared.arrays.values()):
            array.reshape(-1).view(np.uint8)[:] = i + 1
        for i, array in enumerate(shared.arrays.values()):
            assert (array.reshape(-1).view(np.uint8) == i + 1).all()
            assert array.size == 0 or array.ctypes.data % (4096 if array.nbytes >= 4096 else 64) == 0
        assert shared.handle.n_bytes >= sum(array.nbytes for array in shared.arrays.values())


@pytest.mark.parametrize("kind", KINDS)
def test_attached_arrays_are_the_same_memory(kind):
    with SharedArrays.create(LAYOUT, kind) as shared:
        two = SharedArrays.attach(pickle.loads(pickle.dumps(shared.handle)))
        two["W"][3, 4] = 5
        shared["ids"][:] = np.arange(7)
        assert shared["W"][3, 4] == 5
        assert two["ids"].tolist() == list(range(7))


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_another_process_attaches_and_its_end_frees_nothing(kind):
    code = (
        "import sys, pickle; from slide_fast.parallel.shared_arrays import SharedArrays\n"
        "shared = SharedArrays.attach(pickle.loads(bytes.fromhex(sys.argv[1])))\n"
        "shared['W'][:] += 2"
    )
    with SharedArrays.create(LAYOUT, kind) as shared:
        shared["W"][:] = 1
        handle = pickle.dumps(shared.handle).hex()
        subprocess.run([sys.executable, "-c", code, handle], pass_fds=shared.handle.descriptors, check=True)
        assert (shared["W"] == 3).all()


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_close_frees_everything_and_may_be_repeated(kind):
    files, names, mapped = open_files(), shared_names(), mapped_blocks()
    shared = SharedArrays.create(LAYOUT, kind)
    assert shared_names() == names
    shared.close()
    shared.close()
    assert (open_files(), mapped_blocks()) == (files, mapped)
    assert shared.arrays == {}


@linux
def test_a_block_that_nobody_closes_is_freed_with_its_last_reference():
    files, mapped = open_files(), mapped_blocks()
    SharedArrays.create(LAYOUT)
    assert (open_files(), mapped_blocks()) == (files, mapped)


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_a_view_outlives_its_block_unharmed(kind):
    files, mapped = open_files(), mapped_blocks()
    with SharedArrays.create(LAYOUT, kind) as shared:
        view = shared["W"][10:20, 3]
        view[:] = 7
    del shared
    assert (view == 7).all()
    assert mapped_blocks() == mapped + 1
    del view
    assert (open_files(), mapped_blocks()) == (files, mapped)


def test_more_than_is_left_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr("slide_fast.parallel.machine.memory_left", lambda: 3 << 28)
    with pytest.raises(MemoryError, match=r"need 2\.15 GB, but only 805 MB are left; use fewer"):
        SharedArrays.create({"W": ((1 << 19, 1024), np.float32)})


@linux
@taken_at_once
def test_memory_that_others_take_meanwhile_ends_the_allocation(monkeypatch):
    left = iter([9 << 20, 9 << 20, 5 << 20, 3 << 20])
    monkeypatch.setattr("slide_fast.parallel.machine.memory_left", lambda: next(left))
    monkeypatch.setattr(shared_arrays, "PIECE", 1 << 20)
    files = open_files()
    with pytest.raises(MemoryError, match="but only 3 MB are left"):
        SharedArrays.create({"W": ((6 << 20,), np.uint8)})
    assert open_files() == files


@linux
@taken_at_once
@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "free memory"), (errno.ENOMEM, "free memory"), (errno.EFBIG, "limit on the size of files")],
)
def test_a_full_file_system_is_a_memory_error(code, advice, monkeypatch):
    def refuse(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    files = open_files()
    with pytest.raises(MemoryError, match=f"more than the system provides; .*{advice}"):
        SharedArrays.create(LAYOUT)
    assert open_files() == files


@linux
def test_a_limit_of_address_space_is_a_memory_error():
    code = (
        "import resource; from slide_fast.parallel.shared_arrays import SharedArrays\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (16 << 20),) * 2)\n"
        "try: SharedArrays.create({'W': ((32 << 20,), 'u1')})\n"
        "except MemoryError as error: print(error)"
    )
    assert "need 34 MB, more than" in subprocess.check_output([sys.executable, "-c", code], text=True)


@linux
@taken_at_once
def test_other_errors_while_allocating_stay_what_they_are(monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "not allowed")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    files = open_files()
    with pytest.raises(PermissionError):
        SharedArrays.create(LAYOUT)
    assert open_files() == files
