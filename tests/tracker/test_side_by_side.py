"""Streams at a time over one set of networks: each gets its turn, whatever the others send."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from functools import partial

import pytest

from hrtrack import Tracker
from hrtrack.pyav import av
from hrtrack.shown import Shown
from hrtrack.tracker.side_by_side import Halt, side_by_side
from hrtrack.tracker.video.live import LiveSource

from ..clips import canvas

TURNS = 240
LONGEST = 40
"""Turns of all streams within which each has one: eight times its share with five of them."""


class Turns:
    """The clock of this test: a turn is a frame that some stream has finished."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.changed = threading.Condition()

    def take(self, place: int) -> int:
        with self.changed:
            self.taken.append(place)
            self.changed.notify_all()
            return len(self.taken)


@dataclass
class Camera(LiveSource):
    """A live source that sends ``burst`` frames after every so many turns.

    ``came`` has the turn at which each frame arrived.
    """

    turns: Turns = field(kw_only=True)
    every: int = field(kw_only=True)
    burst: int = 1
    came: list[int] = field(default_factory=list)

    def _stay_connected(self) -> None:
        after = 0
        for number in itertools.count():
            image = canvas(60 + 4 * (number % 20))
            picture, shown = av.VideoFrame.from_ndarray(image, format="rgb24"), Shown(None)
            with self.turns.changed:
                self.turns.changed.wait_for(lambda after=after: len(self.turns.taken) >= after)
                now = len(self.turns.taken)
            if now >= TURNS or self._stop.is_set():
                return
            for _ in range(self.burst):
                self.came.append(now)
                self._arrive(picture, shown, None, time.monotonic())
            after = now + self.every


@pytest.mark.slow
def test_no_stream_starves() -> None:
    turns, halt = Turns(), Halt()
    paces = {"fast": (1, 1), "slow": (12, 1), "greedy": (1, 3), "as greedy": (1, 3), "too": (1, 3)}
    cameras = [
        Camera(name, "live", opener=_no_connection, turns=turns, every=every, burst=burst)
        for name, (every, burst) in paces.items()
    ]
    with Tracker(target_fps="off") as tracker:
        tracker.share(len(cameras))

        def run(place: int) -> list[int]:
            """How many turns old each frame was when it was done."""
            camera, ages, before = cameras[place], list[int](), (-1, 0)
            pipeline = tracker.pipeline(live=True)
            with camera:
                for frame in halt.frames(camera):
                    pipeline.step(frame)
                    ages.append(turns.take(place) - camera.came[frame.index])
                    # What lies between two frames was dropped: none waits behind a newer one.
                    passed = frame.index - before[0] - 1
                    assert passed == frame.dropped - before[1]
                    before = frame.index, frame.dropped
            pipeline.close()
            return ages

        every = side_by_side([partial(run, place) for place in range(len(cameras))], halt)
    for ages in every:
        assert isinstance(ages, list), ages
        assert max(ages) <= LONGEST
    assert len(turns.taken) == sum(map(len, every)) >= TURNS
    for place, name in enumerate(paces):
        own = [number for number, taken in enumerate(turns.taken) if taken == place]
        wait = LONGEST + paces[name][0]
        ends = [0, *own, TURNS]
        assert max(after - one for one, after in itertools.pairwise(ends)) <= wait, name


def _no_connection() -> av.container.InputContainer:
    raise AssertionError("turns make the frames")
