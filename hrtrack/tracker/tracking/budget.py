"""Who is estimated in a frame, where there is no time to estimate everybody in every frame."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...geometry import iou
from ...types import BoolArray, Float64Array
from ..video.frame import Frame
from .state import Live, Proposals, rows_of

MOST_FRAMES = 3
"""A person goes without an estimate for at most so many frames in a row, or for at most
`MOST_SECONDS`, whichever is longer; `LONGEST` ends it sooner where frames are few."""
MOST_SECONDS = 0.15
"""The same bound in seconds."""
LONGEST = 0.21
"""Nobody goes without for more seconds than this, however few frames it is: two at 10 frames a
second. Over longer gaps arms swing back and forth, and it is better to lose frames."""
CALM = 0.2
"""Drift in sizes a second that everybody has at least: whoever stands still gets a turn, too."""
OVERLAP = 0.1
"""Boxes that overlap by so much (IoU) are those of people who cross: carried on, they might come
out of it with each other's identity."""
AHEAD = 0.2
"""Seconds before which people who are about to overlap so much count, too."""
FEW = 6
"""So many people who cross are always estimated. Where it is more, nobody is for that reason: in a
crowd somebody always covers somebody, and whoever stands alone would have no turn."""
SURPLUS = 1.0
"""Frames' worth of turns or of time that is saved up at the most for later frames."""
ROOM = 0.95
"""The share of the time between two frames that is planned with."""
WORTH = 0.1
"""Poses that cost less than this share of a frame's time are not left out: it would gain nothing,
as where a GPU takes as long for one person as for all."""
LATEST = 0.1
"""Share of a new frame in the running means of what frames and people cost."""


NEAR = 1.5
"""With time for fewer than so many times the people in view, some may soon have to be left out."""


RECENTLY = 1.0
"""Seconds after which time is no longer short where everybody was estimated all the while."""


WARM_UP = 5
"""Frames in which networks are still being compiled: they tell nothing of those to come."""


