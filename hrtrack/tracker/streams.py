"""Streams of a program's own frames, each with its own people, over one tracker's networks."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..poses import Poses
from .inference.gate import Gate
from .loop import Pipeline
from .options import Color
from .video.frame import Frame
from .video.own import Clock, Picture, to_rgb


class Stream:
    """The frames of one camera or clip, given one after the other.

    Make it with `Tracker.new_stream`. It has its own identities and shares the tracker's networks.
    Different streams may be used from different threads at a time; calls on one stream take turns.
    """

    def __init__(self, begin: Callable[[], Pipeline], gate: Gate, color: Color) -> None:
        self._begin = begin
        self._gate = gate
        self._color = color
        # Reentrant, for a signal handler may reset what the very same thread is using.
        self._turns = threading.RLock()
        self._pipeline: Pipeline | None = None
        self._clock = Clock()
        self._count = 0

    def update(self, image: Picture, time: float | None = None) -> Poses:
        """The people of the stream's next frame, followed from the frames before.

        Args:
            image: what `Tracker.image` takes.
            time: when the frame was taken, in seconds from any moment on, never less than before;
                the monotonic clock's time when None.

        Returns:
            The people with their identities. ``poses.frame`` counts the calls from 0.

        Raises:
            ImageError: ``image`` is no picture, or not of a kind that can be taken.
            SourceError: a picture's file cannot be read.
            UsageError: ``time`` is no number or goes back, the tracker is closed, or another
                process opened it.
        """
        # Before the lock, which a thread that a fork left behind may hold for ever.
        self._gate.check()
        image_HW3 = to_rgb(image, self._color)
        with self._turns:
            if self._pipeline is None:
                self._pipeline = self._begin()
            frame = Frame(index=self._count, time=self._clock.next(time), image=image_HW3)
            self._count += 1
            return self._pipeline.step(frame)

    def reset(self) -> None:
        """Forgets everybody: the next frame is the first of another clip, identities begin at 1.

        UsageError where the tracker is closed, or another process opened it.
        """
        self._gate.check()
        with self._turns:
            self._pipeline, self._clock, self._count = None, Clock(), 0
