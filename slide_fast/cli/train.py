"""``slide train``: from files to a run folder."""

from __future__ import annotations

import math
import os
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.config import WEIGHT_DTYPES
from slide_ref.common.errors import ModelError
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.label_names import read_label_names
from slide_ref.common.storage.model_folder import TextColumns, find_model, load_model
from slide_ref.common.storage.precision import dtype_of as weights_dtype
from slide_ref.common.validation import kept_aside, split

from ..display.wording import aligned
from ..engine.auto_settings import tuned
from ..engine.checkpoints import Checkpoints, TrainingState
from ..engine.handover import Handover
from ..engine.options import RunOptions
from .run_folder import CHECKPOINTS, RunFolder
from .session import Session, check_there, chosen_for, expecting_numbers, fitting, read_samples
from .settings import ALL, config_of, names_in, settings_of, to_toml
from .texts import are_texts, read_training_texts, refuse_text_options
from .training_run import TrainingRun


def train(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide train``: train a network and write a run folder."""
    if options.print_config:
        return print_config(options, session)
    with RunFolder(options.out, options.overwrite or options.resume) as folder:
        checkpoints, state, settings = plan(options)
        resumed, history = (None, None) if state is None else (Handover(state), state.history)
        del state  # the run is to hold the only reference
        data, names, text = read_files(options, session)
        if all(path is not None and Path(path).is_file() for path in (options.train, options.test)) and (
            os.path.samefile(options.train, options.test)
        ):
            told = "is the file of the training samples, so the figures say nothing about new ones"
            session.console.line(f"--test {options.test}: {told}")
        if options.validation_fraction is not None:
            aside = kept_aside(config_of(settings).seed, data[0].n_samples, options.validation_fraction)
            data[:] = split(data[0], aside)
            session.console.line(
                aligned([("held out", f"{data[1].n_samples:,} of the training samples, as test data")])
            )
        config = chosen_for(settings, data[0], session.console)
        if options.auto:
            config = tuned(config, data[0], given=names_in(settings))
            found = f"; lsh.K {config.lsh.K}, lsh.bucket_size {config.lsh.bucket_size}"
            told = f"micro-batches of {config.micro_batch}{found if config.lsh.family == 'simhash' else ''}"
            session.console.line(aligned([("chosen", told)]))
        run_options = run_options_of(options, checkpoints, names, text)
        run = TrainingRun(
            session, folder, options.command_line, config, run_options, dtype=checkpoints.dtype, history=history
        )
        figures = run.train_on(data, options.workers, resumed)[1]
    session.console.result(run.report(figures))
    return figures


def print_config(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide train --print-config``: write all settings of such a run as TOML."""
    settings = settings_of(options)
    whole = config_of(settings).to_dict()
    if settings.get("lsh", {}).get("min_active") == ALL:
        whole["lsh"]["min_active"] = ALL  # how many that is, the data will say
    session.console.result(to_toml(whole).rstrip("\n"))
    return {"config": whole}


def plan(options: Namespace) -> tuple[Checkpoints, TrainingState | None, dict[str, Any]]:
    """Return what is known before data are read: checkpoints, the last one with ``--resume``, settings.

    The run folder must have been entered, which puts back checkpoints that a killed run set aside.

    Raises SlideError if one of them is invalid.
    """
    checkpoints = Checkpoints(Path(options.out) / CHECKPOINTS, options.checkpoint_every, options.keep)
    state = checkpoints.last(mmap=True) if options.resume else None
    checkpoints.dtype = options.dtype or _dtype_before(options, state)
    return checkpoints, state, settings_of(options, {} if state is None else state.config.to_dict())


def _dtype_before(options: Namespace, state: TrainingState | None) -> str:
    """Return the dtype in which the run to resume stores its weights; float32 for a new run."""
    if state is not None and state.dtype is None:  # a checkpoint of an earlier release
        with suppress(ModelError):
            return weights_dtype(load_model(find_model(options.out), mmap=True))
    return WEIGHT_DTYPES[0] if state is None or state.dtype is None else state.dtype


def read_files(
    options: Namespace, session: Session, share: Callable[[int], range] | None = None
) -> tuple[list[Dataset], list[str] | None, TextColumns | None]:
    """Read training data, test data (or a share of each) and label names, and check that they fit together.

    Returns
    -------
    data : list of Dataset
        The training data, and the test data if there are any.
    names : list of str or None
    text : TextColumns or None
        If the samples are texts, how they become features.
    """
    train, test = (options.train, options.labels), (options.test, options.test_labels)
    check_there(*train, *test, options.label_names)  # before any is read
    if are_texts(options.train, options):
        samples, own_names, text = read_training_texts(options, session)
        if share is not None:
            samples = [part.take(np.array(share(part.n_samples), dtype=np.int64)) for part in samples]
        return samples, own_names, text
    refuse_text_options(options)
    data = [read_samples(*train, share, True, "--labels")]
    sizes = {what: getattr(data[0], what).n_columns for what in Dataset._fields}
    if options.test is not None:
        with expecting_numbers("the training samples are numbers"):
            read = read_samples(*test, share, True, "--test-labels")
        data.append(fitting(read, options.test, sizes, "the training data", session.console, options.test_labels))
    names = None if options.label_names is None else read_label_names(options.label_names, sizes["labels"])
    if names is not None and len(set(names)) < len(names):
        n = len(names) - len(set(names))
        session.console.line(f"{options.label_names}: {n:,} of {len(names):,} names repeat earlier ones, so answers do "
                             "not tell these labels apart")  # fmt: skip
    return data, names, None


def run_options_of(
    options: Namespace, checkpoints: Checkpoints, label_names: list[str] | None, text: TextColumns | None
) -> RunOptions:
    """Return those command-line options that are options of a run."""
    return RunOptions(
        options.eval_every, options.eval_samples, options.max_seconds, options.patience or math.inf, checkpoints,
        label_names=label_names, text=text, eval_metric=options.eval_metric,
    )  # fmt: skip
