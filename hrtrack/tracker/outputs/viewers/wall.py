"""Several streams in one window or page: a tile for each."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ....errors import HrtrackError
from ....poses import Poses, joined
from ...video.base import Source
from ...video.frame import Frame
from ..base import Run
from ..pictures.labels import draw_overlay

if TYPE_CHECKING:
    from ....skeleton import Skeleton
    from ...stopwatch import Stopwatch
    from ..base import Picture

LOG = logging.getLogger(__name__)
WIDTH = 1280
"""Pixels of all tiles of a row together."""
ASPECT = Fraction(16, 9)
GAP, GREY = 2, 70
"""Pixels between two tiles, and their grey: pictures may be alike, and bars are black."""
IDLE = 0.1
"""Seconds after which views are served although no tile is new."""
TIME_BASE = Fraction(1, 90_000)


class View(Protocol):
    """A window or a page that shows the wall."""

    def wants(self) -> bool:
        """Whether it would show a new picture at once."""
        ...

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool: ...

    def close(self, *, complete: bool) -> None: ...


class Tile:
    """The newest picture of one stream, drawn when the wall asks for it."""

    def __init__(self, label: str, size: tuple[int, int]) -> None:
        self.label = label
        self.size = size
        self.poses: Poses | None = None
        self.shown = self.closed = False
        """``shown``: the wall has what is here; ``closed``: nobody looks any more."""
        self.asked = False
        self._image: NDArray[np.uint8] | None = None
        self._lines = [label, "no picture yet"]
        self._ended = False
        self._written: deque[float] = deque(maxlen=30)
        self._changing = threading.Lock()

    def sink(self, run: Run) -> Tile:
        """What `hrtrack.tracker.outputs.open.open_sinks` makes the output with."""
        return self

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Takes one frame; False when the wall was closed."""
        self._written.append(time.monotonic())
        self.poses = poses
        if self.asked:
            self.asked = False
            image = fitted(picture(), self.size)
            with self._changing:
                self._image, self._ended, self.shown = image, False, False
                self._lines = [self.label, self._figures(frame, poses)]
        return not self.closed

    def close(self, *, complete: bool) -> None:
        """Leaves the last picture, dark and marked as such."""
        with self._changing:
            self._lines, self._ended, self.shown = [self.label, "ended"], True, False
            self.poses = None

    def draw(self, canvas_HW3: NDArray[np.uint8]) -> None:
        """Draws the tile into its part of the wall."""
        with self._changing:
            image, lines, ended, self.shown = self._image, self._lines, self._ended, True
        canvas_HW3[:] = 0 if image is None else image // 2 if ended else image
        draw_overlay(canvas_HW3, lines)

    def _figures(self, frame: Frame, poses: Poses) -> str:
        span = self._written[-1] - self._written[0]
        parts = [f"{(len(self._written) - 1) / span:.1f} FPS"] if span > 0 else []
        parts.append(f"{len(poses)} {'person' if len(poses) == 1 else 'people'}")
        if frame.arrived is not None:
            age = (time.monotonic() - frame.arrived) * 1000
            parts += [f"{age:.0f} ms behind", f"{frame.dropped} dropped"]
        return "  ".join(parts)


@dataclass
class WallSource(Source):
    """Stands for all streams in what a view is told of its source."""

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def close(self) -> None:
        pass


class Wall:
    """All tiles, and what shows them. Tiles are written by any thread, the rest is one thread's.

    Args:
        labels: the streams' names.
        views: make what shows the wall, on the calling thread.
        skeleton: the joints of the poses.
        stopwatch: where the time of showing is entered.
    """

    def __init__(
        self,
        labels: Sequence[str],
        views: Sequence[Callable[[Run], View]],
        skeleton: Skeleton,
        stopwatch: Stopwatch,
    ) -> None:
        columns = math.ceil(math.sqrt(len(labels)))
        rows = math.ceil(len(labels) / columns)
        width = (WIDTH - (columns - 1) * GAP) // columns // 2 * 2
        height = round(width / ASPECT) // 2 * 2
        self.tiles = [Tile(label, (width, height)) for label in labels]
        self._canvas = np.full(
            (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), GREY, np.uint8
        )
        self._places = [
            self._canvas[top : top + height, left : left + width]
            for top in range(0, rows * (height + GAP), height + GAP)
            for left in range(0, columns * (width + GAP), width + GAP)
        ]
        for place in self._places:
            place[:] = 0
        self._began = self._last = time.monotonic()
        self._count = 0
        size = (self._canvas.shape[1], self._canvas.shape[0])
        source = WallSource(", ".join(labels), "live", size, time_base=TIME_BASE)
        run = Run(source, skeleton, stopwatch=stopwatch)
        self._joints = len(skeleton)
        self._views: list[View] = []
        try:
            for make in views:
                self._views.append(make(run))
        except BaseException:
            self.close()
            raise

    def show(self) -> None:
        """Brings the views up to date; call it often."""
        if any(view.wants() for view in self._views):
            for tile in self.tiles:
                tile.asked = True
        fresh = not all(tile.shown for tile in self.tiles)
        now = time.monotonic()
        if not self._views or not (fresh or now - self._last > IDLE):
            return
        self._last = now
        pts = round((now - self._began) / TIME_BASE)
        frame = Frame(self._count, float(pts * TIME_BASE), self._canvas, pts, TIME_BASE)
        self._count += 1
        poses = self._poses(frame)
        for view in list(self._views):
            try:
                if not view.write(frame, poses, self._picture):
                    for tile in self.tiles:
                        tile.closed = True
            except HrtrackError as error:  # what watches a run does not end it
                LOG.error("%s", error)
                self._views.remove(view)
                view.close(complete=False)

    def close(self) -> None:
        """Takes the views away."""
        for view in self._views:
            view.close(complete=True)
        self._views.clear()

    def _picture(self) -> NDArray[np.uint8]:
        for place, tile in zip(self._places, self.tiles, strict=False):  # the last may be empty
            tile.draw(place)
        return self._canvas.copy()

    def _poses(self, frame: Frame) -> Poses:
        """Everybody in all streams; no two of them have one identity."""
        count = len(self.tiles)
        there = [
            replace(poses, ids=np.where(poses.ids < 0, -1, poses.ids * count + place))
            for place, tile in enumerate(self.tiles)
            if (poses := tile.poses) is not None
        ]
        if not there:
            return Poses.empty(frame.index, frame.time, self._joints)
        return replace(joined(*there), frame=frame.index, time=frame.time)


def fitted(image_HW3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture scaled into a (width, height), black around it."""
    width, height = size
    rows, columns = image_HW3.shape[:2]
    scale = min(width / columns, height / rows)
    fit = max(1, round(columns * scale)), max(1, round(rows * scale))
    how = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    small = cv2.resize(image_HW3, fit, interpolation=how)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - fit[0]) // 2, (height - fit[1]) // 2
    canvas[top : top + fit[1], left : left + fit[0]] = small
    return canvas
