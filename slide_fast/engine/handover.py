"""Passing of large objects to a function without keeping a reference."""

from __future__ import annotations

from typing import Generic, TypeVar

from slide_ref.common.errors import ConfigError

T_co = TypeVar("T_co", covariant=True)


class Handover(Generic[T_co]):
    """Wrapper to pass an object to a function that can free its memory during the call.

    A reference in a caller's frame, or in its keyword arguments, keeps an object alive as long as the call lasts. A
    `Handover` is empty once `take` has been called.
    """

    def __init__(self, thing: T_co):
        self._things = [thing]

    def take(self) -> T_co:
        """Return the object and drop the reference to it; possible once. Raises ConfigError if it was taken before."""
        if not self._things:
            raise ConfigError("a Handover was taken before; make a new one for each call")
        return self._things.pop()


def taken(thing: T_co | Handover[T_co]) -> T_co:
    """Return the object itself, whether it is wrapped in a `Handover` or not."""
    return thing.take() if isinstance(thing, Handover) else thing
