"""``slide train --mpi``: the command, as run by every process that ``mpiexec`` started."""

from __future__ import annotations

import os
import signal
from argparse import Namespace
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from slide_ref.common.errors import ConfigError
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.model_folder import TextColumns

from ..display.wording import aligned
from ..mpi.communicator import Communicator, mpi_ranks, together
from ..mpi.process_grid import check_number
from ..mpi.rank_engine import RankEngine, follow
from ..mpi.rank_worker import RankWorker
from ..mpi.sample_ranges import range_of
from ..mpi.tasks import Peaks
from ..mpi.training import conduct, prepare
from ..parallel.machine import MemoryMeter
from ..parallel.units import size
from .main import FAILURES, exit_code
from .run_folder import RunFolder
from .session import Session
from .settings import config_of
from .train import plan, print_config, read_files, run_options_of
from .training_run import TrainingRun, counts_of

PATHS = ("train", "labels", "test", "test_labels", "label_names", "config", "out")


def train(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide train --mpi``: like `slide_fast.cli.train`; only the first process prints and returns.

    The others exit with a code.
    """
    ranks = mpi_ranks()
    with ExitStack() as stack:
        if ranks.rank:
            session.console.stream = stack.enter_context(open(os.devnull, "w"))
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first says when to stop
            stack.callback(signal.signal, signal.SIGINT, before)
        return _train_or_leave(options, session, ranks)


def _train_or_leave(options: Namespace, session: Session, ranks: Communicator) -> dict[str, Any]:
    """Train in all processes; all but the first raise SystemExit."""
    try:
        figures = _train(options, session, ranks)
    except FAILURES as error:  # all have it
        if ranks.rank:
            raise SystemExit(exit_code(error)) from None
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        ranks.give_up(error)
    if ranks.rank:
        raise SystemExit(0)
    return figures


def _check_alike(ranks: Communicator, own: dict[str, Any], what: str) -> None:
    """Raise ConfigError if a process has other values than the first; all must call."""
    first = ranks.broadcast(own)
    different = ", ".join(name for name in first if first[name] != own.get(name))
    if different:
        raise ConfigError(f"not the {what} of the first process ({different}); start all processes with the same")


def _arguments(options: Namespace) -> dict[str, Any]:
    """Return what all processes must be started with alike: of paths, only which are given."""
    names = vars(options).keys() - {"refuse", "command", "mpi", "n_ranks", "json", "command_line"}
    values = {name: getattr(options, name) for name in sorted(names)}
    return {
        f"--{name.replace('_', '-')}": value is not None if name in PATHS else value for name, value in values.items()
    }


def _read_shares(
    options: Namespace, session: Session, ranks: Communicator
) -> tuple[list[Dataset], list[str] | None, TextColumns | None]:
    """Read what `read_files` does, of the samples this process's share; all must call.

    Raises SlideError, in all processes, if one cannot read its files or finds other numbers of samples than the first.
    """
    numbers: list[int] = []

    def share(n_samples: int) -> range:
        numbers.append(n_samples)
        return range_of(n_samples, ranks)

    with together(ranks):
        read = read_files(options, session, share)
    with together(ranks):
        names = (f"number of samples in {file}" for file in ("TRAIN", "--test"))
        _check_alike(ranks, dict(zip(names, numbers, strict=False)), "data")
    return read


def _train(options: Namespace, session: Session, ranks: Communicator) -> dict[str, Any]:
    n_workers = options.workers or 1
    with ExitStack() as stack:
        try:
            meter = stack.enter_context(MemoryMeter())
            with together(ranks):
                _check_alike(ranks, _arguments(options), "arguments")
            with together(ranks):
                check_number(ranks.size, n_workers)
                if ranks.size > 1 and "-" in (options.train, options.test):
                    raise ConfigError("train --mpi: every process reads the samples, so give a file in place of -")
                if options.auto:
                    raise ConfigError("train --mpi does not support --auto; leave it out")
            options.n_ranks = ranks.size // n_workers
            if options.print_config:
                return print_config(options, session) if ranks.rank == 0 else {}
            with together(ranks):
                folder = RunFolder(options.out, options.overwrite or options.resume)
                if ranks.rank == 0:
                    stack.enter_context(folder)
            with together(ranks):  # once the folder is as it was left
                checkpoints, state, settings = plan(options)
            with together(ranks):
                _check_alike(ranks, settings, "settings")
            data, names, text = _read_shares(options, session, ranks)
            with together(ranks):
                config = config_of(settings, data[0].labels.n_columns)
            own, summary = prepare(config, data[0], data[1] if len(data) > 1 else None, ranks, state, n_workers)
            counts = _counts(data, ranks)
            del data
            own.meter, places, state = meter, ranks.names(), None if state is None else state.without_arrays()
        except KeyboardInterrupt as error:  # the others wait for this process
            ranks.give_up(error)
        if ranks.rank:
            del summary
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until then it ends all processes; now the first says when
            follow(own)
            return {}
        with RankEngine(own) as engine:
            places = [f"{ranks.title(i).removeprefix('rank ')}: {text}" for i, text in enumerate(places)]
            session.console.line(aligned([("ranks" if not i else "", text) for i, text in enumerate(places)]))
            run_options = run_options_of(options, checkpoints, names, text)
            history, dtype = None if state is None else state.history, checkpoints.dtype
            run = TrainingRun(session, folder, options.command_line, config, run_options, dtype=dtype, history=history)
            figures = run.carry_out(partial(conduct, engine, summary, state=state), counts)[1]
            peaks = engine.run(Peaks())
            session.bytes_elsewhere = sum(peaks) - meter.peak_bytes
    figures |= _about_ranks(own, peaks, session)
    session.console.result(run.report(figures))
    session.console.result(aligned([("of ranks", ", ".join(map(size, peaks)))]))
    return figures


def _about_ranks(own: RankWorker, peaks: list[int], session: Session) -> dict[str, Any]:
    """Return figures of the ranks: their number, memory and messages."""
    steps = max(own.n_steps, 1)
    return {
        "ranks": own.ranks.size,
        "rank_peak_memory_bytes": peaks,
        "peak_memory_bytes": session.totals()["peak_memory_bytes"],
        "messages_per_step": {kind: n / steps for kind, n in own.traffic[0].items()},
        "bytes_per_step": {kind: n / steps for kind, n in own.traffic[1].items()},
    }


def _counts(data: list[Dataset], ranks: Communicator) -> dict[str, int]:
    """Return the sizes of the data, over all ranks."""
    own = counts_of(data)
    numbers = ranks.allreduce(np.array([n for key, n in own.items() if key.endswith(("samples", "unlabelled"))]))
    names = (key for key in own if key.endswith(("samples", "unlabelled")))
    return own | dict(zip(names, numbers.tolist(), strict=True))
