"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP): the first ends a run in order, the next at
once."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """Somebody asked the run to end; ``exit_code`` is what a shell expects of it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class _Listener:
    """Turns the first signal into `Stopped`, as soon as no `shield` is held."""

    def __init__(self, again: signal.Handlers) -> None:
        self.process = os.getpid()
        self.again = again
        self.shields = 0
        self.waiting: Stopped | None = None

    def heard(self, number: int, _: FrameType | None) -> None:
        for one in SIGNALS:
            if signal.getsignal(one) == self.heard:
                signal.signal(one, self.again)
        if os.getpid() != self.process:  # a forked child: its parent ends the work
            os.kill(os.getpid(), number)
            return
        if number == getattr(signal, "SIGHUP", None):
            _leave_terminal()
        self.waiting = Stopped(number)
        if not self.shields:
            self.release()

    def release(self) -> None:
        stopped, self.waiting = self.waiting, None
        if stopped is not None:
            raise stopped


def _leave_terminal() -> None:
    """Whatever is still said goes nowhere: writing to a closed terminal is an error, which would
    cost the outputs that are being finished."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(nowhere, number)
    os.close(nowhere)


_listener: _Listener | None = None


@contextmanager
def listening(again: signal.Handlers = signal.SIG_DFL) -> Iterator[None]:
    """Within the block the first of `SIGNALS` raises `Stopped` in the main thread.

    The next one does what ``again`` says: kill the process, whatever it does. A signal that was
    ignored when the block began (``nohup``, a job in the background) stays ignored.
    """
    global _listener
    if threading.current_thread() is not threading.main_thread() or _listener is not None:
        yield
        return
    _listener = _Listener(again)
    before = {one: signal.getsignal(one) for one in SIGNALS}
    for one in SIGNALS:
        if before[one] is not signal.SIG_IGN:
            signal.signal(one, _listener.heard)
    try:
        yield
    finally:
        _listener = None
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def shield() -> Iterator[None]:
    """A block that a signal does not break off; `Stopped` is raised when it is done.

    For what would be left half done: a frame in some of the outputs, a step in some of the
    weights. Outside `listening`, and on other threads, it changes nothing.
    """
    listener = _listener
    if listener is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    listener.shields += 1
    try:
        yield
    finally:
        listener.shields -= 1
        if not listener.shields:
            listener.release()
