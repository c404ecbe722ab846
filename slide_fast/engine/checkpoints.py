"""The state of a run, to continue it: in memory for further training, in folders for an interrupted run.

With one worker, a run resumed from a checkpoint gives the same bytes as a run that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.checks import one_of, positive, whole
from slide_ref.common.config import EVAL_METRICS, WEIGHT_DTYPES, Config
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.parameters import array_shapes
from slide_ref.common.parts import parts_of
from slide_ref.common.schedule import in_batch_steps, total_steps
from slide_ref.common.storage.array_files import Arrays
from slide_ref.common.storage.array_folder import is_count, lies_in_network, load_arrays, save_arrays
from slide_ref.common.storage.model_folder import Model, save_model

from .data_summary import DataSummary
from .layout import state_arrays
from .progress import Event, Progress, Totals
from .training_info import history_of

KIND = "checkpoint"
BEST = "best"
PREFIX = "step-"


class PastRuns(NamedTuple):
    """Totals of the earlier runs of a network that is trained further; counting continues from these (S13).

    `steps` is counted from when the optimiser's moments were new, `older_steps` are those before, and epochs and
    rebuilds are counted from the new network.
    """

    steps: int = 0
    epochs: int = 0
    rebuilds: int = 0
    older_steps: int = 0

    @property
    def all_steps(self) -> int:
        """Steps from the new network on."""
        return self.older_steps + self.steps


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """A network in training.

    Attributes
    ----------
    config : Config
    n_features, n_labels : int
    arrays : mapping of str to ndarray, or Blocks if the state can only be saved
        Parameters, and moments and tables if kept, named as in shared memory.
    past : PastRuns
        Totals of earlier runs.
    progress : Progress or None
        Progress of the run to resume; None: it has finished, and a new run begins here.
    data : str
        Fingerprint of the training data of the run to resume.
    history : tuple of dict
        Events reported so far at the end of epochs and at evaluations.
    label_names : list of str, optional
        For the model.
    judged_by : str
        The metric that selects the best network of the run to resume.
    judged_on : str
        Fingerprint of the test samples that the best network was found on, and how many of them were used; "" in
        checkpoints of earlier releases.
    dtype : str, optional
        Dtype of the weights in the model folder that the run is to write; None unless the state comes from a
        checkpoint, and in checkpoints of earlier releases.
    """

    config: Config
    n_features: int
    n_labels: int
    arrays: Arrays
    past: PastRuns = PastRuns()
    progress: Progress | None = None
    data: str = ""
    history: tuple[Event, ...] = ()
    label_names: list[str] | None = None
    judged_by: str = EVAL_METRICS[0]
    judged_on: str = ""
    dtype: str | None = None

    @classmethod
    def of(cls, model: Model, kept: TrainingState | None = None) -> TrainingState:
        """Return the state to train a model further from: `kept` if it is the model's, else one with new moments."""
        if kept is not None and kept.arrays["W0"] is model.arrays["W0"]:
            return kept
        counts = [math.ceil(model.facts.get(key, 0)) for key in ("epochs", "rebuilds", "steps")]  # a begun epoch counts
        sizes, arrays, history = (model.n_features, model.n_labels), dict(model.arrays), tuple(history_of(model))
        return cls(model.config, *sizes, arrays, PastRuns(0, *counts), history=history, label_names=model.label_names)

    def besides(self, model: Model) -> TrainingState | None:
        """Return the state without the arrays that it shares with its model; None if it is of another model."""
        if self.arrays["W0"] is not model.arrays["W0"]:
            return None
        own = {name: array for name, array in self.arrays.items() if name not in model.arrays}
        return dataclasses.replace(self, arrays=own)

    def completed(self, model: Model) -> TrainingState | None:
        """Return a state that was taken `besides` a model, with the arrays of that model; None if it is of another."""
        own = self.arrays.get("W0", model.arrays["W0"])  # joblib files of earlier releases hold all arrays twice
        is_of_model = np.array_equal(own, model.arrays["W0"])
        return dataclasses.replace(self, arrays={**self.arrays, **model.arrays}) if is_of_model else None

    def without_arrays(self) -> TrainingState:
        """Return the state without its arrays, so that they can be freed once they are copied for training."""
        return dataclasses.replace(self, arrays={})

    def has_early_tables(self, config: Config, n_train: int) -> bool:
        """Tell whether the output's tables are filled, but further in-batch steps come first in a run with more epochs.

        Such tables must be empty, as they would be without an interruption: they are not queried before they are built
        again, or not at all (S32, S37).
        """
        progress, has_tables = self.progress, len(config.hidden) in config.sampled_layers(self.n_labels)
        if progress is None or progress.all_rebuilt < 0 or not has_tables:
            return False
        return progress.step < in_batch_steps(config, total_steps(config, n_train))

    def fitted_to(self, config: Config, summary: DataSummary) -> TrainingState:
        """Return the state from which a run with these settings and data continues.

        Raises ConfigError or DataError if there is none.
        """
        self._check_fits(config, summary)
        if not self.has_early_tables(config, summary.n_train):
            return self
        arrays = dict(self.arrays)
        for part in parts_of(config, self.n_labels).values():
            if part.layer == len(config.hidden):
                for name in (f"filled{part.name}", f"table_offsets{part.name}"):
                    if name in arrays:
                        arrays[name] = np.zeros_like(arrays[name])
        return dataclasses.replace(self, arrays=arrays)

    def _check_fits(self, config: Config, summary: DataSummary) -> None:
        for what in ("features", "labels"):
            mine, theirs = (getattr(some, f"n_{what}") for some in (self, summary))
            if mine != theirs:
                raise DataError(f"training data: {theirs} {what}, but the network was trained on {mine}")
        missing = {f"{kind}{l}" for l in range(len(self.config.hidden) + 1) for kind in "Wb"} - self.arrays.keys()
        if missing:
            raise ConfigError(f"state lacks the arrays {', '.join(sorted(missing))}; give one that was not taken apart")
        if self.progress is None:
            shapes = [array_shapes(c, self.n_features, self.n_labels) for c in (self.config, config)]
            if shapes[0] != shapes[1]:
                names = ("hidden", "optimizer", "beta1", "momentum")
                pairs = {name: (getattr(config, name), getattr(self.config, name)) for name in names}
                told = ", ".join(f"{name} is {now}, but was {was}" for name, (now, was) in pairs.items() if now != was)
                raise ConfigError(f"the network cannot be trained further: {told}; set it back, or train a new network")
            return
        had, has = _flat(self.config.to_dict()), _flat(config.to_dict())
        changed = [key for key in has if had.get(key) != has[key] and key != "epochs"]
        if changed:
            old, new = (", ".join(f"{key}={side.get(key)}" for key in changed) for side in (had, has))
            raise ConfigError(f"the run to resume has {old}, not {new}; only epochs may change")
        if summary.data != self.data:
            raise DataError("training data: differ from those of the run to resume; give the same file, weights and "
                            "validation fraction")  # fmt: skip
        planned = total_steps(config, summary.n_train)
        if self.progress.step > planned:
            raise ConfigError(f"the run to resume has done {self.progress.step} steps, and {planned} are planned; "
                              "give as many epochs as it has done, or more")  # fmt: skip


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten settings to full names, such as ``lsh.K``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def save_state(folder: str | Path, state: TrainingState) -> None:
    """Write a state as a folder of plain arrays, replacing an earlier one as a whole. Raises ModelError."""
    progress = None if state.progress is None else dataclasses.asdict(state.progress)
    same = ("n_features", "n_labels", "data", "history", "label_names", "judged_by", "judged_on", "dtype")
    description = {"kind": KIND, "config": state.config.to_dict(), "progress": progress, "before": state.past._asdict()}
    save_arrays(folder, description | {name: getattr(state, name) for name in same}, state.arrays)


