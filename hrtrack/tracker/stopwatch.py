"""Every stage is timed always: bench, overlay and progress bar read the same numbers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WINDOW = 4096


@dataclass(frozen=True, slots=True)
class Span:
    """One time a stage ran: ``start`` in seconds of `time.perf_counter`, ``seconds`` from there."""

    stage: str
    start: float
    seconds: float
    thread: int
    thread_name: str


class Stopwatch:
    """Seconds spent per stage, over the last `WINDOW` times each stage ran, on any thread.

    With ``traced`` every single time is kept as a `Span`, in the order of their ends.
    """

    def __init__(self, *, traced: bool = False) -> None:
        self.traced = traced
        self.spans: list[Span] = []
        self.seconds: dict[str, deque[float]] = {}
        self.total: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what stands below the ``with``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Enters a time that was measured elsewhere and ends now, on this thread."""
        end = time.perf_counter()
        with self._lock:
            if self.traced:
                thread = threading.current_thread()
                span = Span(name, end - seconds, seconds, thread.ident or 0, thread.name)
                self.spans.append(span)
            self.seconds.setdefault(name, deque(maxlen=WINDOW)).append(seconds)
            self.total[name] = self.total.get(name, 0.0) + seconds
            self.counts[name] = self.counts.get(name, 0) + 1

    def clear(self) -> None:
        """Forgets every time entered so far."""
        with self._lock:
            self.spans.clear()
            self.seconds.clear()
            self.total.clear()
            self.counts.clear()

    def percentile(self, name: str, q: float) -> float:
        """The ``q``-th percentile (0-100) of a stage in milliseconds; nan if it never ran."""
        import numpy as np  # not above: the command line's help needs this file's importers only

        with self._lock:
            times = np.array(self.seconds.get(name, ()))
        return float(np.percentile(times, q)) * 1e3 if len(times) else float("nan")
