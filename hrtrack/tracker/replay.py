"""Saved results in place of the networks: what `--redraw` draws from."""

from __future__ import annotations

import logging
from pathlib import Path

from ..poses import Poses
from ..skeleton import Skeleton, by_name
from .frame import Frame
from .sinks.jsonl import read_jsonl, skeleton_of

LOG = logging.getLogger(__name__)


class Replay:
    """Gives the people that a JSONL file holds for each frame.

    The file is read along with the video, so its length does not matter. Frames that the
    file does not name have nobody in them, and a warning counts them in the end.

    Raises:
        DataError: the file cannot be read or is no hrtrack results file.
    """

    def __init__(self, path: str | Path) -> None:
        self.skeleton: Skeleton = by_name(skeleton_of(path))
        self._lines = read_jsonl(path)
        self._next = next(self._lines, None)
        self._path, self._steps, self._missing = path, 0, list[int]()

    def step(self, frame: Frame) -> Poses:
        """The saved people of ``frame``, found by its index."""
        self._steps += 1
        while self._next is not None and self._next.frame < frame.index:
            self._next = next(self._lines, None)
        if self._next is not None and self._next.frame == frame.index:
            return self._next
        self._missing.append(frame.index)
        return Poses.empty(frame.index, frame.time, len(self.skeleton))

    def close(self) -> None:
        """Warns of frames that the results lack: they are of another clip, or not of all of it."""
        if self._missing:
            LOG.warning(
                "%s lacks %d of the %d frames, the first of them frame %d; nobody is drawn there",
                self._path,
                len(self._missing),
                self._steps,
                self._missing[0],
            )
