"""Ranks that are threads of one process: what tests need no MPI for."""

import copy
import threading

import numpy as np

from slide_fast.mpi.communicator import Communicator

SECONDS_TO_WAIT = 60


class ThreadRanks(Communicator):
    """One of several ranks; they meet at a barrier and read what each has laid on the table."""

    def __init__(self, rank, size, rooms, room="all"):
        super().__init__()
        self.rank, self.size, self._rooms, self._n_splits = rank, size, rooms, 0
        self._room = room
        self._table, self._meeting = rooms.setdefault(room, ([None] * size, threading.Barrier(size)))

    def _exchange(self, own):
        self._table[self.rank] = copy.deepcopy(own)
        self._meeting.wait(SECONDS_TO_WAIT)
        found = [copy.deepcopy(item) for item in self._table]
        self._meeting.wait(SECONDS_TO_WAIT)
        return found

    def allreduce(self, array, how="sum"):
        self._count("allreduce", array.nbytes)
        first, *rest = self._exchange(array)
        for other in rest:
            first = np.maximum(first, other) if how == "max" else first + other
        array[...] = first
        return array

    def allgather(self, rows):
        self._count("allgather", rows.nbytes)
        return self._exchange(rows)

    def gather(self, rows):
        self._count("gather", rows.nbytes)
        found = self._exchange(rows)
        return found if self.rank == 0 else [rows]

    def take_over(self, rows):
        super().take_over(rows)
        rows[...] = self._exchange(rows)[0]

    def split(self, colour):
        self._n_splits += 1
        members = [rank for rank, other in enumerate(self._exchange(colour)) if other == colour]
        return ThreadRanks(members.index(self.rank), len(members), self._rooms, (self._room, self._n_splits, colour))

    def broadcast(self, message=None):
        return self._exchange(message)[0]

    def barrier(self):
        self._exchange(None)

    def agree(self, error):
        for found in self._exchange(error):
            if found is not None:
                raise found

    def names(self):
        return self._exchange(f"thread {self.rank}")

    def give_up(self, error):
        abort(self._rooms)
        raise error


def abort(rooms):
    for _, meeting in list(rooms.values()):
        meeting.abort()


def on_ranks(size, function):
    """Call ``function(ranks)`` on so many ranks; what each returned. The first error that is no broken barrier."""
    rooms, results, errors = {}, [None] * size, []

    def work(rank):
        try:
            results[rank] = function(ThreadRanks(rank, size, rooms))
        except BaseException as error:
            errors.append(error)
            abort(rooms)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return results
