"""The files of an earlier run in a run folder, kept until a new run there has saved something of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from slide_ref.common.storage.replacing import standing

from ..engine.checkpoints import BEST, Checkpoints

ASIDE, GONE = ".before", ".before.gone"
COMPLETE = ".complete"  # in ASIDE once all files are there
MODEL_THEN = ".model"  # in ASIDE: which model was there when the new run began to save its own


class EarlierRun:
    """The files of an earlier run, which move into a hidden folder within the run folder, and back.

    If the process dies meanwhile, they stay in that folder, and `recover` puts things right.

    Parameters
    ----------
    folder : path
        The run folder; the caller has locked it.
    names : tuple of str
        Names of the files in it, besides those of checkpoints.
    checkpoints : str
        Name of the folder of checkpoints in it.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], checkpoints: str):
        self.folder, self._names, self._checkpoints = folder, names, checkpoints
        self._aside, self._gone = folder / ASIDE, folder / GONE

    @property
    def is_aside(self) -> bool:
        """Whether there are files in the hidden folder."""
        return self._aside.exists()

    def _found_in(self, folder: Path) -> list[Path]:
        files = [folder / name for name in self._names if (folder / name).exists()]
        return files + Checkpoints(folder / self._checkpoints).all_saved()

    def set_aside(self) -> None:
        """Move the files of the earlier run into the hidden folder. Raises OSError."""
        found = self._found_in(self.folder)
        _move(found, self.folder, self._aside)
        if found:
            (self._aside / COMPLETE).touch()

    def put_back(self) -> None:
        """Move the files back, in place of those of the new run. Raises OSError."""
        if (self._aside / COMPLETE).exists():  # so what stands in the folder is new
            for name in self._names:
                (self.folder / name).unlink(missing_ok=True)
            shutil.rmtree(self.folder / self._checkpoints / BEST, ignore_errors=True)
            (self._aside / COMPLETE).unlink()
        _move(self._found_in(self._aside), self._aside, self.folder)
        shutil.rmtree(self._aside, ignore_errors=True)

    def discard(self) -> None:
        """Remove the files that were set aside. Raises OSError."""
        shutil.rmtree(self._gone, ignore_errors=True)
        if self.is_aside:
            self._aside.rename(self._gone)  # in one go: half of them must never be put back
            shutil.rmtree(self._gone, ignore_errors=True)

    def note_model(self, model: Path) -> None:
        """Note which model is there, just before the new run saves its own. Raises OSError."""
        if self.is_aside:
            (self._aside / MODEL_THEN).write_text(_identity(model))

    def recover(self, model: Path) -> bool:
        """Repair what a killed run left: put its predecessor's files back, or remove them if it had saved something.

        Returns whether files were put back. Raises OSError.
        """
        if not self.is_aside or ((self._aside / COMPLETE).exists() and self._has_saved(model)):
            self.discard()
            return False
        self.put_back()
        return True

    def _has_saved(self, model: Path) -> bool:
        noted = self._aside / MODEL_THEN
        has_model = noted.exists() and noted.read_text() != _identity(standing(model))
        return has_model or bool(Checkpoints(self.folder / self._checkpoints).saved())


def _identity(folder: Path) -> str:
    """Identify a model folder, to detect that it is replaced; empty if there is none."""
    try:
        status = folder.stat()
    except OSError:
        return ""
    return f"{status.st_ino} {status.st_mtime_ns}"


def _move(paths: list[Path], source: Path, target: Path) -> None:
    for path in paths:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
