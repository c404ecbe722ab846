"""A rebuild of tables as stages of tasks: tasks of one stage can run in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

from slide_ref.common.hash_constants import ROUNDS, SAMPLES_A_CENTROID
from slide_ref.common.lsh_config import N_GROUPS
from slide_ref.common.parts import Part

from .tasks import (
    AssignQueries,
    FillBuckets,
    GatherQueries,
    HashNeurons,
    ListNeurons,
    MoveCentroids,
    OrderInsertion,
    SortTable,
)

ROWS_PER_HASH_TASK = 32768
QUERIES_PER_TASK = 1024  # sums are those of the same rows, whichever worker computes them
CENTROIDS_PER_TASK, IN_GROUPS_PER_TASK = 64, 128
GROUPS_PER_TASK = 16

Stage = list[Any]  # tasks that follow no order among themselves


def _ranges(n: int, each: int) -> list[tuple[int, int]]:
    return [(first, min(first + each, n)) for first in range(0, n, each)]


def _stages_of_part(part: Part, rebuild: int) -> Iterator[Stage]:
    """Yield the stages of building one part's tables."""
    word, lsh = part.word, part.lsh
    if lsh.family != "centroid":
        ranges = _ranges(part.last - part.first, ROWS_PER_HASH_TASK)
        yield [OrderInsertion(word, rebuild), *(HashNeurons(word, *edges) for edges in ranges)]
        yield [SortTable(word, table, rebuild) for table in range(lsh.L)]
    elif lsh.L:
        queries = _ranges(SAMPLES_A_CENTROID * lsh.n_centroids, QUERIES_PER_TASK)
        yield [GatherQueries(word, rebuild, *edges) for edges in queries]
        yield [MoveCentroids(word, 0)]
        for round in range(1, ROUNDS + 1):
            yield [AssignQueries(word, *edges) for edges in queries]
            yield [MoveCentroids(word, round)]
        each = CENTROIDS_PER_TASK
        if lsh.listed(part.last - part.first) < part.last - part.first:
            yield [ListNeurons(word, *edges) for edges in _ranges(N_GROUPS, GROUPS_PER_TASK)]
            each = IN_GROUPS_PER_TASK
        yield [FillBuckets(word, *edges) for edges in _ranges(lsh.n_centroids, each)]


def stages(parts: Iterable[Part], rebuild: int) -> Iterator[Stage]:
    """Yield the stages of a rebuild in order: the first stage of all parts together, the second, and so on.

    Every task may be repeated until its stage is complete.
    """
    for some in zip_longest(*(_stages_of_part(part, rebuild) for part in parts), fillvalue=()):
        yield [task for stage in some for task in stage]
