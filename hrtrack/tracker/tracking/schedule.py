"""When the detector is to look, and whether the loop waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from ..video.frame import Frame
from .state import Live

NOMINAL_COST = 2.0
"""The detector's cost in pose crops where it is not measured, about that of YOLOX-nano. A clock
would make a file's results differ from run to run."""
SHARE = 0.5
"""In the long run the detector may cost this share of the rest of the work."""
MOVED = 0.5
"""It looks again before the fastest person has moved so many sizes."""
LONGEST = 0.5
"""Seconds after which the detector looks again whatever it costs: newcomers wait no longer."""
ALONE = 2.0
"""Seconds after which it looks again where one person is all that is wanted and is followed: alarms
tell when that person is lost."""
SURE = 0.5
"""A person with a lower box score may be a mistake: the schedule does not rely on `ALONE` then."""
GAP = 2
"""Frames from one look to the next at the least when people get lost one after another."""
ROOM = 0.9
"""The share of the time between two frames that the work on one may fill before some are lost."""
OFTEN = 15.0
"""From so many frames a second on people move so little between two frames that detections which
come late are good enough."""
CHEAP = 0.5
"""A slower loop waits for a detector that takes at most this share of the rest of the work."""
PROMPT = 0.5
"""Where poses are spared, the loop waits for a detector that takes at most this share of the time
between two frames, or of the rest of the work on one where that takes longer."""
SPARED = 0.15
"""Where poses are spared, the detector may cost this share of all the time: what it takes, poses
lack, and the oftener it looks, the oftener it takes somebody who was carried astray for new."""
LATEST = 0.2
"""Share of a new time in the running mean of a measured one."""


