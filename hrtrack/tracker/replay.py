"""Saved results in place of the networks: what `--redraw` draws from."""

from __future__ import annotations

from pathlib import Path

from ..poses import Poses
from ..skeleton import Skeleton, by_name
from .frame import Frame
from .sinks.jsonl import read_jsonl, skeleton_of


class Replay:
    """Gives the people that a JSONL file holds for each frame.

    The file is read along with the video, so its length does not matter. Frames that the
    file does not name have nobody in them.

    Raises:
        DataError: the file cannot be read or is no hrtrack results file.
    """

    def __init__(self, path: str | Path) -> None:
        self.skeleton: Skeleton = by_name(skeleton_of(path))
        self._lines = read_jsonl(path)
        self._next = next(self._lines, None)

    def step(self, frame: Frame) -> Poses:
        """The saved people of ``frame``, found by its index."""
        while self._next is not None and self._next.frame < frame.index:
            self._next = next(self._lines, None)
        if self._next is not None and self._next.frame == frame.index:
            return self._next
        return Poses.empty(frame.index, frame.time, len(self.skeleton))

    def close(self) -> None:
        """Nothing stays open."""
