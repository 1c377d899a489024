"""The streaming loop: decode, find people, crop, infer, follow, smooth, name, draw, write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from ..interrupt import shield
from ..poses import Poses
from ..skeleton import Skeleton
from .inference.estimate import Estimator
from .stopwatch import Stopwatch
from .tracking.associate import Tracks
from .tracking.budget import Budget
from .tracking.cuts import CutDetector
from .tracking.flow import Flow
from .tracking.smooth import Smoother
from .tracking.state import Proposals
from .video.frame import Frame

if TYPE_CHECKING:
    from .outputs.base import Picture

LOG = logging.getLogger(__name__)
Upcoming = Callable[[], Frame | None]
"""Gives the frame that comes next, if it is there already."""


class Tagger(Protocol):
    """Names what each tracked person is doing (`hrtrack.actions.tagger`)."""

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


class Proposer(Protocol):
    """Says where to look for people: `BoxProposer`, or what stands in for it in a measurement.

    A stand-in that inherits from it needs only `propose`; the other calls then do nothing.
    """

    def propose(self, frame: Frame, spares: bool = False) -> Proposals: ...

    def look_ahead(self, frame: Frame | None, stopwatch: Stopwatch) -> None:
        """May look at the next frame beside the work on this one."""
        return

    def finish(self) -> None:
        """Is told that all work on a frame is done."""
        return

    def begin_anew(self) -> None:
        """Is told of a cut."""
        return

    def close(self) -> None:
        """Ends threads."""
        return


@dataclass
class Doubt:
    """Warns once that the pose model finds nobody although the detector finds people.

    A model does so that was made for other pictures, colours or crops.
    """

    enough: int = 20
    """With so many detected people, not one confident pose is no longer chance."""
    offered: int = 0
    best: float = 0.0
    reported: bool = False

    def observe(self, poses: Poses, least: float) -> None:
        """Takes note of the poses in what the detector found; ``least`` is what a score needs."""
        self.offered += len(poses)
        self.best = max(self.best, float(poses.person_scores.max(initial=0.0)))
        if self.offered >= self.enough:
            self.report(least)

    def report(self, least: float) -> None:
        """Warns if no pose of all the people reached the score that is needed."""
        if self.reported or not self.offered or self.best >= least:
            return
        self.reported = True
        LOG.warning(
            "the detector found people %d times, but the pose model was sure of none: its best "
            "score was %.2f of the %.2f needed; it may be made for other pictures",
            self.offered, self.best, least,
        )  # fmt: skip


@dataclass
class Pipeline:
    """Everything between a decoded frame and its people, in the order a frame meets it.

    It belongs to one stream and one thread at a time. ``cuts`` sees where the film is cut; None
    follows people across. ``in_use`` is entered for the time that a frame takes. ``skeleton`` is
    what the poses say of the names of their joints. With a ``budget`` not everybody is estimated
    in every frame. ``upcoming`` gives the next frame if it is there already, so that the detector
    looks at it beside the poses of this one; ``beside`` is left when the pipeline is closed.
    """

    proposer: Proposer
    estimate: Estimator
    tracks: Tracks
    smoother: Smoother
    tagger: Tagger | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    cuts: CutDetector | None = None
    in_use: AbstractContextManager[object] = field(default_factory=nullcontext)
    doubt: Doubt = field(default_factory=Doubt)
    skeleton: Skeleton | None = None
    budget: Budget | None = None
    flow: Flow | None = None
    upcoming: Upcoming | None = None
    beside: ExitStack = field(default_factory=ExitStack)

    def step(self, frame: Frame) -> Poses:
        """The tracked, smoothed people of one frame."""
        with self.in_use:
            if self.cuts is not None and self.cuts.update(frame.image):
                # The smoother and the tagger know people by identities, which are never reused.
                self.tracks.end_all()
                self.proposer.begin_anew()
            return self._step(frame)

    def _step(self, frame: Frame) -> Poses:
        spares = False
        if self.budget is not None:
            self.budget.begin(frame)
            spares = self.budget.spares(frame.time)
        with self.stopwatch.stage("detect"):
            proposals = self.proposer.propose(frame, spares)
        if self.upcoming is not None:
            self.proposer.look_ahead(self.upcoming(), self.stopwatch)
        to_carry = None
        if self.budget is not None:
            if self.flow is not None:
                self.flow.update(frame.image if self.budget.short else None)
            live = self.tracks.live(frame.time)
            chosen = self.budget.choose(proposals, live, frame.time)
            to_carry = self.tracks.to_carry(proposals[~chosen], self.flow)
            proposals = proposals[chosen]
        before = self.budget.clock() if self.budget is not None else 0.0
        poses = self.estimate(frame, proposals.boxes, proposals.scores)
        if self.budget is not None:
            self.budget.estimated(self.budget.clock() - before)
        if proposals.detected:
            self.doubt.observe(poses, self.tracks.options.min_score)
        with self.stopwatch.stage("associate"):
            poses = self.tracks.update(poses, proposals, to_carry)
            poses = self.smoother.update(poses)
        if self.tagger is not None:
            with self.stopwatch.stage("act"):
                poses = self.tagger.update(poses)
        self.proposer.finish()
        if self.budget is not None:
            self.budget.finish()
        return replace(poses, skeleton=self.skeleton)

    def close(self) -> None:
        """Ends the detector's threads, if there are any; the networks stay open."""
        self.proposer.close()
        self.beside.close()


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
        with shield():  # a frame that is written is counted, whenever the run is stopped
            go_on = sinks.write(frame, poses, picture(frame, poses))
            progress.step(frame, poses)
            count += 1
        if not go_on:
            break
    return count
