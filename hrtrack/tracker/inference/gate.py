"""Who may still use the networks: any thread, of one process, until they are closed."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable

from ...errors import UsageError

CLOSED = "this Tracker is closed: open another one"
FORKED = (
    "this Tracker was opened before a fork and works only in the process that opened it: open a "
    "Tracker in each process, best with multiprocessing's start method 'spawn'"
)
_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


class Gate:
    """Lets threads in until it is closed, and frees what is behind it when the last has left.

    Use it as ``with gate: ...`` around each use.

    Args:
        free: called once, when the gate is closed and nobody is inside. It holds what is behind
            the gate: whatever it refers to is never destroyed in a forked process.
    """

    def __init__(self, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free
        _gates.add(self)
        self._process = os.getpid()
        self._closed = False
        self._inside: list[int] = []
        # Reentrant, for a signal handler may close what the very same thread is using.
        self._changed = threading.Condition(threading.RLock())

    def __enter__(self) -> None:
        self.check()
        with self._changed:
            self.check()
            self._inside.append(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside.remove(threading.get_ident())
            self._free_if_done()

    def check(self) -> None:
        """UsageError where the gate is closed or this is another process than it was made in."""
        # Before the lock is touched, which a thread that the fork left behind may hold for ever.
        if os.getpid() != self._process:
            raise UsageError(FORKED)
        if self._closed:
            raise UsageError(CLOSED)

    def close(self) -> None:
        """Lets nobody in any more and waits until the other threads have left.

        In a forked process nothing happens: what is behind belongs to the parent.
        """
        if os.getpid() != self._process:
            return
        with self._changed:
            self._closed = True
            self._free_if_done()
            here = threading.get_ident()
            self._changed.wait_for(lambda: all(thread == here for thread in self._inside))

    def _free_if_done(self) -> None:
        if self._closed and not self._inside:
            free, self._free = self._free, None
            if free is not None:
                free()
            self._changed.notify_all()


def _hold_in_child() -> None:
    """Keeps networks of the parent from being destroyed in a forked process, as at its exit.

    OpenVINO would wait there for threads that only the parent has. One more reference that nobody
    gives back outlasts the interpreter; one that a module holds does not.
    """
    for gate in list(_gates):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(gate._free))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold_in_child)
