"""Model folders when the disk fails, or the process dies, at any call that writes: what stood there before still loads.

A crash is played in this process: from some call on, nothing that writes has an effect any more. The system calls of
a save are few and all go through `slide_ref.common.storage.replacing`, so each of them can be hit.
"""

import builtins
import errno
import itertools
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from slide_ref.common.errors import ModelError
from slide_ref.common.storage import replacing
from slide_ref.common.storage.array_folder import load_arrays, save_arrays

REMOVE_TREE = shutil.rmtree


class Crash(BaseException):
    """The process died."""


class Faults:
    """Hits the `number`-th call that writes: the process dies there, or the call fails with `error`."""

    def __init__(self, number, error=None):
        self.number, self.error, self.count, self.names = number, error, 0, []

    @property
    def was_hit(self):
        return self.count >= self.number

    def check(self, name):
        """Whether this is the call to hit; after a crash, every call is."""
        self.count += 1
        self.names.append(name)
        return self.count == self.number or (self.error is None and self.was_hit)

    def strike(self):
        raise Crash if self.error is None else self.error

    def wrap(self, name, function):
        def call(*arguments, **options):
            if self.check(name):
                self.strike()
            return function(*arguments, **options)

        return call

    def open(self, path, mode):
        if self.check("open"):
            self.strike()
        return HalfWritten(builtins.open(path, mode, buffering=0), self)

    def remove_tree(self, path, ignore_errors):
        """As the original, but a crash leaves half of the files."""
        if not Path(path).exists():
            return
        if not self.check("rmtree"):
            REMOVE_TREE(path, ignore_errors)
            return
        for file in sorted(Path(path).iterdir())[::2]:
            if self.count == self.number:
                file.unlink()
        if self.error is None:
            self.strike()


class HalfWritten:
    """A file; the write that is hit gets half of its bytes to the disk."""

    def __init__(self, file, faults):
        self.file, self.faults = file, faults
        self.fileno, self.flush = file.fileno, file.flush

    def write(self, content):
        if self.faults.check("write"):
            if self.faults.count == self.faults.number:
                self.file.write(memoryview(content).cast("B")[: memoryview(content).nbytes // 2])
            self.faults.strike()
        self.file.write(content)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


@contextmanager
def faults_at(number, error=None):
    faults = Faults(number, error)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkdir", "rename", "rmdir"):
            patch.setattr(Path, name, faults.wrap(name, getattr(Path, name)))
        patch.setattr(os, "fsync", faults.wrap("fsync", lambda descriptor: None))
        patch.setattr(replacing, "open", faults.open, raising=False)
        patch.setattr(replacing.shutil, "rmtree", faults.remove_tree)
        yield faults


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def save(folder, generation):
    """Two arrays and a text that all tell the generation."""
    arrays = {"W0": np.full((2, 3), generation, np.float32), "b0": np.full(3, generation, np.int64)}
    save_arrays(folder, {"generation": generation}, arrays, {"labels.txt": f"{generation}\n"})


def generation_of(folder):
    """The generation that a folder holds; all parts of it agree."""
    description, arrays = load_arrays(folder)
    generations = {description["generation"], *arrays["W0"].ravel().tolist(), *arrays["b0"].tolist()}
    assert len(generations) == 1
    return generations.pop()


def numbers_of_calls(folder):
    with faults_at(10**9) as faults:
        save(folder, 0)
    assert {"mkdir", "open", "write", "fsync", "rename", "rmdir"} <= set(faults.names)
    return range(1, faults.count + 1)


def test_a_crash_at_any_call_leaves_the_old_model_or_the_new_one(tmp_path):
    folder, found = tmp_path / "model", []
    save(folder, 1)
    for number in numbers_of_calls(tmp_path / "other"):
        save(folder, 1)
        with faults_at(number), pytest.raises(Crash):
            save(folder, 2)
        found.append(generation_of(folder))
        save(folder, 3)
        assert generation_of(folder) == 3 and sorted(os.listdir(tmp_path)) == ["model", "other"]
    assert found == sorted(found) and set(found) == {1, 2}


@pytest.mark.slow
def test_a_crash_after_a_crash_loses_nothing(tmp_path):
    folder = tmp_path / "model"
    numbers = numbers_of_calls(tmp_path / "other")
    for first, second in itertools.product(numbers, numbers):
        save(folder, 1)
        for number, generation in ((first, 2), (second, 3)):
            with faults_at(number), pytest.raises(Crash):
                save(folder, generation)
        assert generation_of(folder) in (1, 2, 3)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_call_that_fails_is_told_and_changes_nothing(tmp_path, code):
    folder, error = tmp_path / "model", OSError(code, os.strerror(code))
    save(folder, 1)
    for number in numbers_of_calls(tmp_path / "other"):
        with faults_at(number, error) as faults:
            try:
                save(folder, 2)
            except ModelError as raised:
                assert f"{folder}: cannot be written (" in str(raised) and os.strerror(code) in str(raised)
                is_last = faults.names[number - 1 :] == ["fsync"]  # the new model stands, but may not be on the disk
                assert generation_of(folder) == (2 if is_last else 1)
            else:  # what could not be removed afterwards
                assert generation_of(folder) == 2 and faults.names[number - 1] in ("rmtree", "rmdir")
        save(folder, 1)
        assert sorted(os.listdir(tmp_path)) == ["model", "other"]


def test_ctrl_c_at_any_call_leaves_the_old_model_or_the_new_one(tmp_path):
    folder = tmp_path / "model"
    for number in numbers_of_calls(tmp_path / "other"):
        save(folder, 1)
        with faults_at(number, KeyboardInterrupt()), suppress(KeyboardInterrupt):
            save(folder, 2)
        assert generation_of(folder) in (1, 2)
        save(folder, 3)
        assert generation_of(folder) == 3 and sorted(os.listdir(tmp_path)) == ["model", "other"]


def test_ctrl_c_right_after_the_new_model_stands_is_ctrl_c(tmp_path, monkeypatch):
    save(tmp_path / "model", 1)
    rename = Path.rename

    def interrupted(path, target):
        rename(path, target)
        if path.name == "new":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "model", 2)
    assert generation_of(tmp_path / "model") == 2


def test_a_reader_sees_one_model_while_another_process_replaces_it(tmp_path):
    folder, seen, ended = tmp_path / "model", set(), threading.Event()
    save(folder, 0)

    def keep_saving():
        for generation in range(1, 200):
            save(folder, generation)
        ended.set()

    writer = threading.Thread(target=keep_saving)
    writer.start()
    while not ended.is_set():
        seen.add(generation_of(folder))
    writer.join()
    assert generation_of(folder) == 199 and len(seen) > 1


FULL_DISK = """
import os, sys
import numpy as np
from slide_ref.common.storage.array_folder import load_arrays, save_arrays
from slide_ref.common.errors import ModelError
save_arrays("model", {"generation": 1}, {"W": np.ones(100)})
if sys.argv[1] == "full":
    size = 1 << 20
else:
    os.system("mount -o remount,ro .")
    size = 1
try:
    save_arrays("model", {"generation": 2}, {"W": np.ones(size)})
except ModelError as error:
    print(error)
print(load_arrays("model")[0], sorted(os.listdir(".")))
"""


@pytest.mark.parametrize(("kind", "words"), [("full", "No space left on device"), ("read-only", "Read-only file")])
def test_a_real_file_system_that_is_full_or_read_only(tmp_path, kind, words):
    (tmp_path / "script.py").write_text(FULL_DISK)
    (tmp_path / "disk").mkdir()
    commands = (
        f"cd {tmp_path} && mount -t tmpfs -o size=1m tmpfs disk && cd disk && {sys.executable} ../script.py {kind}"
    )
    mounts = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    if shutil.which("unshare") is None or subprocess.run(mounts, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*mounts[:-1], commands], capture_output=True, text=True, env=environment, check=True)
    message, found = done.stdout.splitlines()
    assert message.startswith("model: cannot be written (") and words in message
    assert found == "{'generation': 1} ['model']"


