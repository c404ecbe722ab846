"""The ``slide`` command: options, exit codes, and errors in one line."""

from __future__ import annotations

import argparse
import importlib
import math
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, SlideError
from slide_ref.common.storage.complete_file import unless_standard
from slide_ref.common.suggestions import did_you_mean

from .. import __version__
from ..parallel.streams import Screen, any_text, discard_unwritten, print_result
from .settings import PRESETS

FAILURE, BAD_USE = 1, 2
MODULES = {"demo": "train", "train": "train", "verify": "verify",
           "bench": "bench"}  # fmt: skip
FORMATS = "XMC text, svmlight text (.svm), either packed by gzip, or .npz; - is standard input"
INTERRUPTED, CLOSED_PIPE, TERMINATED = 130, 141, 143  # 128 + the number of the signal, as shells count


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; those of the process unless given.

    Returns
    -------
    int
        0; 1 for a failure, told in one line on standard error; 130 after Ctrl-C, 143 after SIGTERM, 141 when
        the reader of the output has gone.

    Raises
    ------
    SystemExit
        With code 2 for bad use, and with 0 after ``--help`` and ``--version``.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(argv)
    _check_together(options)
    if sys.stdout is None and _answers_only(options):
        return _fail("standard output is closed, and the result would go nowhere else")
    options.command_line = shlex.join(["slide", *argv])
    with any_text(), _terminable() as terminated:
        try:
            return _run(options)
        except BrokenPipeError:  # the reader, such as head, has enough
            return CLOSED_PIPE
        except KeyboardInterrupt as error:
            print(f"slide: {error}" if str(error) else "slide: interrupted", file=Screen(), flush=True)
            return TERMINATED if terminated.is_set() else INTERRUPTED
        except ConfigError as error:
            return _fail(str(error), BAD_USE)
        except OSError as error:
            place = f"{error.filename}: " if error.filename is not None else ""
            return _fail(f"{place}{error.strerror or error}")
        except MemoryError as error:
            return _fail(str(error) or "out of memory")
        except SlideError as error:
            return _fail(str(error))
        finally:
            discard_unwritten()


def _check_together(options: argparse.Namespace) -> None:
    """End with bad use where options do not go together."""
    refuse = options.refuse
    if options.command == "predict" and options.json and options.out is None:
        refuse("predict --json needs --out: standard output is kept for the JSON object")
    if getattr(options, "recall", None) and options.mode == "exact":
        refuse(f"{options.command} --recall needs --mode lsh: exact looks at every label")
    if options.command == "train" and not options.print_config and (options.train is None or options.out is None):
        refuse("train needs TRAIN and --out RUN")
    if getattr(options, "auto", False) and (options.resume or options.print_config):
        other = "--resume" if options.resume else "--print-config"
        refuse(f"train --auto does not go with {other}: it looks at the data of a new run")
    if getattr(options, "patience", None) and options.test is None:
        refuse("train --patience needs --test: without test samples nobody sees what is better")


def _run(options: argparse.Namespace) -> int:
    from .run_folder import json_line  # NumPy and all that; --help does without
    from .session import Session

    name = "train_mpi" if getattr(options, "mpi", False) else MODULES.get(options.command, "commands")
    module = importlib.import_module(f".{name}", __package__)
    command = getattr(module, options.command)
    with Session(options.json) as session:
        figures = command(options, session)
        if options.json:
            print_result(json_line(figures | session.totals()))
    return 0 if figures.get("agree", True) else FAILURE


def _answers_only(options: argparse.Namespace) -> bool:
    """Whether what the command prints is all that it leaves."""
    is_question = options.command in ("bench", "evaluate", "info", "predict") or getattr(options, "print_config", False)
    return is_question and getattr(options, "out", None) is None


def _fail(message: str, code: int = FAILURE) -> int:
    print(f"slide: error: {' '.join(message.split())}", file=Screen(), flush=True)
    return code


@contextmanager
def _terminable() -> Iterator[threading.Event]:
    """Let SIGTERM do what Ctrl-C does, and remember that it came. Only in the main thread."""
    terminated = threading.Event()

    def handler(number: int, frame: object) -> None:
        terminated.set()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background of a shell
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGTERM)  # None: not from Python, which could not put it back
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield terminated
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


