"""The commands that train: ``slide train`` and ``slide demo``."""

from __future__ import annotations

import copy
import math
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import DataError
from slide_ref.common.parameters import layers_of
from slide_ref.common.schedule import in_batch_steps, largest_rate, n_epochs, total_steps
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.model_folder import Model, read_label_names

from ..active_sets import without_tables
from ..datasets.stdlib_names import DemoTask, build_task, co_occurrence, describe, most_common, pick_examples
from ..display.console import TrainingDisplay, aligned, network_in_words, score_table, size
from ..display.plots import PlotError
from ..engine.auto_settings import tuned
from ..engine.checkpoints import Checkpoints, TrainingState
from ..engine.handover import Handover
from ..parallel.machine import available_cpus, cpu_model
from ..prediction import predict_topk
from ..training import TrainingInterrupted, fit
from .run_folder import CHECKPOINTS, RunFolder
from .session import Session, check_there, fitting, read_samples
from .settings import ALL, PRESETS, assign, config_of, parse_value, read_settings, toml_of

SETTINGS = ("epochs", "seed", "hidden", "micro_batch", "learning_rate")
SCORES = ("precision_at_1", "precision_at_3", "precision_at_5", "ndcg_at_1", "ndcg_at_3", "ndcg_at_5")
DEMO_EPOCHS = 2
DEMO_EVAL_EVERY = 0.25
DEMO_EVAL_SAMPLES = 5000
DEMO_GUESSES = 3
PLOTTING = 40_000_000  # bytes that Matplotlib takes
YARDSTICKS = {"most_common": "most common", "co_occurrence": "co-occurrence"}