def test_saves_to_one_folder_at_once_wait_for_each_other(tmp_path):
    def saves():
        for generation in range(20):
            save(tmp_path / "model", generation)

    errors = []

    def checked():
        try:
            saves()
        except ModelError as error:
            errors.append(error)

    threads = [threading.Thread(target=checked) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and generation_of(tmp_path / "model") == 19


@pytest.mark.skipif(os.name == "nt", reason="there are no locks of folders")
def test_a_save_does_not_look_at_what_another_has_half_removed(tmp_path, monkeypatch):
    folder, swap, errors = tmp_path / "model", replacing._swap, []
    save(folder, 0)

    def other():
        try:
            save(folder, 2)
        except ModelError as error:
            errors.append(error)

    thread = threading.Thread(target=other)

    def slow_swap(new, folder, old):
        monkeypatch.setattr(replacing, "_swap", swap)
        folder.rename(old)
        (old / "config.json").unlink()
        thread.start()
        thread.join(timeout=0.2)
        new.rename(folder)

    monkeypatch.setattr(replacing, "_swap", slow_swap)
    save(folder, 1)
    thread.join()
    assert not errors and generation_of(folder) == 2


@pytest.mark.skipif(os.name == "nt", reason="there are no locks of folders")
def test_a_folder_of_work_that_another_save_has_just_removed_is_made_again(tmp_path, monkeypatch):
    made, plain = [], os.mkdir

    def mkdir(path, *rest):
        made.append(Path(path).name)
        if made.count(".model.saving") == 1 and made[-1] == ".model.saving":
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        plain(path, *rest)

    monkeypatch.setattr(os, "mkdir", mkdir)
    save(tmp_path / "model", 3)
    assert generation_of(tmp_path / "model") == 3 and made.count(".model.saving") == 2


@pytest.mark.skipif(os.name == "nt", reason="there are no locks of folders")
def test_a_file_in_place_of_the_folder_of_work_is_told(tmp_path):
    (tmp_path / ".model.saving").write_text("mine")
    with pytest.raises(ModelError, match="cannot be written .*Not a directory"):
        save(tmp_path / "model", 1)
