"""What a run does between stretches of training: rebuild tables, write checkpoints, evaluate.

Each callback sets the step after which it is `due` next; the loop trains up to there, calls it, and continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Protocol

from slide_ref.common.schedule import fresh_steps, rebuild_steps

if TYPE_CHECKING:
    from .run import Run


NEVER = 2**63  # steps


class Callback(Protocol):
    """Something that a run does after step `due`."""

    due: int

    def __call__(self, run: Run) -> None:
        """Do it, and set `due` to the next step."""


def steps_apart(gap: float) -> Iterator[int]:
    """Return, endlessly, the steps nearest to the multiples of a gap, which is at least one step."""
    gap = min(max(gap, 1.0), 2.0**53)
    return (round(number * gap) for number in count(1))


class Rebuilding:
    """Rebuilds the tables as the settings say (S14)."""

    def __init__(self, run: Run):
        config, progress = run.config, run.progress
        self._steps = rebuild_steps(config, run.n_steps)
        self.due = max(progress.step, next((step for step in self._steps if step > progress.rebuilt), NEVER))

    def __call__(self, run: Run) -> None:
        run.rebuild()
        self.due = next((step for step in self._steps if step > run.progress.step), NEVER)


class Checkpointing:
    """Writes a checkpoint every few epochs."""

    def __init__(self, run: Run, every: float):
        self._steps = steps_apart(every * run.steps_per_epoch)
        self.due = next(step for step in self._steps if step > run.progress.step)

    def __call__(self, run: Run) -> None:
        self.due = next(self._steps)
        run.save()


class Halfway:
    """Ends a stretch in the middle of the first epoch, so that steps before and after are summed separately (S37)."""

    def __init__(self, run: Run):
        middle = fresh_steps(run.config, run.summary.n_train).start - 1
        self.due = middle if run.progress.step < middle else NEVER

    def __call__(self, run: Run) -> None:
        self.due = NEVER


class Evaluating:
    """Evaluates on some of the test rows every few epochs, and tells the run the score."""

    def __init__(self, run: Run):
        self._steps = steps_apart(run.options.eval_every * run.steps_per_epoch)
        self.due = next(step for step in self._steps if step > run.progress.evaluated and step >= run.progress.step)

    def __call__(self, run: Run) -> None:
        progress = run.progress
        scores = run.evaluate(run.options.eval_samples) if progress.step < run.n_steps else {}
        run.judge(scores)
        if scores or not run.stop.is_set():  # an evaluation that was cut short is made again when the run is resumed
            progress.evaluated, self.due = progress.step, next(self._steps)
