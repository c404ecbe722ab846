"""Atomic replacement of a folder: a reader sees the old content or the new, even after a crash.

The new content of ``model`` is written to ``.model.saving/new`` next to it. When it is complete and on disk, ``model``
is renamed to ``.model.saving/old`` and the new content to ``model``. After a crash between these two renames only the
old content, under its temporary name, is sure to be complete: `standing` finds it there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".saving"


def _work_of(folder: Path) -> Path:
    return folder.parent / f".{folder.name}{SUFFIX}"


def standing(folder: Path) -> Path:
    """Find the content of `folder`: in place, or where a crash during a replacement left it."""
    old = _work_of(folder.resolve()) / "old"
    return old if not folder.exists() and old.exists() else folder


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Create an empty folder to fill, which replaces `folder` when the block ends without an error.

    What a killed replacement left is repaired first. A second replacement of the same folder waits for the first.

    Raises
    ------
    OSError
        If the system refuses. The earlier content of `folder` is then unchanged.
    """
    folder = folder.resolve()
    work = _work_of(folder)
    new, old = work / "new", work / "old"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(work):
        try:
            _repair(folder, work)
            new.mkdir()
            yield new
            sync_folder(new)
            _swap(new, folder, old)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty if the old folder could not be renamed back
                work.rmdir()
    sync_folder(folder.parent)


def repair_all(parent: Path) -> None:
    """Repair what killed replacements left of folders in `parent`; nobody may be replacing one. Raises OSError."""
    for work in parent.resolve().glob(f".*{SUFFIX}"):
        _repair(parent.resolve() / work.name.removeprefix(".").removesuffix(SUFFIX), work)
        with contextlib.suppress(OSError):
            work.rmdir()


def _repair(folder: Path, work: Path) -> None:
    """Put the old content of a folder back if it has none, and remove what else a killed replacement left."""
    new, old = work / "new", work / "old"
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone_in(work: Path) -> Iterator[None]:
    """Create a folder of work; others that want it wait until the block ends, where the system has locks."""
    if os.name == "nt":
        work.mkdir(exist_ok=True)
        yield
        return
    import fcntl

    while True:
        with contextlib.suppress(FileExistsError):  # not exist_ok: it fails if the folder is removed meanwhile
            work.mkdir()
        try:
            descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # the one before has just removed it
            continue
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            stands = False
            with contextlib.suppress(FileNotFoundError):
                stands = os.path.samestat(os.fstat(descriptor), os.stat(work))
            if stands:
                yield
                return
        finally:
            os.close(descriptor)


def _swap(new: Path, folder: Path, old: Path) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file whose content is flushed to disk when the block ends."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the file names of a folder to disk; does nothing on Windows, which has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