def load_state(folder: str | Path, mmap: bool = False) -> TrainingState:
    """Read what `save_state` wrote. Raises ModelError if anything is missing, malformed, or does not fit.

    With `mmap` the arrays are memory-mapped, read-only, instead of being read.
    """
    description, saved = load_arrays(folder, mmap)
    arrays = {name: _one_a_row(array) if name.startswith("W_v") else array for name, array in saved.items()}
    path = Path(folder) / "config.json"
    n_features, n_labels = (description.get(key) for key in ("n_features", "n_labels"))
    if description.get("kind") != KIND or not (is_count(n_features) and is_count(n_labels)):
        raise ModelError(f"{path}: does not describe a checkpoint; give a folder that training wrote")
    assert isinstance(n_features, int) and isinstance(n_labels, int)
    try:
        config = Config.from_dict(description["config"])
        past = PastRuns(**description["before"])
        progress = None if description["progress"] is None else _progress(description["progress"])
        state = TrainingState(
            config, n_features, n_labels, arrays, past, progress, str(description["data"]),
            _history(description.get("history", [])), _names(description.get("label_names"), n_labels),
            str(description.get("judged_by", EVAL_METRICS[0])), str(description.get("judged_on", "")),
            None if (dtype := description.get("dtype")) is None else one_of("dtype", dtype, WEIGHT_DTYPES),
        )  # fmt: skip
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: incomplete checkpoint ({error}); use an earlier one") from error
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if found != state_arrays(config, n_features, n_labels):
        raise ModelError(f"{path}: its arrays do not match its settings; use an earlier checkpoint")
    return state


