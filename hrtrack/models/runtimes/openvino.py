"""The one OpenVINO runtime of a process, and its infer requests, which serve one caller each."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...errors import BackendError

if TYPE_CHECKING:
    import openvino


T = TypeVar("T")
_FIRST = threading.Lock()


def openvino_core() -> openvino.Core:
    """OpenVINO's core, made at the first call and kept to the end.

    On CPUs with AMX every core gives the thread a new alternate signal stack, and puts the one
    before back when it goes. Of two cores, if the older goes first, the younger puts back memory
    that is no longer there, and the next signal that Python handles (Ctrl-C, a child that ends)
    is a segmentation fault.

    Raises:
        BackendError: OpenVINO is not installed.
    """
    with _FIRST:
        return _core()


def import_lean() -> None:
    """Imports OpenVINO without its converter of other frameworks' models, which takes longer to
    import than all the rest.

    Only for a process in which nobody else uses OpenVINO: it goes without
    ``openvino.convert_model``. What is wrong with the import, `openvino_core` says.
    """
    converter = "openvino.tools.ovc"
    if "openvino" in sys.modules:
        return
    with _FIRST, suppress(ImportError):
        sys.modules[converter] = None  # type: ignore[assignment]  # this import fails, which OpenVINO allows
        try:
            import openvino  # noqa: F401
        finally:
            del sys.modules[converter]


@functools.cache
def _core() -> openvino.Core:
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"this needs OpenVINO ({error}): pip install openvino") from None
    return openvino.Core()


def port_shape(port: Any) -> tuple[int, ...]:
    """The sides of a graph's input or output; -1 for one that is left open."""
    return tuple(side.get_length() if side.is_static else -1 for side in port.partial_shape)


HALVES = 2
"""Several crops run side by side, each on this share of the threads: a small network cannot keep
all of them busy with one crop, nor with a batch (docs/benchmarks.md)."""


class Callers:
    """Counts who computes in this process, for networks that share its cores among streams."""

    def __init__(self) -> None:
        self._count = 0
        self._changing = threading.Lock()

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Counts one for the time of the ``with``; gives whether others are at work already."""
        with self._changing:
            others, self._count = self._count > 0, self._count + 1
        try:
            yield others
        finally:
            with self._changing:
                self._count -= 1


CALLERS = Callers()
"""One for all networks, as the cores are: a pose network also makes room for a detector."""


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
