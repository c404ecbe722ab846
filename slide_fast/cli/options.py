"""The command-line parser: commands, their options, and which of these go together."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from slide_ref.common.config import EVAL_METRICS, RECALL, WEIGHT_DTYPES, Config
from slide_ref.common.storage.complete_file import unless_standard
from slide_ref.common.suggestions import did_you_mean

from .. import __version__
from ..parallel.streams import print_result
from .argument_types import (
    assignment,
    count,
    finite,
    in_utf8,
    layer_sizes,
    mode,
    named_file,
    part,
    positive,
    seed,
    share,
    whole,
    workers,
)
from .settings import PRESETS
from .text_options import add_columns, add_features

BAD_USE = 2  # the exit code of it
DEFAULT_SHAPE = "amazon-670k"
FORMATS = (
    "XMC text, svmlight text (.svm), .npz, or texts (TSV, CSV, JSON lines, fastText's format); all but .npz may be "
    "gzipped; - is standard input"
)
Add = Callable[..., argparse.ArgumentParser]  # of a command: its name, what it does, an example, further description
Number = tuple[str, Callable[[str], Any], str, Any, str]  # an option: its name, type, metavar, default, help


def parser() -> argparse.ArgumentParser:
    """Return the parser of the ``slide`` command."""
    slide = _Parser(
        prog="slide",
        description="Train networks with a huge softmax output on CPU cores: SLIDE (arXiv 1903.03129) in NumPy.",
        epilog="Example: slide demo",
    )
    slide.add_argument("--version", action="version", version=f"slide {__version__}")
    commands = slide.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, what: str, example: str, more: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.{more}",
                                      epilog=f"Example: {example}")  # fmt: skip
        command.add_argument("--json", action="store_true", help="end standard output with one JSON object")
        command.set_defaults(refuse=command.error, mpi=False, n_ranks=0)
        return command

    _add_demo(add)
    _add_train(add)
    _add_users_of_models(add)
    _add_verify(add)
    _add_bench(add)
    _add_generate(add)
    return slide


def check_together(options: argparse.Namespace) -> None:
    """Exit with code 2 if options do not go together."""
    refuse = options.refuse
    for name in ("out", "dir", "train", "test", "data", "model"):
        if getattr(options, name, None) == "":
            refuse(f"{options.command}: {name} is an empty path; give the name of a file or folder")
    for name in ("test", "kept_aside"):
        if "-" == getattr(options, name, None) in (getattr(options, "train", None), getattr(options, "data", None)):
            option = f"--{name.replace('_', '-')}"
            refuse(f"{options.command} {option}: standard input holds the other samples; give a file")
    if options.command == "predict" and options.json and options.out is None:
        refuse("predict --json needs --out: standard output is kept for the JSON object")
    if hasattr(options, "recall"):
        if options.recall is not None and options.mode == "exact":
            refuse(f"{options.command} --recall needs --mode index: exact looks at every label")
        options.recall = RECALL if options.recall is None else options.recall
    if options.command == "train" and not options.print_config and (options.train is None or options.out is None):
        refuse("train needs TRAIN and --out RUN")
    if getattr(options, "auto", False) and (options.resume or options.print_config):
        other = "--resume" if options.resume else "--print-config"
        refuse(f"train --auto does not go with {other}: it looks at the data of a new run")
    if options.command == "train":
        if options.print_config and options.resume:
            refuse("train --print-config does not go with --resume: RUN/config.toml has the settings of that run")
        _check_evaluation(options)
    if options.command == "bench":
        if options.data is not None and options.shape is not None:
            refuse("bench takes DATA or --shape, not both")
        if options.data is None and options.test is not None:
            refuse("bench --test needs DATA, the training samples")
        options.shape = options.shape or DEFAULT_SHAPE


def _check_evaluation(options: argparse.Namespace) -> None:
    """Exit with code 2 if there is nothing to evaluate on, or more than one choice."""
    aside = options.validation_fraction is not None
    if options.patience and options.test is None and not aside:
        options.refuse("train --patience needs samples to evaluate on: --test or --validation-fraction")
    if aside and options.test is not None:
        options.refuse(
            "train takes --test or --validation-fraction, not both; slide evaluate measures on other samples"
        )
    if options.test is None and options.test_labels is not None:
        options.refuse("train --test-labels needs --test, the samples that have these labels")
    for name, default in (("eval_metric", EVAL_METRICS[0]), ("eval_every", 1.0), ("eval_samples", 10_000)):
        given = getattr(options, name)
        if options.test is None and not aside and given is not None:
            option = f"--{name.replace('_', '-')}"
            options.refuse(f"train {option} needs samples to evaluate on: --test or --validation-fraction")
        setattr(options, name, default if given is None else given)
    if options.mpi and (aside or options.eval_metric == "loss"):
        what = "--validation-fraction" if aside else "--eval-metric loss"
        options.refuse(f"train --mpi does not support {what}; give --test and another metric")


class _Parser(argparse.ArgumentParser):
    """A parser that reports invalid arguments in one line, with a suggestion and the command's help option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
            if self.prog.endswith(" explain") and not unknown[0].startswith("-"):
                meant = "put the text between quotes"
            if self.prog.endswith((" bench", " verify")) and any("text-column" in word for word in unknown):
                meant = "this command reads samples of numbers, not texts"
            self.error("; ".join(filter(None, [f"unrecognized arguments: {' '.join(unknown)}", meant])))
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            parts = [f"{value!r} is none of {', '.join(action.choices)}", did_you_mean(value, action.choices)]
            raise argparse.ArgumentError(action, "; ".join(filter(None, parts)))

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not None and file is sys.stdout:  # help or version: argparse ignores OSError
            print_result(message, end="")
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        see = " See" if message.endswith("?") else "; see"
        self.exit(BAD_USE, f"slide: error: {message}{see} {self.prog} --help\n")


