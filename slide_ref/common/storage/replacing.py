"""A folder that is replaced whole: a reader sees the old content or the new, after a crash as well.

Beside ``model`` the new content grows in ``.model.saving/new``. When it is complete, and on the disk, ``model`` becomes
``.model.saving/old`` and the new content becomes ``model``. Between these two renames only the old content, under its
other name, is complete for sure: `standing` finds it there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def _work_of(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.saving"


def standing(folder: Path) -> Path:
    """Find the content of `folder`: there, or where a crash in the midst of a replacement has left it."""
    old = _work_of(folder.resolve()) / "old"
    return old if not folder.exists() and old.exists() else folder


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Make an empty folder to fill, which takes the place of `folder` when the block has ended without an error.

    What an earlier replacement left behind when it was killed is put right first. One process at a time may replace
    a folder.

    Raises
    ------
    OSError
        If the system refuses. What stood in `folder` then still stands there.
    """
    folder = folder.resolve()
    work = _work_of(folder)
    new, old = work / "new", work / "old"
    folder.parent.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    try:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
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


def _swap(new: Path, folder: Path, old: Path) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file whose content is on the disk, and not only on its way, when the block has ended."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
