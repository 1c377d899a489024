"""Where to look for people in a frame: the detector now and then, last keypoints in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..geometry import iou
from ..poses import Poses
from .assign import match
from .associate import Tracks
from .frame import Frame
from .held import Drawn, body_boxes
from .pace import Pace
from .state import Live

Floats = NDArray[np.float64]
Found = tuple[NDArray[np.floating], NDArray[np.floating]]
Detector = Callable[[NDArray[np.uint8]], Found]


@dataclass(frozen=True)
class BoxOptions:
    """How detections and followed boxes are put together; docs/tracking.md has the reasons."""

    min_score: float = 0.1
    """Detections below it are ignored."""
    new_score: float = 0.3
    """Detections below it are used only where someone is followed already."""
    same_iou: float = 0.4
    """A detection and a followed box that overlap at least so much are one person."""
    detection_weight: float = 0.7
    """Share of the detection in the box of a person who was also followed."""
    missed: float = 0.7
    """Factor on a person's box score each time that the detector does not find the person."""
    joint_score: float = 0.3
    """Joints below it do not shape the followed box."""
    visible: float = 0.25
    """Someone of whom less than this share is in the picture has left."""


@dataclass(slots=True)
class _Pending:
    """A detection under way on the worker thread, and where people were when it began."""

    future: Future[tuple[Found, float]]
    live: Live


