"""A run's folder: config.toml, metrics.jsonl, curves.png and the model."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, SlideError
from slide_ref.common.storage.array_folder import holds_network, lies_in_network
from slide_ref.common.storage.complete_file import complete_file
from slide_ref.common.storage.model_folder import MODEL, Model, save_model
from slide_ref.common.storage.replacing import repair_all, standing

from ..display.plots import plot_runs
from ..engine.checkpoints import Checkpoints
from ..engine.progress import Event
from ..engine.training_info import KEPT_EVENTS
from .earlier_run import EarlierRun
from .settings import to_toml

CONFIG, METRICS, CURVES = "config.toml", "metrics.jsonl", "curves.png"
FILES = (CONFIG, METRICS, CURVES)
CHECKPOINTS, LOCK = "checkpoints", ".lock"


def json_line(values: Mapping[str, Any]) -> str:
    """Format a JSON object on one line; a float that is not finite becomes null."""
    return json.dumps(_finite(values), allow_nan=False)


def _finite(value: Any) -> Any:
    """Return a JSON value with None for floats that are not finite, wherever they are."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse_within_model(name: str, path: Path) -> None:
    """Raise ConfigError if a place, an argument, is in the folder of a model or checkpoint, which is replaced whole."""
    if lies_in_network(path):
        raise ConfigError(f"{name} {path}: lies in a model folder; choose another place")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs. The system unlocks it when this process dies.

    Raises SlideError if another run is training there.
    """
    if sys.platform == "win32":  # no folder can be opened there
        path, flags = folder / LOCK, os.O_RDWR | os.O_CREAT
    else:
        path, flags = folder, os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        if not _lock(descriptor):
            raise SlideError(f"{folder}: another run is training there; wait until it ends, or choose another folder")
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Tell whether this process acquired the lock; on a file system without locks it always does."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def _key(event: Event) -> str:
    """Return an event as JSON with its fields in order."""
    return json_line(dict(sorted(event.items())))


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Raise SlideError, with advice, where the system refuses to write in a block."""
    try:
        yield
    except OSError as error:
        advice = "choose another folder or free some space"
        raise SlideError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from error


