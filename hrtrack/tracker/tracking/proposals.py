"""Where to look for people in a frame: the detector now and then, the last poses in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...geometry import iou
from ...types import Float64Array
from ..stopwatch import Stopwatch
from ..video.frame import Frame
from .assign import match
from .associate import Tracks
from .displacement import displaced
from .schedule import DetectionSchedule
from .state import NOBODY, Live, Proposals, Sighting

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
    visible: float = 0.25
    """Someone of whom less than this share is in the picture has left."""


class Executor(Protocol):
    """Runs the detector beside the loop: a thread, or a rehearsal with its own clock."""

    def submit(self, work: Callable[..., Any], /, *args: Any) -> Future[Any]: ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...


@dataclass(slots=True)
class _Pending:
    """A detection under way, and the frame that it looks at.

    ``then`` says who was where in that frame; it is None until the frame has been tracked.
    """

    future: Future[tuple[Found, float]]
    image: NDArray[np.uint8]
    time: float
    then: Sighting | None = None


class BoxProposer:
    """Proposes the boxes in which the pose network is to look.

    Args:
        detector: takes (H, W, 3) uint8 RGB and gives boxes (N, 4) in pixels and scores (N,).
        tracks: the people who are followed.
        every: look with the detector every so many frames; ``auto`` lets `DetectionSchedule`
            choose.
        max_people: at most so many boxes; people who are followed come first, then scores.
        background: a live source. The detector may run beside the loop, so that no frame waits
            for it; `DetectionSchedule` chooses by measured times. Its boxes then arrive a frame or
            more later and are matched in the frame that they were made from. Results depend on
            timing, so files do without.
        options: thresholds.
        executor: what runs the detector beside the loop; a thread by default.
        clock: seconds that pass, for `DetectionSchedule`.
    """

    def __init__(
        self,
        detector: Detector,
        tracks: Tracks,
        *,
        every: int | Literal["auto"] = "auto",
        max_people: int | None = None,
        background: bool = False,
        options: BoxOptions | None = None,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.options = options or BoxOptions()
        alone = max_people == 1
        self.schedule = DetectionSchedule(every, measured=background, alone=alone, clock=clock)
        self._detector = detector
        self._tracks = tracks
        self._max_people = max_people
        self._clock = clock
        self._worker = (executor or ThreadPoolExecutor(1, "detector")) if background else None
        self._pending: _Pending | None = None
        self._looker: ThreadPoolExecutor | None = None
        self._ahead: tuple[Frame, Future[tuple[Found, float]]] | None = None

    def propose(self, frame: Frame, spares: bool = False) -> Proposals:
        """The boxes of a frame in which a person may be, those of people in view first.

        ``spares`` says that poses are left out for want of time, see `DetectionSchedule.observe`.
        """
        self.schedule.observe(frame, spares)
        live = self._tracks.live(frame.time)
        if self._pending is not None and self._pending.then is None:
            # The frame that the detector looks at has been tracked since.
            self._pending.then = self._tracks.sighting()
        if self._pending is not None and self._pending.future.done():
            proposals = self._late(frame, live, self._pending)
            self._pending = None
        else:
            proposals = self._followed(frame, live)
        if self._pending is None and self.schedule.due(live, self._tracks.alarms):
            if self._worker is not None and self.schedule.beside:
                # A copy, for the loop may draw on the frame while the detector looks at it.
                image = frame.image.copy()
                future = self._worker.submit(self._timed, image)
                self._pending = _Pending(future, image, frame.time)
            else:
                found, seconds = self._looked(frame)
                self.schedule.detected(seconds)
                proposals = self._merged(found, proposals, self._tracks.lost(frame.time))
        proposals = self._limited(proposals, live)
        self.schedule.begin(len(proposals))
        return proposals

    def look_ahead(self, frame: Frame | None, stopwatch: Stopwatch) -> None:
        """Looks at the next frame beside the work on this one, if the detector seems to be due.

        What it finds is used only if the detector is due indeed, so results stay the same.
        """
        self._ahead = None
        if frame is None or not self.schedule.foresees(self._tracks.live(frame.time)):
            return
        image = frame.image

        def look() -> tuple[Found, float]:
            with stopwatch.stage("look ahead"):
                return self._timed(image)

        if self._looker is None:
            self._looker = ThreadPoolExecutor(1, "detector")
        self._ahead = frame, self._looker.submit(look)

    def _looked(self, frame: Frame) -> tuple[Found, float]:
        """What the detector finds in a frame, be it that it has looked already."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] is frame:
            return ahead[1].result()
        return self._timed(frame.image)

    def finish(self) -> None:
        """Is told that all work on the frame of the last `propose` is done."""
        self.schedule.finish()

    def begin_anew(self) -> None:
        """Forgets the picture before, as at a cut: the detector looks at the next one at once."""
        self.schedule.begin_anew()
        if self._pending is not None:
            # What is found in a picture from before the cut stands for nobody after it.
            self._pending.future.cancel()
            self._pending = None

    def close(self) -> None:
        """Ends the detector's threads."""
        for executor in (self._worker, self._looker):
            if executor is not None:
                executor.shutdown(wait=True, cancel_futures=True)

    def _timed(self, image: NDArray[np.uint8]) -> tuple[Found, float]:
        start = self._clock()
        return self._detector(image), self._clock() - start

    def _followed(self, frame: Frame, live: Live) -> Proposals:
        """The boxes of the people in view, where they ought to be by now."""
        count = len(live)
        proposals = Proposals(
            live.bodies, live.scores, live.keys, np.zeros(count, bool), detected=False
        )
        height, width = frame.image.shape[:2]
        return proposals[_visible(live.bodies, width, height) >= self.options.visible]

    def _limited(self, proposals: Proposals, live: Live) -> Proposals:
        """At most as many as are wanted: people with an ID first, then by score."""
        if self._max_people is None or len(proposals) <= self._max_people:
            return proposals
        confirmed = np.isin(proposals.track_keys, live.keys[live.ids > 0])
        first = np.lexsort((-proposals.scores, ~confirmed))[: self._max_people]
        first.sort()
        return proposals[first]

    def _merged(self, found: Found, followed: Proposals, lost: Float64Array) -> Proposals:
        """Detections of this frame and followed boxes; a detection renews the box it belongs to.

        A detection where someone ``lost`` would be by now belongs to nobody in view: it must not
        pull the box of whoever stands in front.
        """
        options = self.options
        boxes, marks = self._detections(found)
        rows, columns, new = self._matched(followed.boxes, lost, boxes, marks)
        kept, scores = followed.boxes.copy(), followed.scores * options.missed
        share = options.detection_weight
        kept[rows] = share * boxes[columns] + (1 - share) * followed.boxes[rows]
        scores[rows] = marks[columns]
        renewed = np.zeros(len(kept), bool)
        renewed[rows] = True
        count = int(new.sum())
        return Proposals(
            np.concatenate([kept, boxes[new]]),
            np.concatenate([scores, marks[new]]),
            np.concatenate([followed.track_keys, np.full(count, NOBODY, np.int64)]),
            np.concatenate([renewed, np.ones(count, bool)]),
            detected=True,
        )

    def _late(self, frame: Frame, live: Live, pending: _Pending) -> Proposals:
        """Proposals by a detection of an earlier frame.

        The detections are matched with the people as they were in that frame. Someone who is
        still followed gets the new box, moved as the joints have moved since. A detection of
        somebody new has no joints yet and is carried forward by the pictures alone. All these
        boxes count as guesses, because the detector has not looked at this frame.
        """
        options, then = self.options, pending.then
        assert then is not None
        found, seconds = pending.future.result()
        self.schedule.detected(seconds)
        boxes, marks = self._detections(found)
        rows, columns, new = self._matched(then.bodies, then.lost, boxes, marks)
        in_view = np.isin(then.keys[rows], live.keys)
        # Whoever was lost since is looked for anew.
        new[columns[~in_view]] = marks[columns[~in_view]] >= options.new_score
        rows, columns = rows[in_view], columns[in_view]
        keys = then.keys[rows]
        carried = self._tracks.renew_boxes(then, rows, boxes[columns], frame.time)
        live = self._tracks.live(frame.time)
        scores, bodies = live.scores.copy(), live.bodies.copy()
        scores[np.isin(live.keys, then.keys)] *= options.missed
        places = np.searchsorted(live.keys, keys)
        scores[places] = marks[columns]
        share = options.detection_weight
        bodies[places] = share * carried + (1 - share) * bodies[places]
        followed = self._followed(frame, replace(live, bodies=bodies, scores=scores))
        newcomers = displaced(boxes[new], pending.image, frame.image, frame.time - pending.time)
        # Whoever came into view since may be one of them.
        others = ~np.isin(followed.track_keys, then.keys)
        free = iou(newcomers, followed.boxes[others]).max(axis=1, initial=0.0) < options.same_iou
        count = int(free.sum())
        return Proposals(
            np.concatenate([followed.boxes, newcomers[free]]),
            np.concatenate([followed.scores, marks[new][free]]),
            np.concatenate([followed.track_keys, np.full(count, NOBODY, np.int64)]),
            np.zeros(len(followed) + count, bool),
            detected=True,
        )

    def _detections(self, found: Found) -> tuple[Float64Array, Float64Array]:
        """The boxes (N, 4) and scores (N,) of a detection that count."""
        boxes = np.asarray(found[0], np.float64).reshape(-1, 4)
        marks = np.asarray(found[1], np.float64).reshape(-1)
        likely = marks >= self.options.min_score
        return boxes[likely], marks[likely]

    def _matched(
        self, followed: Float64Array, lost: Float64Array, boxes: Float64Array, marks: Float64Array
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Rows of ``followed`` and columns of ``boxes`` that are one person, and who is new."""
        options = self.options
        overlap = iou(np.concatenate([followed, lost]), boxes)
        rows, columns = match(np.where(overlap >= options.same_iou, overlap, 0.0))
        new = marks >= options.new_score
        new[columns] = False
        new[columns[rows >= len(followed)]] = True
        in_view = rows < len(followed)
        return rows[in_view], columns[in_view], new


def _visible(boxes: Float64Array, width: int, height: int) -> Float64Array:
    """The share (N,) of each box that lies in the picture."""
    inner = np.clip(boxes, 0, [width, height, width, height])
    whole = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    return (inner[:, 2:] - inner[:, :2]).prod(axis=1) / whole