def train(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide train``: from files to a run folder."""
    if options.print_config:
        settings = settings_of(options)
        whole = config_of(settings).to_dict()
        if settings.get("lsh", {}).get("min_active") == ALL:
            whole["lsh"]["min_active"] = ALL  # how many that is, the data will say
        session.console.result(toml_of(whole).rstrip("\n"))
        return {"config": whole}
    folder = RunFolder(options.out, options.overwrite or options.resume)
    checkpoints = Checkpoints(folder.path / CHECKPOINTS, options.checkpoint_every, options.keep)
    state = checkpoints.last(mmap=True) if options.resume else None
    settings = settings_of(options, {} if state is None else state.config.to_dict())
    config_of(settings)  # says what is wrong before data are read
    resumed = None if state is None else Handover(state)
    del state  # the run is to hold the only reference
    with folder:
        data, names = read_files(options, session)
        config = config_of(settings, data[0].labels.n_columns)
        if options.auto:
            config = tuned(config, data[0], given=_names(settings))
        figures = run(
            session, folder, options, config, data, names,
            eval_every=options.eval_every, eval_samples=options.eval_samples,
            patience=options.patience or math.inf, checkpoints=checkpoints, state=resumed,
        )[1]  # fmt: skip
    session.console.result(report(figures))
    return figures


def read_files(
    options: Namespace, session: Session, share: Callable[[int], range] | None = None
) -> tuple[list[Dataset], list[str] | None]:
    """Training and test data, or a share of each, and names of labels; what there is, checked against each other."""
    files = [(options.train, options.labels), (options.test, options.test_labels)]
    check_there(*files[0], *files[1], options.label_names)  # before any is read
    data = [read_samples(*pair, share) for pair in files if pair[0] is not None]
    sizes = {what: getattr(data[0], what).n_columns for what in Dataset._fields}
    if not data[0].labels.nnz and share is None:
        raise DataError("no sample has a label", options.train)
    if options.test is not None:
        data[1] = fitting(data[1], options.test, sizes, "the training data", session.console)
    names = None if options.label_names is None else read_label_names(options.label_names, sizes["labels"])
    return data, names


def settings_of(options: Namespace, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings given, of a preset or from a file, over them those of options of their own, over them those of --set."""
    if options.config is not None:
        settings = read_settings(options.config)
    elif options.preset is not None:
        settings = copy.deepcopy(PRESETS[options.preset])
    settings = settings or {}
    for key in SETTINGS:
        if getattr(options, key, None) is not None:
            assign(settings, key, getattr(options, key))
    for key, text in options.set:
        assign(settings, key, parse_value(text))
    if options.n_ranks:
        settings.setdefault("shards", options.n_ranks)
    return settings


def _names(settings: dict[str, Any]) -> set[str]:
    """The settings that are there, by their names in `assign`."""
    inner = {key: value for key, value in settings.items() if isinstance(value, dict)}
    return set(settings) | {f"{key}.{name}" for key, table in inner.items() for name in table}


def demo(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide demo``: name the hidden identifiers in the source files of Python's standard library."""
    console = session.console
    with RunFolder(options.out, options.overwrite) as folder:
        console.line("reading the source files of Python's standard library")
        task = build_task()
        counts, names, data, examples = task.counts, list(task.label_names), [task.train, task.test], _Examples(task)
        console.line("{files:,} files, {files_held_out:,} of them held out for the test".format(**counts))
        if counts["files_undecodable"]:
            console.line("{files_undecodable:,} are not UTF-8 and are left out".format(**counts))
        console.line("asking two simple methods: the commonest name, and co-occurrence")
        yardsticks = {"most_common": most_common(task), "co_occurrence": co_occurrence(task)}
        del task  # the pool gets the only copy of the training data
        if options.workers is None:
            options.workers = max(2, available_cpus())
        config = Config(epochs=DEMO_EPOCHS, seed=options.seed)
        model, figures = run(
            session, folder, options, config, data, names,
            eval_every=DEMO_EVAL_EVERY, eval_samples=DEMO_EVAL_SAMPLES, yardsticks=yardsticks,
        )  # fmt: skip
    console.result("Names hidden in held-out files, the best guesses, and the truth where it is not the first:\n")
    console.result(f"{examples.show(model)}\n\n{report(figures, yardsticks)}\n")
    console.result(f"Try next:  slide info {options.out}\n           slide train --help")
    return figures | {"yardsticks": yardsticks, "counts": counts}


class _Examples:
    """A dozen test samples that are shown in words."""

    def __init__(self, task: DemoTask):
        rows = pick_examples(task)
        self.features = task.test.features.take(rows)
        self.truths = [task.label_names[task.test.labels.row(row)[0][0]] for row in rows]
        self.texts = [describe(task, row) for row in rows]

    def show(self, model: Model) -> str:
        ids, _ = predict_topk(layers_of(model.arrays), self.features, DEMO_GUESSES)
        width = max(map(len, self.texts))
        lines = []
        for text, best, truth in zip(self.texts, ids, self.truths, strict=True):
            guesses = [model.label_names[i] for i in best if i >= 0]
            lines.append(f"  {text:{width}}  →  {', '.join(guesses)}" + ("" if guesses[0] == truth else f"  ({truth})"))
        return "\n".join(lines)


def run(
    session: Session,
    folder: RunFolder,
    options: Namespace,
    config: Config,
    data: list[Dataset],
    label_names: list[str] | None,
    *,
    eval_every: float,
    eval_samples: int,
    yardsticks: dict[str, float] | None = None,
    patience: float = math.inf,
    checkpoints: Checkpoints | None = None,
    state: TrainingState | Handover[TrainingState] | None = None,
    fit_with: Callable[..., Model] | None = None,
    counts: dict[str, int] | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Train on ``data[0]`` and test on ``data[1]``, if there is one; on the screen and into the folder.

    `data` is emptied, and `fit` holds the only references. `fit_with` may take its place, and `counts` that of the
    sizes of `data`. Returns the model and the figures for ``--json``.
    """
    console, counts, has_test = session.console, counts or counts_of(data), len(data) > 1
    console.line(_outlook(config, counts))
    display = TrainingDisplay(
        console, config, options.max_seconds, counts["n_labels"], counts.get("n_test_samples", 0),
        eval_every=eval_every, eval_samples=eval_samples, patience=patience,
    )  # fmt: skip
    last: dict[str, dict[str, Any]] = {}

    def callback(event: dict[str, Any]) -> None:
        last[event["kind"]] = event
        if event["kind"] == "memory":  # reading may have taken more; at the end, only the model stays beside the curves
            now, before = session.memory()
            at_end = now - event["data"] + event["model"] + (PLOTTING if has_test else 0)
            event["total"] = max(event["total"], before, at_end)
        if event["kind"] == "start":
            session.worker_pids = event.pop("pids")
            folder.begin(config, options.command_line, None if state is None else event["step"])
            if state is None:
                Checkpoints(folder.path / CHECKPOINTS).clear()
            console.line(aligned([("workers", f"{event['n_workers']} on {cpu_model()}"), ("", "")]))
        folder.record(event)
        display(event)

    try:
        model = (fit_with or fit)(
            config, Handover(data.pop(0)), test=Handover(data.pop(0)) if has_test else None, n_workers=options.workers,
            eval_every=eval_every, eval_samples=eval_samples, max_seconds=options.max_seconds, callback=callback,
            label_names=label_names, patience=patience, checkpoints=checkpoints, state=state,
        )  # fmt: skip
    except TrainingInterrupted as stop:
        console.close()
        folder.save(stop.model)
        epochs = stop.model.facts["epochs"]
        further = "; train with --resume to go on" if checkpoints is not None and checkpoints.saved() else ""
        text = f"interrupted after {epochs:.2f} epochs; the model is in {folder.model_path}{further}"
        raise KeyboardInterrupt(text) from None
    session.worker_pids = tuple
    folder.save(model)
    curves = _plot(session, folder, yardsticks or {}) if has_test else None
    figures = _figures(last) | {"model": str(folder.model_path), "curves": curves}
    return model, figures | counts | session.totals()


def counts_of(data: list[Dataset]) -> dict[str, int]:
    """Sizes of the training data and of the test data, if there are any."""
    counts = {"n_features": data[0].features.n_columns, "n_labels": data[0].labels.n_columns}
    for name, part in zip(("train", "test"), data, strict=False):
        unlabelled = int(np.count_nonzero(np.diff(part.labels.indptr) == 0))
        counts |= {f"n_{name}_samples": part.n_samples, f"n_{name}_unlabelled": unlabelled}
    return counts


def _outlook(config: Config, counts: dict[str, int]) -> str:
    """What is going to happen."""
    lines = []
    for name in ("train", "test"):
        if f"n_{name}_samples" in counts:
            unlabelled = counts[f"n_{name}_unlabelled"]
            left_out = f", {unlabelled:,} of them without labels" if unlabelled else ""
            lines.append((f"{name} data", f"{counts[f'n_{name}_samples']:,} samples{left_out}"))
    lines.append(("network", network_in_words(config, counts["n_features"], counts["n_labels"])))
    n_samples = counts["n_train_samples"]
    steps, epochs = total_steps(config, n_samples), n_epochs(config, n_samples)
    alone = in_batch_steps(config, steps)
    least = without_tables(config.lsh).min_active
    if alone and (config.lsh.L or least) and len(config.hidden) in config.sampled_layers(counts["n_labels"]):
        lines.append(("", f"up to step {alone:,} no tables: the labels of a micro-batch, at least {least:,} active"))
    length = f"{steps:,} steps, {epochs} epoch{'s' * (epochs > 1)}"
    return aligned([*lines, ("learning rate", f"{largest_rate(config, steps):.3g} at most, over {length}")])


def _plot(session: Session, folder: RunFolder, yardsticks: dict[str, float]) -> str | None:
    try:
        return str(folder.plot(_named(yardsticks)))
    except PlotError as error:
        session.console.line(f"no learning curves: {error}")
        return None


def _named(yardsticks: dict[str, float]) -> dict[str, float]:
    return {YARDSTICKS[key]: value for key, value in yardsticks.items()}


def _figures(last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Figures of a finished run from its last event of each kind; None where there was no such event."""
    start, end, epoch, scores = (last.get(kind, {}) for kind in ("start", "end", "epoch", "evaluation"))
    return {key: scores.get(key) for key in SCORES} | {
        "samples_per_second": end["samples"] / max(end["seconds"], 1e-9),
        "seconds": end["seconds"],
        "epochs": end["epoch"],
        "steps": end["step"],
        "rebuilds": end["rebuilds"],
        "loss": epoch.get("loss"),
        "active_neurons": epoch.get("active_neurons"),
        "workers": start["n_workers"],
    }


def report(figures: dict[str, Any], yardsticks: dict[str, float] | None = None) -> str:
    """A finished run in words."""
    parts = [score_table(figures, _named(yardsticks or {})), ""] if figures["precision_at_1"] is not None else []
    epochs, workers = (f"{figures[key]:.3g} {key[:-1] if figures[key] == 1 else key}" for key in ("epochs", "workers"))
    speed = f"{figures['samples_per_second']:,.0f} samples/s with {workers}"
    pairs = [
        ("trained", f"{epochs} in {figures['seconds']:,.1f} s, {speed}"),
        ("memory", f"{size(figures['peak_memory_bytes'])} at the peak"),
        ("model", figures["model"]),
    ]
    pairs += [] if figures["curves"] is None else [("curves", figures["curves"])]
    return "\n".join([*parts, aligned(pairs)])