class People:
    """Gives the boxes in which the pose network is to look.

    Args:
        detector: takes (H, W, 3) uint8 RGB and gives boxes (N, 4) in pixels and scores (N,).
        every: look with the detector every so many frames; ``auto`` lets `Pace` choose.
        max_people: at most so many boxes; people who are followed come first, then scores.
        background: run the detector on a thread of its own beside the pose network. Its
            boxes arrive a frame or more later and are carried forward by the motion of the
            people they belong to. Results then depend on timing, so files do without.
        options: thresholds.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        every: int | Literal["auto"] = "auto",
        max_people: int | None = None,
        background: bool = False,
        options: BoxOptions | None = None,
    ) -> None:
        self.options = options or BoxOptions()
        self.pace = Pace(every, measured=background)
        self._detector = detector
        self._max_people = max_people
        self._worker = ThreadPoolExecutor(1, "detector") if background else None
        self._pending: _Pending | None = None
        # Of the boxes given last: their scores, whether the detector drew them, and the rows that
        # they came from; then what the poses in them say of where they ought to be.
        self._scores, self._fresh = np.zeros(0), np.zeros(0, bool)
        self._origin = np.zeros(0, np.intp)
        self._drawn = Drawn.empty(0)
        self._bodies = np.zeros((0, 4))

    def boxes(self, frame: Frame, tracks: Tracks) -> tuple[Floats, Floats, bool]:
        """The boxes (N, 4) of a frame, their scores (N,), and whether the detector had a say."""
        live = tracks.live(frame.time)
        # Those who were followed before this object was made have no rows in it.
        known = live.rows < len(self._bodies)
        rows = live.rows[known]
        followed = live.boxes
        followed[known] = self._bodies[rows] + np.tile(live.shift[known], 2)
        scores = np.zeros(len(live))
        scores[known] = self._scores[rows]
        height, width = frame.image.shape[:2]
        inside = _visible(followed, width, height) >= self.options.visible
        found = self._detect(frame, live, tracks)
        origin = np.where(known, live.rows, -1)[inside]
        boxes, scores, old = followed[inside], scores[inside], (live.ids > 0)[inside]
        fresh = np.zeros(len(boxes), bool)
        if found is not None:
            boxes, scores, old, fresh = self._merge(
                found, boxes, scores, old, tracks.lost(frame.time)
            )
            origin = np.concatenate([origin, np.full(len(boxes) - len(origin), -1, np.intp)])
        if self._max_people is not None and len(boxes) > self._max_people:
            first = np.lexsort((-scores, ~old))[: self._max_people]
            first.sort()
            boxes, scores, fresh, origin = boxes[first], scores[first], fresh[first], origin[first]
        self._scores, self._fresh = scores, fresh
        self._origin = np.where(fresh, -1, origin)
        self.pace.count(len(boxes))
        return boxes, scores, found is not None

    def settle(self, poses: Poses, tracks: Tracks) -> Poses:
        """The poses found in the boxes that were given last, with boxes that fit them.

        A box that the detector did not draw was but a guess from the motion before; the pose in
        it tells where the person is. Without that the motion would be measured by its own guess.
        """
        least = self.options.joint_score
        certain = poses.scores >= least
        self._drawn = self._drawn.renewed(poses, self._origin, certain)
        self._bodies = body_boxes(poses, self._drawn, certain, tracks.reach, least)
        if self._fresh.all():
            return poses
        boxes = np.where(self._fresh[:, None], poses.boxes, self._bodies)
        return replace(poses, boxes=boxes.astype(np.float32))

    def begin_anew(self) -> None:
        """Forgets the picture before, as at a cut: the detector looks at the next one at once."""
        self.pace.begin_anew()
        if self._pending is not None:
            # What is found in a picture from before the cut stands for nobody after it.
            self._pending.future.cancel()
            self._pending = None
        self._scores, self._fresh = np.zeros(0), np.zeros(0, bool)
        self._origin = np.zeros(0, np.intp)
        self._drawn = Drawn.empty(0)
        self._bodies = np.zeros((0, 4))

    def close(self) -> None:
        """Ends the worker thread."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)

    def _detect(self, frame: Frame, live: Live, tracks: Tracks) -> Found | None:
        """Fresh detections, None where the detector has nothing to say about this frame."""
        due = self.pace.due(frame.time, live, tracks.alarms)
        if self._worker is None:
            if not due:
                return None
            found, seconds = _timed(self._detector, frame.image)
            self.pace.detected(seconds)
            return found
        result = None
        if self._pending is not None and self._pending.future.done():
            found, seconds = self._pending.future.result()
            result = _carried(found, self._pending.live, live)
            self._pending = None
            self.pace.detected(seconds)
        elif due and self._pending is None:
            # A copy, for the loop may draw on the frame while the detector looks at it.
            future = self._worker.submit(_timed, self._detector, frame.image.copy())
            self._pending = _Pending(future, live)
        return result

    def _merge(
        self,
        found: Found,
        followed: Floats,
        scores: Floats,
        confirmed: NDArray[np.bool_],
        lost: Floats,
    ) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Detections and followed boxes as one list; a detection renews the box it belongs to.

        A detection where someone ``lost`` would be by now belongs to nobody in view: it must not
        pull the box of whoever stands in front.
        """
        options = self.options
        boxes = np.asarray(found[0], np.float64).reshape(-1, 4)
        marks = np.asarray(found[1], np.float64).reshape(-1)
        boxes, marks = boxes[marks >= options.min_score], marks[marks >= options.min_score]
        overlap = iou(np.concatenate([followed, lost]), boxes)
        rows, columns = match(np.where(overlap >= options.same_iou, overlap, 0.0))
        new = marks >= options.new_score
        new[columns] = False
        new[columns[rows >= len(followed)]] = True
        rows, columns = rows[rows < len(followed)], columns[rows < len(followed)]
        kept, scores = followed.copy(), scores * options.missed
        share = options.detection_weight
        kept[rows] = share * boxes[columns] + (1 - share) * followed[rows]
        scores[rows] = marks[columns]
        renewed = np.zeros(len(kept), bool)
        renewed[rows] = True
        count = int(new.sum())
        return (
            np.concatenate([kept, boxes[new]]),
            np.concatenate([scores, marks[new]]),
            np.concatenate([confirmed, np.zeros(count, bool)]),
            np.concatenate([renewed, np.ones(count, bool)]),
        )


def _timed(detector: Detector, image: NDArray[np.uint8]) -> tuple[Found, float]:
    start = time.perf_counter()
    return detector(image), time.perf_counter() - start


def _carried(found: Found, then: Live, now: Live) -> Found:
    """Detections of an earlier frame, moved as the people they belong to have moved since."""
    boxes = np.asarray(found[0], np.float64).reshape(-1, 4).copy()
    rows, columns = match(iou(then.boxes, boxes))
    places = {int(key): i for i, key in enumerate(now.keys)}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        place = places.get(int(then.keys[row]))
        if place is not None:
            before = then.boxes[row, :2] + then.boxes[row, 2:]
            after = now.boxes[place, :2] + now.boxes[place, 2:]
            boxes[column] += np.tile((after - before) / 2, 2)
    return boxes, found[1]


def _visible(boxes: Floats, width: int, height: int) -> Floats:
    """The share (N,) of each box that lies in the picture."""
    inner = np.clip(boxes, 0, [width, height, width, height])
    whole = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    return (inner[:, 2:] - inner[:, :2]).prod(axis=1) / whole