class RunFolder:
    """The folder that a training run writes to; a context manager.

    On entry the folder is created if needed and checked to be writable; it stays locked against other runs until the
    end. If the block fails before a model or a checkpoint is saved, everything is restored, unless a best network is
    there and no earlier run; if the process is killed, the next run that enters does it.

    Parameters
    ----------
    path : path
        Absent, empty, or the folder of an earlier run, whose files are replaced.
    replaces : bool
        Whether a model or checkpoints of an earlier run may be replaced.

    Raises
    ------
    ConfigError
        On entry, if the folder holds a model or checkpoints that must not be replaced, or lies in a model folder.
    SlideError
        On entry, if the folder holds something else, cannot be written, or another run is training there.

    Attributes
    ----------
    took_back : bool
        Whether an earlier run's files were put back on entry, since the run after it was killed.
    has_model : bool
        Whether this run has saved its model.
    """

    def __init__(self, path: str | Path, replaces: bool = False):
        self.path, self._replaces = Path(path), replaces
        self.model_path = self.path / MODEL
        self.took_back = False
        self._made: list[Path] = []
        self._earlier = EarlierRun(self.path, FILES, CHECKPOINTS)
        self._is_new = self.has_model = False
        self._metrics: TextIO = io.StringIO()  # until `begin`
        self._open = ExitStack()

    def __enter__(self) -> RunFolder:
        refuse_within_model("--out", self.path)
        try:
            self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(_locked(self.path))
            probe = self.path / f".{METRICS}.probe"
            probe.touch()
            probe.unlink()
            repair_all(self.path / CHECKPOINTS)
            self.took_back = self._earlier.recover(self.model_path)
        except OSError as error:
            self._open.close()
            self._remove_made()
            raise SlideError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from error
        with self._open, _written(self.path):  # unlocked if this fails
            self._check_content()
            self._open = self._open.pop_all()
        return self

    def _check_content(self) -> None:
        names = {entry.name for entry in self.path.iterdir()} - {LOCK}
        has_model = (standing(self.model_path) / "config.json").is_file()
        checkpoints = Checkpoints(self.path / CHECKPOINTS)
        can_resume, kept = bool(checkpoints.saved()), checkpoints.all_saved()
        is_run = METRICS in names or any(map(holds_network, kept))
        if names and not (has_model or (is_run and MODEL not in names)):
            raise SlideError(f"{self.path}: contains files other than those of a run; choose an empty or a new folder")
        if (has_model or kept) and not self._replaces:
            what = (
                "a trained model" if has_model else "checkpoints of a run" if can_resume else "the best model of a run"
            )
            ways = ["--resume continues from its last checkpoint"] * can_resume + ["--overwrite replaces it"]
            raise ConfigError(f"{self.path}: holds {what}; {', '.join(ways)}, or choose another folder")

    def begin(self, config: Config, command: str, history: Sequence[Event] | None = None, step: int = -1) -> None:
        """Write config.toml, with the command as a comment, and metrics.jsonl with the events of the run to resume.

        `history` are these events, None for a new run. Evaluations up to `step`, that of the checkpoint, are kept too:
        the last one of a run comes after its last checkpoint. Raises SlideError.
        """
        with _written(self.path):
            kept = [] if history is None else self._lines_of(history, step)
            if history is None:
                self._earlier.set_aside()
                self._is_new = True
            printable = "".join(c if c.isprintable() else "?" for c in command)
            (self.path / CONFIG).write_text(
                f"# {printable}\n{to_toml(config.to_dict())}", encoding="utf-8", newline="\n"
            )
            (self.path / CURVES).unlink(missing_ok=True)
            with complete_file(self.path / METRICS) as file:
                file.write("".join(line + "\n" for line in kept).encode())
            self._metrics = open(self.path / METRICS, "a", encoding="utf-8", newline="\n", buffering=1)  # noqa: SIM115

    def _lines_of(self, history: Sequence[Event], last_step: int) -> list[str]:
        """Return lines about some events, and about other evaluations up to a step, as they stand in metrics.jsonl."""
        file, written, others = self.path / METRICS, {}, []
        for line in (file.read_bytes() if file.exists() else b"").decode("utf-8", "replace").splitlines():
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # of a line cut off by a crash
                event = json.loads(line)
                written[_key(event)] = line
                if event["kind"] == "evaluation" and event["step"] <= last_step and "kept_epoch" not in event:
                    others.append(event)
        known = {_key(event) for event in history}
        events = [*history, *(event for event in others if _key(event) not in known)]
        return [written.get(_key(event), json_line(event)) for event in sorted(events, key=lambda event: event["step"])]

    def record(self, event: Event) -> None:
        """Append an event to metrics.jsonl, if its kind is recorded, and flush it to disk. Raises SlideError."""
        if event["kind"] in KEPT_EVENTS:
            with _written(self.path / METRICS):
                self._metrics.write(json_line(event) + "\n")
            if self._earlier.is_aside and self._has_saved():
                self._discard_earlier()

    def save(self, model: Model) -> None:
        """Write the model, replacing an earlier one. Raises SlideError."""
        with _written(self.path):
            self._earlier.note_model(self.model_path)
            save_model(self.model_path, model)
        self.has_model = True
        self._discard_earlier()

    def _discard_earlier(self) -> None:
        with suppress(OSError):  # what the system refuses is left to the next run
            self._earlier.discard()

    @property
    def has_metrics(self) -> bool:
        """Whether metrics.jsonl is there still: the folder may have been removed during training."""
        return (self.path / METRICS).exists()

    @property
    def has_evaluations(self) -> bool:
        """Whether metrics.jsonl has an evaluation to draw."""
        return self.has_metrics and b'"kind": "evaluation"' in (self.path / METRICS).read_bytes()

    def plot(self, baselines: Mapping[str, float]) -> Path:
        """Draw curves.png and return its path. Raises PlotError; the run must have evaluated."""
        plot_runs([self.path], self.path / CURVES, dict(baselines))
        return self.path / CURVES

    @property
    def leaves_best(self) -> bool:
        """Whether the best network of this run stays, with no other checkpoint: there is no earlier run or model."""
        is_alone = self._is_new and not self._earlier.is_aside and not self.model_path.exists()
        return is_alone and bool(Checkpoints(self.path / CHECKPOINTS).all_saved())

    def _has_saved(self) -> bool:
        return self.has_model or bool(Checkpoints(self.path / CHECKPOINTS).saved())

    def _restore(self) -> None:
        """Undo what a run did that has saved nothing new; what the system refuses is left to the next run."""
        with suppress(OSError):
            for name in (CONFIG, METRICS, CURVES) if self._is_new else ():
                (self.path / name).unlink(missing_ok=True)
            self._earlier.put_back()

    def _remove_made(self) -> None:
        for folder in (self.path / CHECKPOINTS, *self._made):
            with suppress(OSError):  # not empty: someone else uses it
                folder.rmdir()

    def __exit__(self, *exception: object) -> None:
        with self._open:  # unlocks at the end
            with suppress(OSError):  # a full disk, which the block has told of
                self._metrics.close()
            if self._is_new and self._has_saved():
                self._discard_earlier()
            elif not self.leaves_best:
                self._restore()
                self._remove_made()
