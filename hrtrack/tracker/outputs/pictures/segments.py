"""A long video in pieces, each whole in itself: ``NAME_000.mp4``, ``NAME_001.mp4``..."""

from __future__ import annotations

import itertools
import re
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import SinkError, UsageError, write_error
from ....writable import MARK
from ..base import Target, prepare
from .video import Video

if TYPE_CHECKING:
    from ....poses import Poses
    from ...video.frame import Frame
    from ..base import Picture, Run

SECONDS = {"s": 1, "m": 60, "h": 3600}
BYTES = {"kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a piece ends: after so many ``seconds`` of video, or so many ``bytes``."""

    seconds: float | None = None
    bytes: int | None = None


def parse_limit(text: str) -> Limit:
    """Reads ``90s``, ``10m``, ``1.5h``, ``500MB`` or ``2GB``; UsageError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower())
    value = float(match[1]) if match else 0.0
    unit = match[2] if match else ""
    if value > 0 and unit in SECONDS:
        return Limit(seconds=value * SECONDS[unit])
    if value > 0 and unit in BYTES:
        return Limit(bytes=int(value * BYTES[unit]))
    raise UsageError(f"--segment {text}: a length (90s, 10m, 1h) or a size (500MB, 2GB) is needed")


def piece(path: str | Path, number: int) -> Path:
    """The name of one piece."""
    path = Path(path)
    return path.with_name(f"{path.stem}_{number:03d}{path.suffix}")


def pieces(path: str | Path) -> re.Pattern[str]:
    """What the names of all pieces look like, of unfinished ones too."""
    path = Path(path)
    return re.compile(
        rf"{re.escape(path.stem)}_\d{{3,}}({re.escape(MARK)})?{re.escape(path.suffix)}"
    )


def prepare_pieces(target: Target, *, overwrite: bool) -> None:
    """What `prepare` is for one file: refuses, before any work, what may not be written."""
    path = Path(target.path)
    if not overwrite:
        names = pieces(path)
        taken = sorted(p for p in path.parent.glob("*") if names.fullmatch(p.name))
        if taken:
            raise SinkError(f"{taken[0]} exists already; pass --overwrite to replace it")
    prepare(Target("video", str(piece(path, 0))), overwrite=overwrite)


def remove_pieces(target: Target) -> None:
    """Removes the pieces of an earlier run, which may have been longer: its last ones would seem
    to go on after this one's. Those are the unbroken row from 000 on; other names with a number
    at the end, as ``cam_20240101.mp4``, stay."""
    for number in itertools.count():
        path = piece(target.path, number)
        old = [one for one in (path, Target("video", str(path)).part) if one.exists()]
        if not old:
            return
        for one in old:
            try:
                one.unlink()
            except OSError as error:
                raise write_error(one, error) from None


class SegmentedVideo:
    """Videos one after the other; each begins at 0 and holds its own stretch of the sound."""

    def __init__(self, target: Target, run: Run, limit: Limit, stride: int = 1) -> None:
        self._target, self._run, self._limit, self._stride = target, run, limit, stride
        self._number = 0
        self._began = 0.0
        self._lost_sound = False
        self._part = Path()
        self._now: Video | None = None
        self._ending: threading.Thread | None = None
        self._error: Exception | None = None
        remove_pieces(target)

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Writes the frame into the piece under way, or begins the next one with it."""
        if self._error is not None:
            raise self._error
        if self._now is None or self._is_full(frame):
            self._next(frame)
        assert self._now is not None
        return self._now.write(frame, poses, picture)

    def close(self, *, complete: bool) -> None:
        """Finishes the last piece."""
        try:
            if self._now is not None:
                self._now.close(complete=complete)
        finally:
            if self._ending is not None:
                self._ending.join()
        if self._error is not None:
            raise self._error

    def _is_full(self, frame: Frame) -> bool:
        if self._limit.seconds is not None:
            return frame.time - self._began >= self._limit.seconds - 1e-6
        assert self._limit.bytes is not None
        return self._part.exists() and self._part.stat().st_size >= self._limit.bytes

    def _next(self, frame: Frame) -> None:
        if self._now is not None:
            if self._ending is not None:
                self._ending.join()
            # Giving a piece its index copies it; the run does not wait for that.
            self._ending = threading.Thread(target=self._end, args=(self._now,), name="segment")
            self._ending.start()
        target = Target("video", str(piece(self._target.path, self._number)))
        # Sound that the piece before could not carry over is told once.
        origin, sound = Fraction(frame.time), not self._lost_sound
        self._now = Video(target, self._run, self._stride, origin, sound=sound)
        self._lost_sound |= self._now.lost_sound
        self._number += 1
        self._began, self._part = frame.time, target.part

    def _end(self, video: Video) -> None:
        try:
            video.close(complete=False)
        except Exception as error:
            self._error = error