class DetectionSchedule:
    """Decides frame by frame whether the detector is due.

    Each frame calls `observe`, then `due` unless the detector is at work already, then `begin` and
    `finish`; `detected` is called whenever a detection has ended. Another order fails an assertion.

    Args:
        every: frames from one look to the next, or ``auto``: as often as the detector costs
            no more than `SHARE` of the rest, oftener when people move fast.
        measured: weigh with measured costs instead of `NOMINAL_COST`.
        alone: one person is all that is wanted. While they are followed, ``auto`` looks every
            `ALONE` seconds and on alarms, for whoever else comes is not followed anyway.
        clock: seconds that pass.
    """

    def __init__(
        self,
        every: int | Literal["auto"],
        *,
        measured: bool,
        alone: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if every != "auto" and every < 1:
            raise ValueError(f"the detector cannot look every {every} frames; 1 is the least")
        self._every = every
        self._measured = measured
        self._alone = alone
        self._spares = False
        self._now = clock
        self._since: int | None = None  # frames since the last look; None before the first
        self._alarms = 0
        self._frame_seconds = 1 / 30
        self._source_seconds: float | None = None
        self._last: tuple[int, float] | None = None
        self._people = 0
        self._detector_cost: float | None = None
        self._rest_cost: float | None = None
        self._work_cost: float | None = None
        self._begun: float | None = None
        self._called = "finish"  # the newest call but for `detected`

    @property
    def beside(self) -> bool:
        """Whether the detector had better run beside the loop than hold it up.

        With work w on a frame, detector d and time t between two frames, in seconds, that is where
        w + d > ROOM t, unless w + d > 1 / OFTEN and d <= CHEAP w; where poses are spared it is
        where d > PROMPT t and d > PROMPT w.

        A prompt detection costs nothing where frame and detection are done before the next
        frame comes. Otherwise a frame may be lost to it. That is worth it where the loop is slow,
        for people move far from one frame to the next, and the detector cheap beside the poses:
        then they share the same cores either way. docs/tracking.md has what either way showed of
        a crowd. Where poses are spared, frame and detection always take the time there is, and
        fewer poses do less harm to a crowd than boxes that come late.
        """
        if self._detector_cost is None or self._work_cost is None or self._source_seconds is None:
            return False
        if self._spares:
            return self._detector_cost > PROMPT * max(self._source_seconds, self._work_cost)
        both = self._work_cost + self._detector_cost
        worth_it = both > 1 / OFTEN and self._detector_cost <= CHEAP * self._work_cost
        return both > ROOM * self._source_seconds and not worth_it

    def observe(self, frame: Frame, spares: bool = False) -> None:
        """Enters a frame before anything else is asked about it.

        ``spares`` says that poses are left out for want of time (`Budget`). A prompt detection then
        costs poses and not frames.
        """
        self._called = "observe"
        self._spares = spares
        if self._last is not None and frame.time > self._last[1]:
            step = min(frame.time - self._last[1], 1.0)
            self._frame_seconds += LATEST * (step - self._frame_seconds)
            frames = max(frame.index - self._last[0], 1)
            self._source_seconds = _mean(self._source_seconds, step / frames)
        self._last = frame.index, frame.time
        if self._begun is not None:
            self._rest_cost = _mean(self._rest_cost, self._now() - self._begun)
        if self._since is not None:
            self._since += 1

    def due(self, live: Live, alarms: int) -> bool:
        """Whether to look at the frame observed last; ``alarms`` from `Tracks`."""
        assert self._called == "observe", "due() comes once after observe()"
        self._called = "due"
        if self._since is None:
            self._look(alarms)
            return True
        every = self.interval(live)
        early = alarms != self._alarms and self._since >= GAP
        if self._since >= every or early:
            self._look(alarms)
            return True
        return False

    def foresees(self, live: Live) -> bool:
        """Whether the next frame will be due, as things stand after `begin`."""
        assert self._called == "begin", "foresees() comes after begin()"
        return self._since is not None and self._since + 1 >= self.interval(live)

    def begin_anew(self) -> None:
        """Makes the next frame due, as the first one is."""
        self._since = None

    def interval(self, live: Live) -> int:
        """Frames from one look to the next, as things stand."""
        if self._every != "auto":
            return self._every if len(live) else max(1, self._every // 2)
        if self._alone and ((live.ids > 0) & (live.scores >= SURE)).any():
            return max(1, int(ALONE / self._frame_seconds))
        longest = LONGEST
        if len(live):
            sizes = np.maximum((live.boxes[:, 2:] - live.boxes[:, :2]).mean(axis=1), 1.0)
            speed = float((np.hypot(*live.velocity.T) / sizes)[live.ids > 0].max(initial=0.0))
            longest = min(longest, MOVED / max(speed, 1e-6))
        moving = max(1, int(longest / self._frame_seconds))
        return min(moving, max(1, int(np.ceil(self._rarely()))))

    def detected(self, seconds: float) -> None:
        """Enters how long the detector took."""
        self._detector_cost = _mean(self._detector_cost, seconds)

    def begin(self, people: int) -> None:
        """Enters how many boxes the pose network gets; the rest of the frame begins now."""
        assert self._called in ("observe", "due"), "begin() comes after observe()"
        self._called = "begin"
        self._people = people
        self._begun = self._now()

    def finish(self) -> None:
        """Enters that the work on the frame is done."""
        assert self._called == "begin", "finish() comes after begin()"
        self._called = "finish"
        if self._begun is not None:
            self._work_cost = _mean(self._work_cost, self._now() - self._begun)

    def _look(self, alarms: int) -> None:
        self._since, self._alarms = 0, alarms

    def _rarely(self) -> float:
        """Frames from one look to the next that keep the detector at its share of the time."""
        if self._spares and self._measured and self._detector_cost:
            return self._detector_cost / (SPARED * self._frame_seconds)
        return self._cost() / SHARE

    def _cost(self) -> float:
        """The detector's cost as a multiple of the rest of a frame's work."""
        if self._measured and self._detector_cost and self._rest_cost:
            return self._detector_cost / self._rest_cost
        return NOMINAL_COST / max(self._people, 1)


def _mean(before: float | None, new: float) -> float:
    return new if before is None else before + LATEST * (new - before)