class _Parser(argparse.ArgumentParser):
    """A parser that answers bad use with one line: what was meant, most likely, and the command's own help."""

    def parse_known_args(self, args=None, namespace=None):
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
            self.error("; ".join(filter(None, [f"unrecognized arguments: {' '.join(unknown)}", meant])))
        return options, unknown

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            parts = [f"{value!r} is none of {', '.join(action.choices)}", did_you_mean(value, action.choices)]
            raise argparse.ArgumentError(action, "; ".join(filter(None, parts)))

    def error(self, message: str) -> NoReturn:
        see = " See" if message.endswith("?") else "; see"
        self.exit(BAD_USE, f"slide: error: {message}{see} {self.prog} --help\n")


def _whole(least: int):
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return parse


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _share(text: str) -> float:
    value = _positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return value


def _layer_sizes(text: str) -> list[int]:
    return [_whole(1)(part) for part in text.split(",")]


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key.strip(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="slide",
        description="Train networks with a huge softmax output on CPU cores: SLIDE (arXiv 1903.03129) in NumPy.",
        epilog="Example: slide demo",
    )
    parser.add_argument("--version", action="version", version=f"slide {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, what: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.",
                                      epilog=f"Example: {example}")  # fmt: skip
        command.add_argument("--json", action="store_true", help="end standard output with one JSON object")
        command.set_defaults(refuse=command.error, n_ranks=0)
        return command

    _add_demo(add)
    _add_train(add)
    _add_users_of_models(add)
    _add_verify(add)
    _add_bench(add)
    _add_generate(add)
    return parser


def _add_demo(add) -> None:
    demo = add("demo", "learn to name hidden identifiers in Python's standard library, in about two minutes",
               "slide demo --out my-demo")  # fmt: skip
    _add_workers(demo, "worker processes (default: the CPUs there are, at least 2)")
    demo.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="source of all randomness (default: 0)")
    demo.add_argument("--out", default="slide-demo", metavar="RUN", help="run folder (default: slide-demo)")
    _add_overwrite(demo)
    _add_max_seconds(demo, 120.0)


def _add_overwrite(command: argparse._ActionsContainer) -> None:
    command.add_argument("--overwrite", action="store_true", help="replace the run that RUN holds, if it holds one")


