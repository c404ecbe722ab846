"""Large things that change hands, so that nobody on the way holds on to them."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """Carry a thing to whoever takes it.

    A reference in a caller's frame, or in its keyword arguments, keeps a thing alive as long as the call lasts. In
    their places stands this, which is empty once `take` was called.
    """

    def __init__(self, thing: T):
        self._things = [thing]

    def take(self) -> T:
        """Give the thing away; possible once."""
        return self._things.pop()


def taken(thing: T | Handover[T]) -> T:
    """Return the thing itself, whether it is handed over or not."""
    return thing.take() if isinstance(thing, Handover) else thing