def _add_demo(add: Add) -> None:
    demo = add("demo", "learn to name hidden identifiers in Python's standard library, in about two minutes",
               "slide demo --out my-demo")  # fmt: skip
    _add_workers(demo, "worker processes (default: the number of CPUs, at least 2)")
    _add_numbers(demo, ("--seed", seed, "N", 0, "random seed (default: 0)"))
    demo.add_argument("--out", default="slide-demo", metavar="RUN", help="run folder (default: slide-demo)")
    _add_overwrite(demo)
    _add_numbers(demo, _max_seconds(120.0))


def _add_overwrite(command: argparse._ActionsContainer, what: str = "an existing run in RUN") -> None:
    command.add_argument("--overwrite", action="store_true", help=f"replace {what}")


def _add_workers(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--workers", type=workers, metavar="N", help=text)


def _add_numbers(command: argparse.ArgumentParser, *rows: Number) -> None:
    for name, kind, letters, default, what in rows:
        command.add_argument(name, type=kind, default=default, metavar=letters, help=what)


def _max_seconds(default: float) -> Number:
    shown = f"{default:g}" if default < math.inf else "no limit"
    text = f"stop training after this many seconds, not counting evaluations (default: {shown})"
    return "--max-seconds", positive, "S", default, text


def _add_train(add: Add) -> None:
    defaults = Config()
    train = add("train", "train a network on a data set and write a run folder",
                "slide train data/train.txt --test data/test.txt --out run")  # fmt: skip
    train.add_argument("train", metavar="TRAIN", nargs="?", help=f"training samples: {FORMATS}")
    train.add_argument("--test", metavar="TEST", help="test samples, to evaluate on")
    train.add_argument("--out", metavar="RUN", help="run folder; must be new unless --resume or --overwrite is given")
    _add_labels(train, "--labels", "TRAIN")
    _add_labels(train, "--test-labels", "TEST")
    _add_workers(train, "worker processes (default: the number of CPUs, fewer for short runs; with --mpi: 1 per rank)")
    hidden = ",".join(map(str, defaults.hidden))
    epochs = "(default: 5; below 30,000 samples up to 10); 6 for a wide network, up to 16 for dense inputs"
    rates = "0.01 up to 2,000 steps, 0.004 from 4,000 steps"
    _add_numbers(
        train,
        ("--epochs", count, "N", None, f"passes over the training samples {epochs}"),
        ("--seed", seed, "N", None, f"random seed (default: {defaults.seed})"),
        ("--hidden", layer_sizes, "N,N", None, f"neurons of the hidden layers, such as 256,128 (default: {hidden}); "
         "without --mpi 1,024, as in --preset wide, or 684 to 2,048 for dense inputs, for 2,000 samples or more with "
         "two labels or more on average or dense inputs, unless that needs more than 2^28 weights"),
        ("--micro-batch", count, "N", None, f"samples per micro-batch and worker (default: {defaults.micro_batch})"),
        ("--learning-rate", positive, "X", None, f"peak learning rate (default: {rates}); less for layers wider "
         "than 128: with 1,024 neurons 0.005 up to 300 steps, then less"),
        _max_seconds(math.inf),
        ("--eval-every", positive, "E", None, "epochs between evaluations (default: 1)"),
        ("--eval-samples", count, "N", None, "test samples per evaluation; the last one uses all (default: 10000)"),
        ("--patience", count, "N", None, "stop after this many evaluations in a row without improvement; the best "
         "network is kept"),
        ("--validation-fraction", part, "F", None, "fraction of TRAIN to hold out for evaluation, instead of --test; "
         "one of the two is needed for --eval-every, --eval-samples, --eval-metric and --patience; not with --mpi"),
        ("--checkpoint-every", positive, "E", math.inf, "epochs between checkpoints in RUN/checkpoints, which "
         "also keeps the best model (default: only on Ctrl-C, and at the end of a resumed run)"),
        ("--keep", count, "N", 2, "checkpoints to keep (default: 2)"),
    )  # fmt: skip
    train.add_argument("--eval-metric", choices=EVAL_METRICS, metavar="NAME",
                       help=f"metric that selects the best network: {', '.join(EVAL_METRICS)} "
                       f"(default: {EVAL_METRICS[0]})")  # fmt: skip
    train.add_argument("--dtype", choices=WEIGHT_DTYPES,
                       help="dtype of the weights in the model folder; float16 takes half the space, and P@k is "
                       "reported for it too (default: float32; with --resume as before)")  # fmt: skip
    again = train.add_mutually_exclusive_group()
    _add_overwrite(again)
    again.add_argument("--resume", action="store_true",
                       help="continue from the last checkpoint in RUN; the training data, --eval-metric and all "
                       "settings but --epochs must be as before; --max-seconds counts earlier training "
                       "too")  # fmt: skip
    train.add_argument("--mpi", action="store_true",
                       help="under mpiexec: split the labels over ranks of --workers processes each; shards is the "
                       "number of ranks or a multiple of it; needs the extra slide-numpy[mpi]; not with --auto, "
                       "--validation-fraction or --eval-metric loss")  # fmt: skip
    train.add_argument("--label-names", type=named_file, metavar="FILE", help="label names, a line each; not for texts")
    add_columns(train, as_trained=False)
    add_features(train)
    _add_settings(train)
    train.add_argument("--auto", action="store_true",
                       help="choose the micro-batch for the data and, with lsh.family=simhash, K and bucket size, "
                       "unless they are given; not with --resume, --print-config or --mpi")  # fmt: skip
    train.add_argument("--print-config", action="store_true",
                       help="print all settings, as given or by default, as TOML for --config, and exit; TRAIN is not "
                       "read, so nothing is adapted to it; not with --resume")  # fmt: skip


def _add_labels(command: argparse.ArgumentParser, option: str, of: str) -> None:
    text = f"SciPy .npz with the label indicator matrix, if {of} is a SciPy .npz with the features"
    command.add_argument(option, type=named_file, metavar="FILE", help=text)


def _add_settings(command: argparse.ArgumentParser) -> None:
    group = command.add_mutually_exclusive_group()
    group.add_argument("--config", type=named_file, metavar="FILE",
                       help="settings in TOML, such as the config.toml of a run; settings in it are used as they are, "
                       "not adapted to the data")  # fmt: skip
    group.add_argument("--preset", choices=sorted(PRESETS),
                       help="built-in settings; fast: 128 hidden neurons, whatever the data; wide: 1,024, trained only "
                       "against the labels of the micro-batch, for data with few samples per label; paper: a "
                       "separate active set for each sample, from 50 SimHash tables with 9-bit codes, from the first "
                       "step on")  # fmt: skip
    command.add_argument("--set", type=assignment, action="append", default=[], metavar="KEY=VALUE",
                         help="any setting of config.toml, such as lsh.L=20 or lsh.min_active=all; "
                         "overrides --config, --preset and other options, and may be repeated; "
                         "slide train --print-config lists them all")  # fmt: skip


def _add_users_of_models(add: Add) -> None:
    evaluate = add("evaluate", "measure a model on test samples: P@k, nDCG@k, PSP@k",
                   "slide evaluate run data/test.txt")  # fmt: skip
    evaluate.add_argument("model", metavar="MODEL", help="model folder or run folder")
    evaluate.add_argument("test", metavar="TEST", help=FORMATS)
    _add_labels(evaluate, "--labels", "TEST")
    add_columns(evaluate)
    _add_mode(evaluate)
    _add_workers(evaluate, "threads (default: the number of CPUs)")

    predict = add(
        "predict",
        "write the top labels of each sample, one line per sample: label:score label:score ...",
        "slide predict run - -k 3 < new.txt | head",
        " Scores are logits; for texts they are probabilities, over all labels or, with --mode index, over those the "
        "index finds. Where the model has label names, they replace the label ids, and tabs replace "
        "the spaces between pairs; the score follows the last colon of a pair, and a tab in a name becomes a space.",
    )
    predict.add_argument("model", metavar="MODEL", help="model folder or run folder")
    predict.add_argument(
        "data", metavar="DATA", help=f"{FORMATS}; or plain lines, each a text; labels in it are ignored"
    )
    add_columns(predict, as_trained=False, labels=False)
    predict.add_argument("-k", type=count, default=5, metavar="K",
                         help="best labels per sample, no more than the model has (default: 5)")  # fmt: skip
    predict.add_argument("--threshold", type=share, metavar="P",
                         help="write only labels of at least this probability; scores are then probabilities, "
                         "not logits")  # fmt: skip
    predict.add_argument("--out", type=unless_standard, metavar="FILE",
                         help="write to a file instead of standard output; needed with --json")  # fmt: skip
    _add_mode(predict)
    _add_workers(predict, "threads (default: the number of CPUs)")

    explain = add("explain", "show which words of a text contribute most to its top labels, and similar labels",
                  'slide explain run "the history of Finnish railways"',
                  " A feature contributes its value times the gradient to a logit; all contributions and that of the "
                  "biases add up to the logit.")  # fmt: skip
    explain.add_argument("model", metavar="MODEL", help="model folder or run folder of a network for texts")
    explain.add_argument("text", type=in_utf8, metavar="TEXT", help="one text")
    explain.add_argument("-k", type=count, default=3, metavar="K", help="labels to explain (default: 3)")

    index = add("index", "build or rebuild the index of a model, which --mode index uses",
                "slide index run data/train.txt",
                " slide train builds one from training samples, except with --mpi. With --kept-aside, recall is "
                "measured on samples not used in training, which is closer to that on new data.")  # fmt: skip
    index.add_argument("model", metavar="MODEL", help="model folder or run folder")
    index.add_argument(
        "data", metavar="DATA", help=f"the training samples, or others like the expected queries: {FORMATS}"
    )
    index.add_argument("--kept-aside", metavar="FILE",
                       help="samples on which recall is measured (default: a part of DATA)")  # fmt: skip
    add_columns(index, labels=False)
    _add_workers(index, "threads (default: the number of CPUs)")

    info = add("info", "show the sizes, settings and training history of a model", "slide info run")
    info.add_argument("model", metavar="MODEL", help="model folder or run folder")

    plot = add("plot", "draw learning curves of runs side by side", "slide plot run-a run-b --out both.png")
    plot.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    plot.add_argument("--out", metavar="FILE", help="PNG (default: curves.png, in the run folder if there is only one)")


def _add_verify(add: Add) -> None:
    verify = add(
        "verify",
        "compare the fast path with the reference, step by step, on your data and settings",
        "slide verify data/train.txt --config run/config.toml",
        " Both start each stage of a step from the same state. Integers must be equal; floats may differ by "
        "the float32 rounding error of the reference itself. Exit code 1 if the two disagree. Settings that are not "
        "given have their defaults, not what slide train chooses for the data: give its config.toml.",
    )
    verify.add_argument("data", metavar="DATA", nargs="?", help="training samples: XMC text, svmlight text (.svm) or "
                        ".npz; no texts (default: a small synthetic task)")  # fmt: skip
    _add_settings(verify)
    _add_numbers(
        verify,
        ("--steps", count, "N", None, "training steps (default: 12, or as many as fit in a minute)"),
        ("--labels", count, "N", None, "number of labels to keep, spread evenly over the ids (default: 20,000 with "
         "centroid tables, else 500,000 / lsh.L)"),
        ("--micro-batch", count, "N", None, "samples per step (default: as in the settings, but at most 32)"),
        ("--seed", seed, "N", None, "random seed (default: 0)"),
    )  # fmt: skip


def _add_bench(add: Add) -> None:
    bench = add(
        "bench",
        "measure which way to train pays for your problem on this machine, in about a minute",
        "slide bench data/train.txt --test data/test.txt",
        " Compares what slide train would choose for the data, tables from the first step on, uniform negatives and "
        "dense training: their speed, rebuilds included, and P@1 after the same seconds of training. With few labels "
        "some of them are the same.",
    )
    bench.add_argument("data", metavar="DATA", nargs="?", help="training samples: XMC text, svmlight text (.svm) or "
                       ".npz; no texts (default: synthetic, see --shape; then only speed is compared)")  # fmt: skip
    bench.add_argument("--test", metavar="TEST", help="test samples for P@1 (default: a tenth of DATA)")
    bench.add_argument("--shape", metavar="NAME", help="sizes of synthetic samples, not with DATA: amazon-670k "
                       "(default), delicious-200k or wiki10-31k")  # fmt: skip
    _add_workers(bench, "worker processes (default: as slide train; without DATA the number of CPUs)")
    _add_numbers(bench, ("--seconds", finite, "S", 40.0, "total training time of all runs (default: 40)"))
    _add_settings(bench)


def _add_mode(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mode", choices=("exact", "index"), default="exact", type=mode,
                         help="exact scores every label, index only the candidates that the index finds")  # fmt: skip
    command.add_argument("--recall", type=share, metavar="R",
                         help="with --mode index: fraction of the exact top labels that the index should find "
                              f"(default: {RECALL})")  # fmt: skip


def _add_generate(add: Add) -> None:
    generate = add("generate", "make synthetic data: DIR/train.txt and DIR/test.txt",
                   "slide generate data --shape wiki10-31k --samples 5000")  # fmt: skip
    generate.add_argument("dir", metavar="DIR", help="folder to write into")
    shapes = "take the sizes of amazon-670k (default), delicious-200k or wiki10-31k"
    generate.add_argument("--shape", default=DEFAULT_SHAPE, metavar="NAME", help=shapes)
    for name, what in (
        ("--samples", "training samples"),
        ("--test-samples", "test samples"),
        ("--features", "features"),
        ("--labels", "labels"),
        ("--nonzeros", "mean number of features per sample"),
        ("--labels-per-sample", "mean number of labels per sample"),
    ):
        generate.add_argument(name, type=count, metavar="N", help=f"{what}, overriding the shape")
    generate.add_argument("--seed", type=whole(0), default=0, metavar="N", help="random seed (default: 0)")
    _add_overwrite(generate, "files of these names in DIR")