def _add_workers(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--workers", type=_whole(1), metavar="N", help=text)


def _add_max_seconds(command: argparse.ArgumentParser, default: float) -> None:
    shown = f"{default:g}" if default < math.inf else "no limit"
    text = f"end training after so many seconds, evaluations not counted (default: {shown})"
    command.add_argument("--max-seconds", type=_positive, default=default, metavar="S", help=text)


def _add_train(add) -> None:
    defaults = Config()
    train = add("train", "train a network on a data set and write a run folder",
                "slide train data/train.txt --test data/test.txt --out run")  # fmt: skip
    train.add_argument("train", metavar="TRAIN", nargs="?", help=f"training samples: {FORMATS}")
    train.add_argument("--test", metavar="TEST", help="test samples, to evaluate on")
    train.add_argument("--out", metavar="RUN", help="run folder, a new one but for --resume and --overwrite")
    _add_labels(train, "--labels", "TRAIN")
    _add_labels(train, "--test-labels", "TEST")
    _add_workers(train, "worker processes (default: the CPUs there are, 1 for short runs; with --mpi: 1 a rank)")
    hidden = ",".join(map(str, defaults.hidden))
    epochs = "5; below 30,000 samples up to 10"
    rates = "0.01 up to 2,000 steps, 0.004 from 4,000 steps on"
    for name, kind, letters, what in (
        ("--epochs", _whole(1), "N", f"passes over the training samples (default: {epochs})"),
        ("--seed", _whole(0), "N", f"source of all randomness (default: {defaults.seed})"),
        ("--hidden", _layer_sizes, "N,N", f"neurons of the hidden layers, such as 256,128 (default: {hidden})"),
        ("--micro-batch", _whole(1), "N", f"samples a worker processes at once (default: {defaults.micro_batch})"),
        ("--learning-rate", _positive, "X", f"largest step size of the run (default: {rates})"),
    ):
        train.add_argument(name, type=kind, metavar=letters, help=what)
    _add_max_seconds(train, math.inf)
    train.add_argument("--eval-every", type=_positive, default=1.0, metavar="E",
                       help="epochs between evaluations (default: 1)")  # fmt: skip
    train.add_argument("--eval-samples", type=_whole(1), default=10_000, metavar="N",
                       help="test samples that these use; the last one uses all (default: 10000)")  # fmt: skip
    train.add_argument("--patience", type=_whole(1), metavar="N",
                       help="end after so many evaluations in a row without a larger P@1; "
                       "the best network is kept")  # fmt: skip
    train.add_argument("--checkpoint-every", type=_positive, default=math.inf, metavar="E",
                       help="epochs between checkpoints in RUN/checkpoints, where the best model is kept too "
                       "(default: none but the one that Ctrl-C leaves)")  # fmt: skip
    train.add_argument("--keep", type=_whole(1), default=2, metavar="N", help="checkpoints to keep (default: 2)")
    again = train.add_mutually_exclusive_group()
    _add_overwrite(again)
    again.add_argument("--resume", action="store_true",
                       help="go on from the last checkpoint in RUN; of its settings --epochs may change")  # fmt: skip
    train.add_argument("--mpi", action="store_true",
                       help="under mpiexec: split the labels over ranks, of --workers processes each; shards is their "
                       "number, or set to a multiple of it; needs the extra slide-numpy[mpi]")  # fmt: skip
    train.add_argument("--label-names", metavar="FILE", help="names of the labels, one a line, kept in the model")
    _add_settings(train)
    train.add_argument("--auto", action="store_true",
                       help="choose micro-batch, K and bucket size for the data, "
                       "where they are not given")  # fmt: skip
    train.add_argument("--print-config", action="store_true",
                       help="write all settings of such a run as TOML, for --config, and end")  # fmt: skip


def _add_labels(command: argparse.ArgumentParser, option: str, of: str) -> None:
    text = f"SciPy's .npz of an indicator, where {of} is SciPy's .npz of the features"
    command.add_argument(option, metavar="FILE", help=text)


def _add_settings(command: argparse.ArgumentParser) -> None:
    whole = command.add_mutually_exclusive_group()
    whole.add_argument("--config", metavar="FILE", help="settings in TOML, such as the config.toml of a run")
    whole.add_argument("--preset", choices=sorted(PRESETS),
                       help="settings that come with slide; wide: 1,024 hidden neurons, against the labels of the "
                       "micro-batch alone, where there are few samples a label")  # fmt: skip
    command.add_argument("--set", type=_assignment, action="append", default=[], metavar="KEY=VALUE",
                         help="any setting of config.toml, such as lsh.L=20 or lsh.min_active=all; "
                         "goes over --config and --preset and may be given more than once; "
                         "slide train --print-config lists them all")  # fmt: skip


def _add_users_of_models(add) -> None:
    evaluate = add("evaluate", "measure a model on test samples: P@k, nDCG@k, PSP@k",
                   "slide evaluate run data/test.txt")  # fmt: skip
    evaluate.add_argument("model", metavar="MODEL", help="model folder or run folder")
    evaluate.add_argument("test", metavar="TEST", help=FORMATS)
    _add_labels(evaluate, "--labels", "TEST")
    _add_mode(evaluate)
    _add_workers(evaluate, "threads (default: the CPUs there are)")

    predict = add("predict", "write the best labels of each sample, label:score label:score ... a line",
                  "slide predict run - -k 3 < new.txt | head")  # fmt: skip
    predict.add_argument("model", metavar="MODEL", help="model folder or run folder")
    predict.add_argument("data", metavar="DATA", help=f"{FORMATS}; labels in it are ignored")
    predict.add_argument("-k", type=_whole(1), default=5, metavar="K", help="labels a sample (default: 5)")
    predict.add_argument("--out", type=unless_standard, metavar="FILE",
                         help="write to a file instead of standard output")  # fmt: skip
    _add_mode(predict)
    _add_workers(predict, "threads (default: the CPUs there are)")
    predict.description += (
        " Scores are logits. Where the model has label names, they stand for the label ids, and tabs instead of "
        "spaces between the pairs; the score follows the last colon of a pair, and a tab in a name becomes a space."
    )

    info = add("info", "show what a model is: sizes, settings, training", "slide info run")
    info.add_argument("model", metavar="MODEL", help="model folder or run folder")

    plot = add("plot", "draw learning curves of runs side by side", "slide plot run-a run-b --out both.png")
    plot.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    plot.add_argument("--out", metavar="FILE", help="PNG (default: curves.png, in the run folder if there is but one)")


def _add_verify(add) -> None:
    verify = add("verify", "hold the fast path against the reference, step by step, on your data and settings",
                 "slide verify data/train.txt --config run/config.toml")  # fmt: skip
    verify.add_argument("data", metavar="DATA", nargs="?", help="training samples (default: a small synthetic task)")
    _add_settings(verify)
    verify.add_argument("--steps", type=_whole(1), metavar="N",
                        help="steps of training (default: 12, or what a minute allows)")  # fmt: skip
    verify.add_argument("--labels", type=_whole(1), metavar="N",
                        help="labels that are kept, chosen evenly (default: 500,000 / lsh.L)")  # fmt: skip
    verify.add_argument("--micro-batch", type=_whole(1), metavar="N",
                        help="samples a step (default: as in the settings, but at most 32)")  # fmt: skip
    verify.add_argument("--seed", type=_whole(0), metavar="N", help="source of all randomness (default: 0)")
    verify.description += (
        " Both sides get the same state before each stage of a step. Whole numbers must be equal; floats may differ by "
        "what the reference itself loses in float32. Exit code 1 if the two disagree."
    )


def _add_bench(add) -> None:
    bench = add("bench", "tell whether hashing pays off for your problem on this machine, in about a minute",
                "slide bench data/train.txt")  # fmt: skip
    bench.add_argument(
        "data", metavar="DATA", nargs="?", help="training samples (default: synthetic ones, see --shape)"
    )
    bench.add_argument("--shape", default="amazon-670k", metavar="NAME",
                       help="without DATA: amazon-670k (default), delicious-200k or wiki10-31k")  # fmt: skip
    _add_workers(bench, "worker processes (default: the CPUs there are)")
    bench.add_argument("--seconds", type=_positive, default=40.0, metavar="S",
                       help="of training, over all that is measured (default: 40)")  # fmt: skip
    _add_settings(bench)
    bench.description += (
        " The settings as they are, uniform negatives and dense training take turns; rebuilds count, and tables are "
        "asked from the first step on (in_batch = 0). Accuracy is not compared: dense training learns at least as much "
        "from a sample."
    )


def _add_mode(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mode", choices=("exact", "lsh"), default="exact",
                         help="exact looks at every label, lsh only at those that an index finds")  # fmt: skip
    command.add_argument("--recall", type=_share, metavar="R",
                         help="with --mode lsh: share of the exact answers that the index is to find, "
                              "tried on the first samples (default: 0.9)")  # fmt: skip


def _add_generate(add) -> None:
    generate = add("generate", "make synthetic data: DIR/train.txt and DIR/test.txt",
                   "slide generate data --shape wiki10-31k --samples 5000")  # fmt: skip
    generate.add_argument("dir", metavar="DIR", help="folder to write into")
    shapes = "amazon-670k (default), delicious-200k or wiki10-31k: the sizes of that data set"
    generate.add_argument("--shape", default="amazon-670k", metavar="NAME", help=shapes)
    for name, what in (
        ("--samples", "training samples"),
        ("--test-samples", "test samples"),
        ("--features", "features"),
        ("--labels", "labels"),
        ("--nonzeros", "features a sample, on average"),
        ("--labels-per-sample", "labels a sample, on average"),
    ):
        generate.add_argument(name, type=_whole(1), metavar="N", help=f"{what}, instead of those of the shape")
    generate.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="key of all draws (default: 0)")
