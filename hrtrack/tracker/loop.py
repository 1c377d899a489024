"""The streaming loop: decode, find people, crop, infer, follow, smooth, name, draw, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..poses import Poses
from .associate import Tracks
from .boxes import BoxProposer
from .cuts import CutDetector
from .estimate import Estimator
from .frame import Frame
from .smooth import Smoother
from .stopwatch import Stopwatch

Picture = Callable[[], NDArray[np.uint8]]


class Tagger(Protocol):
    """Names what each tracked person is doing (`hrtrack.tracker.act`)."""

    def update(self, poses: Poses) -> Poses: ...


class Writer(Protocol):
    """Takes finished frames; False asks the loop to stop."""

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool: ...


class Meter(Protocol):
    """Shows how far the loop has come."""

    def step(self, frame: Frame, poses: Poses) -> None: ...


class Poser(Protocol):
    """Gives the people of a frame: the network pipeline, or saved results."""

    def step(self, frame: Frame) -> Poses: ...


@dataclass
class Pipeline:
    """Everything between a decoded frame and its people, in the order a frame meets it.

    It belongs to one stream and one thread at a time. ``cuts`` sees where the film is cut; None
    follows people across. ``in_use`` is entered for the time that a frame takes.
    """

    proposer: BoxProposer
    estimate: Estimator
    tracks: Tracks
    smoother: Smoother
    tagger: Tagger | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    cuts: CutDetector | None = None
    in_use: AbstractContextManager[object] = field(default_factory=nullcontext)

    def step(self, frame: Frame) -> Poses:
        """The tracked, smoothed people of one frame."""
        with self.in_use:
            if self.cuts is not None and self.cuts.update(frame.image):
                # The smoother and the tagger know people by identities, which are never reused.
                self.tracks.end_all()
                self.proposer.begin_anew()
            return self._step(frame)

    def _step(self, frame: Frame) -> Poses:
        with self.stopwatch.stage("detect"):
            proposals = self.proposer.propose(frame)
        poses = self.estimate(frame, proposals.boxes, proposals.scores)
        with self.stopwatch.stage("associate"):
            poses = self.tracks.update(poses, proposals)
            poses = self.smoother.update(poses)
        if self.tagger is not None:
            with self.stopwatch.stage("act"):
                poses = self.tagger.update(poses)
        self.proposer.finish()
        return poses

    def close(self) -> None:
        """Ends the detector's thread, if there is one; the networks stay open."""
        self.proposer.close()


def run(
    frames: Iterable[Frame],
    pipeline: Poser,
    sinks: Writer,
    progress: Meter,
    picture: Callable[[Frame, Poses], Picture],
) -> int:
    """Takes every frame from the source through the pipeline to the sinks.

    ``picture`` gives what draws a frame, for the sinks to call, be it later and on another
    thread. Returns the number of frames. Whatever ends the loop, the caller's ``with`` closes the
    sinks.
    """
    count = 0
    for frame in frames:
        poses = pipeline.step(frame)
        go_on = sinks.write(frame, poses, picture(frame, poses))
        progress.step(frame, poses)
        count += 1
        if not go_on:
            break
    return count
