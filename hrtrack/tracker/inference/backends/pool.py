"""Things of which each serves one caller at a time, such as OpenVINO's infer requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Lends things out, and makes another when all are lent: as many as ever worked at once.

    Any number of threads may borrow. One thread alone gets the same thing every time.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._idle: list[T] = []

    @contextmanager
    def borrow(self) -> Iterator[T]:
        """Lends one for the time of the ``with``."""
        # Popping and appending are atomic; asking first whether one is idle would not be.
        try:
            thing = self._idle.pop()
        except IndexError:
            thing = self._make()
        yield thing
        # After a fault it may still be at work, and does not come back.
        self._idle.append(thing)
