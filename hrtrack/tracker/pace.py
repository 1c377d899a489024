"""When the detector is to look: every so many frames, and early when someone gets lost."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from .state import Live

NOMINAL_COST = 2.0
"""The detector's cost in pose crops where it is not measured, about that of YOLOX-nano. A clock
would make a file's results differ from run to run."""
SHARE = 0.5
"""In the long run the detector may cost this share of the rest of the work."""
MOVED = 0.5
"""It looks again before the fastest person has moved so many sizes."""
LONGEST = 0.5
"""Seconds after which it looks again whatever it costs: newcomers wait no longer."""
GAP = 2
"""Frames between two looks when people get lost one after another."""


class Pace:
    """Decides frame by frame whether the detector is due.

    Args:
        every: frames from one look to the next, or ``auto``: as often as the detector costs
            no more than `SHARE` of the rest, oftener when people move fast.
        measured: weigh with measured costs instead of `NOMINAL_COST`.
    """

    def __init__(self, every: int | Literal["auto"], *, measured: bool) -> None:
        if every != "auto" and every < 1:
            raise ValueError(f"the detector cannot look every {every} frames; 1 is the least")
        self._every = every
        self._measured = measured
        self._since: int | None = None  # frames since the last look; None before the first
        self._alarms = 0
        self._frame_seconds = 1 / 30
        self._time: float | None = None
        self._people = 0
        self._detector_cost: float | None = None
        self._rest_cost: float | None = None
        self._clock: float | None = None

    def due(self, now: float, live: Live, alarms: int) -> bool:
        """Whether to look at the frame at ``now`` seconds; ``alarms`` from `Tracks`."""
        self._observe(now)
        if self._since is None:
            self._look(alarms)
            return True
        self._since += 1
        every = self.interval(live)
        early = alarms != self._alarms and self._since >= GAP
        if self._since >= every or early:
            self._look(alarms)
            return True
        return False

    def begin_anew(self) -> None:
        """Makes the next frame due, as the first one is."""
        self._since = None

    def interval(self, live: Live) -> int:
        """Frames from one look to the next, as things stand."""
        if self._every != "auto":
            return self._every if len(live) else max(1, self._every // 2)
        longest = LONGEST
        if len(live):
            sizes = np.maximum((live.boxes[:, 2:] - live.boxes[:, :2]).mean(axis=1), 1.0)
            speed = float((np.hypot(*live.velocity.T) / sizes)[live.ids > 0].max(initial=0.0))
            longest = min(longest, MOVED / max(speed, 1e-6))
        moving = max(1, int(longest / self._frame_seconds))
        return min(moving, max(1, int(np.ceil(self._cost() / SHARE))))

    def detected(self, seconds: float) -> None:
        """Enters how long the detector took."""
        before = self._detector_cost
        self._detector_cost = seconds if before is None else 0.8 * before + 0.2 * seconds

    def count(self, people: int) -> None:
        """Enters how many boxes the pose network gets; the rest of the frame begins now."""
        self._people = people
        self._clock = time.perf_counter()

    def _look(self, alarms: int) -> None:
        self._since, self._alarms = 0, alarms

    def _cost(self) -> float:
        """The detector's cost as a multiple of the rest of a frame's work."""
        if self._measured and self._detector_cost and self._rest_cost:
            return self._detector_cost / self._rest_cost
        return NOMINAL_COST / max(self._people, 1)

    def _observe(self, now: float) -> None:
        if self._time is not None and now > self._time:
            step = min(now - self._time, 1.0)
            self._frame_seconds += 0.2 * (step - self._frame_seconds)
        self._time = now
        if self._clock is not None:
            rest = time.perf_counter() - self._clock
            before = self._rest_cost
            self._rest_cost = rest if before is None else 0.8 * before + 0.2 * rest