def _one_a_row(v: np.ndarray) -> np.ndarray:
    """Return one second moment per row: the mean of those of earlier releases, which had one per weight (S12)."""
    return v.mean(axis=1) if v.ndim == 2 else v


def _history(events: Any) -> tuple[Event, ...]:
    if not (isinstance(events, list) and all(isinstance(event, dict) for event in events)):
        raise ValueError("history contains something other than events")
    return tuple(events)


def _names(names: Any, n_labels: int) -> list[str] | None:
    is_list = isinstance(names, list) and len(names) == n_labels and all(isinstance(name, str) for name in names)
    if names is not None and not is_list:
        raise ValueError(f"label_names is not a list of {n_labels} names")
    return names


def _progress(values: dict[str, Any]) -> Progress:
    totals = {key: Totals(**values[key]) for key in ("since_evaluation", "in_epoch", "fresh", "repeated")}
    if values.keys() != vars(Progress()).keys():
        raise ValueError("progress is incomplete")
    plain = {key: value for key, value in values.items() if key not in totals}
    numbers = [*plain.values(), *(number for part in totals.values() for number in vars(part).values())]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise ValueError("progress contains something other than numbers")
    return Progress(**{**plain, **totals})


class Checkpoints:
    """A folder of checkpoints: ``step-N`` for the state after N steps, ``best`` for the best model so far.

    Parameters
    ----------
    folder : path
    every : float
        Epochs between checkpoints; infinite, the default: only when a run is interrupted, and at the end of a
        resumed one.
    keep : int
        Number of checkpoints to keep, the newest ones.
    dtype : str
        Dtype of the weights in the model folder that the run is to write, ``"float32"`` (the default) or ``"float16"``;
        recorded in each checkpoint.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    def __init__(self, folder: str | Path, every: float = math.inf, keep: int = 2, dtype: str = WEIGHT_DTYPES[0]):
        self.folder, self.every, self.keep = Path(folder), positive("every", every), whole("keep", keep, 1)
        self.dtype = one_of("dtype", dtype, WEIGHT_DTYPES)

    def saved(self) -> list[Path]:
        """List the folders of existing checkpoints, oldest first."""
        found = [path for path in self.folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
        return sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)))

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint; remove the oldest beyond `keep`, and later ones of a run that was resumed before them.

        Raises ModelError.
        """
        assert state.progress is not None
        new = self.folder / f"{PREFIX}{state.progress.step:09}"
        save_state(new, dataclasses.replace(state, dtype=self.dtype))
        saved = self.saved()
        upto = saved.index(new) + 1
        for old in [*saved[: max(upto - self.keep, 0)], *saved[upto:]]:
            shutil.rmtree(old, ignore_errors=True)

    def require_unused(self) -> None:
        """Raise ConfigError if the folder is a model's, or holds checkpoints: a new run would mix its own with them."""
        if lies_in_network(self.folder / BEST):
            raise ConfigError(f"{self.folder}: lies in a model folder; choose another place")
        if self.all_saved():
            advice = "give another folder, or resume with state=checkpoints.last()"
            raise ConfigError(f"{self.folder}: holds checkpoints of another run; {advice}")

    def save_best(self, model: Model) -> None:
        """Write the best model, replacing the previous one. Raises ModelError."""
        save_model(self.folder / BEST, model)

    def last(self, mmap: bool = False) -> TrainingState:
        """Load the newest checkpoint with `load_state`. Raises ModelError if there is none."""
        saved = self.saved()
        if not saved:
            raise ModelError(f"{self.folder}: no checkpoint to resume from; train with --checkpoint-every")
        try:
            return load_state(saved[-1], mmap)
        except ModelError as error:
            before = f"; or remove this checkpoint to resume from {saved[-2].name}" if len(saved) > 1 else ""
            raise ModelError(f"{error}{before}") from error

    def all_saved(self) -> list[Path]:
        """List the folders of existing checkpoints and of the best model, if there is one."""
        return self.saved() + [path for path in (self.folder / BEST,) if path.exists()]
