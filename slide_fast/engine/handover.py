"""Large things that change hands, so that nobody on the way holds on to them."""

from __future__ import annotations

from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Handover(Generic[T_co]):
    """Hand an object over, so that its memory can be freed during the call.

    A reference in a caller's frame, or in its keyword arguments, keeps an object alive as long as the call lasts. A
    `Handover` in its place is empty once `take` was called.
    """

    def __init__(self, thing: T_co):
        self._things = [thing]

    def take(self) -> T_co:
        """Give the thing away; possible once."""
        return self._things.pop()


def taken(thing: T_co | Handover[T_co]) -> T_co:
    """Return the thing itself, whether it is handed over or not."""
    return thing.take() if isinstance(thing, Handover) else thing
