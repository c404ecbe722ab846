"""``slide train --mpi``: the command as every process that ``mpiexec`` started carries it out."""

from __future__ import annotations

import math
import os
import signal
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, SlideError
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.model_folder import Model

from ..display.console import aligned, size
from ..engine.checkpoints import Checkpoints, TrainingState
from ..engine.handover import Handover, taken
from ..mpi.communicator import Communicator, mpi_ranks, together
from ..mpi.process_grid import check_number
from ..mpi.rank_engine import RankEngine, follow
from ..mpi.sample_ranges import range_of
from ..mpi.tasks import Peaks
from ..mpi.training import conduct, prepare
from ..parallel.machine import MemoryMeter
from . import train as training_commands
from .run_folder import CHECKPOINTS, RunFolder
from .session import Session
from .settings import config_of

FAILURE, BAD_USE = 1, 2


def train(options: Namespace, session: Session) -> dict[str, Any]:
    """As `training_commands.train`; the first process alone speaks and returns, the others leave with an exit code."""
    ranks = mpi_ranks()
    with ExitStack() as stack:
        if ranks.rank:
            session.console.stream = stack.enter_context(open(os.devnull, "w"))
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first says when to stop
            stack.callback(signal.signal, signal.SIGINT, before)
        return _train_or_leave(options, session, ranks)


def _train_or_leave(options: Namespace, session: Session, ranks: Communicator) -> dict[str, Any]:
    """Train in all processes; those other than the first raise SystemExit."""
    try:
        figures = _train(options, session, ranks)
    except (SlideError, OSError, MemoryError) as error:  # all have it
        if ranks.rank:
            raise SystemExit(BAD_USE if isinstance(error, ConfigError) else FAILURE) from None
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        ranks.give_up(error)
    if ranks.rank:
        raise SystemExit(0)
    return figures


def _train(options: Namespace, session: Session, ranks: Communicator) -> dict[str, Any]:
    check_number(ranks.size, options.workers or 1)  # before data are read
    options.n_ranks = ranks.size // (options.workers or 1)
    if options.print_config:
        return training_commands.train(options, session) if ranks.rank == 0 else {}
    with ExitStack() as stack:
        meter = stack.enter_context(MemoryMeter())
        checkpoints = Checkpoints(Path(options.out) / CHECKPOINTS, options.checkpoint_every, options.keep)
        with together(ranks):
            folder = RunFolder(options.out, options.overwrite or options.resume)
            if ranks.rank == 0:
                stack.enter_context(folder)
            state, config, data, names = _read(options, session, checkpoints, ranks)
        n_workers = options.workers or 1
        own, summary = prepare(config, data[0], data[1] if len(data) > 1 else None, ranks, state, n_workers)
        counts = _counts(data, ranks)
        own.meter, places, state = meter, ranks.names(), None if state is None else state.without_arrays()
        if ranks.rank:
            del data, summary
            follow(own)
            return {}
        places = [f"{ranks.title(i).removeprefix('rank ')}: {text}" for i, text in enumerate(places)]
        session.console.line(aligned([("ranks" if not i else "", text) for i, text in enumerate(places)]))
        with RankEngine(own) as engine:

            def fit(config: Config, train: Handover, *, test: Handover | None, n_workers: object, **rest: Any) -> Model:
                for own_copy in (train, test):
                    taken(own_copy)  # and dropped: each rank has its own
                return conduct(engine, summary, **rest)

            figures = training_commands.run(
                session, folder, options, config, data, names,
                eval_every=options.eval_every, eval_samples=options.eval_samples, patience=options.patience or math.inf,
                checkpoints=checkpoints, state=state, fit_with=fit, counts=counts,
            )[1]  # fmt: skip
            peaks = engine.run(Peaks())
            session.bytes_elsewhere = sum(peaks) - meter.peak_bytes
    steps = max(own.n_steps, 1)
    figures |= {
        "ranks": own.ranks.size,
        "rank_peak_memory_bytes": peaks,
        "peak_memory_bytes": session.totals()["peak_memory_bytes"],
        "messages_per_step": {kind: n / steps for kind, n in own.traffic[0].items() if n},
        "bytes_per_step": {kind: n / steps for kind, n in own.traffic[1].items() if n},
    }
    session.console.result(training_commands.report(figures))
    session.console.result(aligned([("of ranks", ", ".join(map(size, peaks)))]))
    return figures


def _read(
    options: Namespace, session: Session, checkpoints: Checkpoints, ranks: Communicator
) -> tuple[TrainingState | None, Config, list[Dataset], list[str] | None]:
    """The state to resume, settings, this process's samples, and names of labels."""
    if options.auto:
        raise ConfigError("train --mpi knows no --auto; leave it out")
    state = checkpoints.last(mmap=True) if options.resume else None
    settings = training_commands.settings_of(options, {} if state is None else state.config.to_dict())
    config_of(settings)  # says what is wrong before data are read
    data, names = training_commands.read_files(options, session, lambda n_samples: range_of(n_samples, ranks))
    return state, config_of(settings, data[0].labels.n_columns), data, names


def _counts(data: list[Dataset], ranks: Communicator) -> dict[str, int]:
    """Sizes of the data, over all ranks."""
    own = training_commands.counts_of(data)
    numbers = ranks.allreduce(np.array([n for key, n in own.items() if key.endswith(("samples", "unlabelled"))]))
    names = (key for key in own if key.endswith(("samples", "unlabelled")))
    return own | dict(zip(names, numbers.tolist(), strict=True))
