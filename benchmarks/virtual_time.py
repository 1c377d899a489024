"""Live tracking without a wall clock: costs move a virtual clock, threads are played in order.

What a loop shows live depends on which frames reach it and on when the detector is ready. Here
both follow from given costs alone, so a run gives the same people every time and anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.proposals import BoxProposer, Detector, Found


@dataclass
class Clock:
    """Virtual seconds; calling it reads it, as `time.perf_counter` does."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class LaterFuture(Future):
    """A result that is known at once and shown from the instant ``ready`` on."""

    def __init__(self, clock: Clock, ready: float) -> None:
        super().__init__()
        self._clock = clock
        self._ready = ready

    def done(self) -> bool:
        return self._clock.now >= self._ready

    def running(self) -> bool:
        return not self.done()

    def result(self, timeout: float | None = None) -> Any:
        """Waits as a thread would, by moving the clock on."""
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None and self._clock.now + timeout < self._ready:
            self._clock.now += timeout
            raise TimeoutError
        self._clock.now = max(self._clock.now, self._ready)


class OneWorker:
    """One worker thread in virtual time, in place of ``ThreadPoolExecutor(1)``.

    A task starts when the worker is free and takes what it charges to the clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = 0.0

    def submit(self, task: Callable[..., Any], /, *args: Any, **named: Any) -> LaterFuture:
        caller = self._clock.now
        self._clock.now = max(caller, self._free)
        try:
            value, error = task(*args, **named), None
        except Exception as raised:
            value, error = None, raised
        self._free, self._clock.now = self._clock.now, caller
        future = LaterFuture(self._clock, self._free)
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is left to end."""


@dataclass(frozen=True)
class Costs:
    """Seconds of virtual time: ``fixed`` and ``person`` make up the loop's share of a frame, the
    ``detector``'s is charged to the thread that calls it."""

    fixed: float
    person: float
    detector: float


def charged(detector: Detector, clock: Clock, seconds: float) -> Detector:
    """The detector, with its cost on the clock."""

    def detect(image: NDArray[np.uint8]) -> Found:
        found = detector(image)
        clock.now += seconds
        return found

    return detect


def live_proposer(
    detector: Detector, tracks: Tracks, every: int | Literal["auto"], clock: Clock
) -> BoxProposer:
    """The `BoxProposer` of a live source whose worker and clock are virtual."""
    return BoxProposer(
        detector,
        tracks,
        every=every,
        background=True,
        executor=OneWorker(clock),
        clock=clock,
    )


@dataclass
class Camera:
    """When frames arrive, and which one a loop that wants the newest gets.

    Frame i arrives i / ``rate`` seconds after the first; ``dropped`` counts those that a newer
    one replaced before the loop came to fetch them.
    """

    rate: float
    count: int
    dropped: int = 0

    def frames(self, clock: Clock) -> Iterator[tuple[int, float]]:
        """The number of each frame that is delivered, and the instant at which it arrived."""
        last = -1
        while last < self.count - 1:
            newest = min(int(np.floor(clock.now * self.rate + 1e-9)), self.count - 1)
            if newest == last:
                newest = last + 1
                clock.now = newest / self.rate
            self.dropped += newest - last - 1
            last = newest
            yield newest, newest / self.rate
