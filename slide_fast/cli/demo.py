"""``slide demo``: learn to name the hidden identifiers in the source files of Python's standard library."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from slide_ref.common.config import Config
from slide_ref.common.parameters import layers_of
from slide_ref.common.storage.model_folder import Model

from ..datasets.stdlib_names import DemoTask, build_task, co_occurrence, describe, most_common, pick_examples
from ..engine.options import RunOptions
from ..parallel.machine import available_cpus
from ..prediction import predict_topk
from .run_folder import RunFolder
from .session import Session
from .training_run import TrainingRun

EPOCHS = 2
EVAL_EVERY = 0.25
EVAL_SAMPLES = 5000
GUESSES = 3
BASELINES = {"most_common": "most common", "co_occurrence": "co-occurrence"}


def demo(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide demo``: train, test and show examples, all with default settings."""
    console = session.console
    with RunFolder(options.out, options.overwrite) as folder:
        console.line("reading the source files of Python's standard library")
        task = build_task()
        counts, names, data, examples = task.counts, list(task.label_names), [task.train, task.test], _Examples(task)
        console.line("{files:,} files, {files_held_out:,} of them held out for the test".format(**counts))
        if counts["files_undecodable"]:
            console.line("{files_undecodable:,} are not UTF-8 and are left out".format(**counts))
        console.line("measuring two baselines: the most common name, and co-occurrence")
        baselines = {"most_common": most_common(task), "co_occurrence": co_occurrence(task)}
        del task  # the pool gets the only copy of the training data
        run = TrainingRun(
            session, folder, options.command_line, Config(epochs=EPOCHS, seed=options.seed),
            RunOptions(EVAL_EVERY, EVAL_SAMPLES, options.max_seconds, label_names=names),
            {BASELINES[key]: value for key, value in baselines.items()},
        )  # fmt: skip
        model, figures = run.train_on(data, options.workers or max(2, available_cpus()))
    console.result("Names hidden in held-out files, the best guesses, and the truth where it is not the first:\n")
    console.result(f"{examples.show(model, names)}\n\n{run.report(figures)}\n")
    console.result(f"Try next:  slide info {options.out}\n           slide train --help")
    return figures | {"baselines": baselines, "counts": counts}


class _Examples:
    """A dozen test samples to show in words."""

    def __init__(self, task: DemoTask):
        rows = pick_examples(task)
        self.features = task.test.features.take(rows)
        self.truths = [task.label_names[task.test.labels.row(row)[0][0]] for row in rows]
        self.texts = [describe(task, row) for row in rows]

    def show(self, model: Model, names: list[str]) -> str:
        """Return a line for each sample: its context, the best guesses, and the truth if it differs."""
        ids, _ = predict_topk(layers_of(model.arrays), self.features, GUESSES)
        width = max(map(len, self.texts))
        lines = []
        for text, best, truth in zip(self.texts, ids, self.truths, strict=True):
            guesses = [names[i] for i in best if i >= 0]
            lines.append(f"  {text:{width}}  →  {', '.join(guesses)}" + ("" if guesses[0] == truth else f"  ({truth})"))
        return "\n".join(lines)