class Budget:
    """Chooses frame by frame who is estimated; the joints of the others are carried on.

    Newcomers always are, a few people who cross, and whoever has gone without for
    `MOST_FRAMES` frames and `MOST_SECONDS` seconds, or for `LONGEST` seconds. Of the rest those
    come first whose joints are likely to be furthest from where they are shown: the time since
    their last estimate, times how far their joints went astray from the predicted motion before,
    times how uncertain they are.

    How many there are is a fixed share of all, which is the same in every run, or as many as there
    is time for by measured costs.

    Each frame calls `begin`, `choose`, `estimated` and `finish` in this order, and `choose` once; a
    frame that broke off is followed by the next one's `begin`. Another order fails an assertion.

    Args:
        share: estimate this share of the people in view, in (0, 1].
        target_fps: estimate as many as there is time for at so many frames a second.
        waits: the loop may wait for its next frame, as it does for a camera. Only what it works
            then counts, and the whole time from frame to frame where it came too late for one.
        clock: seconds that pass.

    Raises:
        UsageError: both or neither are given, or one is out of range.
    """

    def __init__(
        self,
        *,
        share: float | None = None,
        target_fps: float | None = None,
        waits: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if (share is None) == (target_fps is None):
            raise UsageError("a budget takes either a share or a target of frames a second")
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"a budget's share is over 0 and at most 1, not {share}")
        if target_fps is not None and not 0 < target_fps < float("inf"):
            raise UsageError(f"target_fps is a number over 0, not {target_fps}")
        self._share = share
        self._period = None if target_fps is None else 1.0 / target_fps
        self._costs = Costs()
        self._saved = 0.0  # turns at a fixed share, seconds at a target
        self._waits = waits
        self.clock = clock
        self._begun: float | None = None
        self._worked = 0.0
        self._last: Frame | None = None
        self._apart = 0.0  # seconds between two frames of a live source
        self._people = 0
        self._pose_seconds = 0.0
        self.short = share is not None and share < 1
        """Whether poses are left out, or may soon have to be: who carries joints by
        pictures needs the next one."""
        self._pictures = 0  # in a row, up to the newest frame
        self._left_out = float("-inf")  # when somebody was, the last time
        self._called = "finish"  # the newest call

    def begin(self, frame: Frame) -> None:
        """Is told that the work on a frame begins."""
        self._called = "begin"
        if self._period is None:
            return
        now, last = self.clock(), self._last
        if last is not None and self._begun is not None:
            late = not self._waits or frame.dropped > last.dropped
            whole = now - self._begun if late else self._worked
            self._costs.observe_rest(whole - self._pose_seconds)
            if frame.arrived is not None and frame.index > last.index:
                apart = min(frame.time - last.time, 1.0) / (frame.index - last.index)
                self._apart += LATEST * (max(apart, 0.0) - self._apart)
        self._begun, self._last = now, frame
        self._pose_seconds = 0.0

    def choose(self, proposals: Proposals, live: Live, now: float) -> BoolArray:
        """Who (N,) of the proposed people is to be estimated in a frame at ``now`` seconds.

        Everybody is as long as there are no pictures of two frames to carry joints by.
        """
        assert self._called == "begin", "choose() comes after begin()"
        self._called = "choose"
        count = len(proposals)
        rows = rows_of(live.keys, proposals.track_keys)
        new = (rows < 0) | (live.ids[rows] <= 0) if len(live) else np.ones(count, bool)
        waited = np.zeros(count)
        due = new.copy()
        if len(live):
            waited = now - live.measured[rows]
            due |= (live.carried[rows] >= MOST_FRAMES) & (waited > MOST_SECONDS)
            due |= waited > LONGEST
        due |= self._crossing(proposals, live, rows)
        turns = self._turns(count)
        self._pictures = self._pictures + 1 if self.short else 0
        if self._period is not None:
            self.short = turns < NEAR * count
        chosen = due
        left = turns - int(due.sum())
        others = np.flatnonzero(~due)
        if left >= len(others) or self._pictures < 2:
            chosen = np.ones(count, bool)
        elif left > 0:
            rank = self._urgency(live, rows[others], waited[others])
            chosen = due.copy()
            chosen[others[np.argsort(-rank, kind="stable")[:left]]] = True
        if not chosen.all():
            self._left_out = now
        self._spend(int(chosen.sum()), count)
        return chosen

    def spares(self, now: float) -> bool:
        """Whether somebody was left out of late, in a frame at ``now`` seconds."""
        return 0.0 <= now - self._left_out <= RECENTLY

    def estimated(self, seconds: float) -> None:
        """Enters how long the pose network took for the people chosen last, crops included."""
        assert self._called != "begin", "estimated() comes after choose()"
        self._called = "estimated"
        self._pose_seconds = seconds
        if self._period is not None:
            self._costs.observe_poses(self._people, seconds)

    def finish(self) -> None:
        """Is told that all work on the frame is done, but for what becomes of its poses."""
        assert self._called == "estimated", "finish() comes after estimated()"
        self._called = "finish"
        if self._begun is not None:
            self._worked = self.clock() - self._begun

    def _turns(self, people: int) -> int:
        """How many may be estimated now."""
        if self._share is not None:
            self._saved = min(self._saved + self._share * people, (1 + SURPLUS) * people)
            return int(self._saved + 1e-9)
        assert self._period is not None
        # A camera that gives fewer frames leaves more time for each.
        free = ROOM * max(self._period, self._apart) - self._costs.rest
        self._saved = min(self._saved + free, (1 + SURPLUS) * max(free, 0.0))
        if self._costs.person * people <= WORTH * (self._costs.rest + self._costs.call):
            return int(np.ceil(NEAR * people))
        return int(max(self._saved - self._costs.call, 0.0) / max(self._costs.person, 1e-9))

    def _spend(self, chosen: int, people: int) -> None:
        self._people = chosen
        if self._share is not None:
            # Turns that the bound took are not to be paid back for longer than a frame.
            self._saved = max(self._saved - chosen, -SURPLUS * people)
        elif self._period is not None:
            spent = self._costs.call + self._costs.person * chosen if chosen else 0.0
            self._saved = max(self._saved - spent, -SURPLUS * self._period)

    def _crossing(self, proposals: Proposals, live: Live, rows: NDArray[np.intp]) -> BoolArray:
        """Who (N,) covers somebody else, or will before long; nobody in a crowd (`FEW`)."""
        velocity = np.zeros((len(proposals), 2))
        known = rows >= 0
        velocity[known] = live.velocity[rows[known]]
        then = proposals.boxes + np.tile(AHEAD * velocity, 2)
        overlap = np.maximum(iou(proposals.boxes, proposals.boxes), iou(then, then))
        np.fill_diagonal(overlap, 0.0)
        crossing = overlap.max(axis=1, initial=0.0) >= OVERLAP
        return crossing & (crossing.sum() <= FEW)

    def _urgency(self, live: Live, rows: NDArray[np.intp], waited: Float64Array) -> Float64Array:
        """How far (N,) joints may have gone astray by now, in sizes, the more the less is known."""
        rate = (CALM + live.drift[rows]) / np.maximum(live.certainty[rows], 0.2)
        return waited * rate


class Costs:
    """What frames and people cost, in seconds, as running means.

    The pose network takes ``call`` seconds and ``person`` more for each person, by a line fitted to
    the frames of late: on a CPU nearly all of it is for the people, on a GPU hardly any.
    ``rest`` is what a frame takes besides.
    """

    def __init__(self) -> None:
        self.rest = self.call = self.person = 0.0
        self._means: Float64Array | None = None  # of n, t, n n, n t
        self._frames = 0

    def observe_poses(self, people: int, seconds: float) -> None:
        """Enters how long a call with so many people took."""
        if not people or self._frames < WARM_UP:
            return
        new = np.array([people, seconds, people * people, people * seconds], float)
        if self._means is None:
            self._means = new
        self._means += LATEST * (new - self._means)
        n, t, nn, nt = self._means.tolist()
        # As long as there are always as many, all of it counts as theirs.
        few = (0.2 * n) ** 2
        slope = (nt - n * t + few * t / n) / (nn - n * n + few)
        self.person = min(max(slope, 0.0), t / n)
        self.call = t - self.person * n

    def observe_rest(self, seconds: float) -> None:
        """Enters what a frame took but for its poses."""
        self._frames += 1
        if self._frames >= WARM_UP:
            share = max(LATEST, 1.0 / (1 + self._frames - WARM_UP))
            self.rest += share * (max(seconds, 0.0) - self.rest)
