"""MOTChallenge text: boxes with identities, for tracking metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....errors import DataError
from ....poses import Action, Poses
from ..base import LineFile, Target

if TYPE_CHECKING:
    from ...video.frame import Frame
    from ..base import Picture, Run


@dataclass(frozen=True, slots=True)
class MotRow:
    """One box: ``frame`` counts from 0 here and from 1 in the file; ``box`` is x0, y0, x1, y1."""

    frame: int
    id: int
    box: tuple[float, float, float, float]
    score: float
    action: Action | None = None


class Mot:
    """Writes ``frame,id,left,top,width,height,score,-1,-1,-1`` a person, frames from 1.

    Where actions were asked for, the label and its score follow as two more fields.
    """

    def __init__(self, target: Target, run: Run) -> None:
        self._file = LineFile(target)

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Writes one frame's boxes."""
        return self._file.write("".join(_line(poses, i) for i in range(len(poses))))

    def close(self, *, complete: bool) -> None:
        """Closes the file."""
        self._file.close()


def read_mot(path: str | Path) -> Iterator[MotRow]:
    """The boxes of a MOTChallenge file, whose fields commas or blanks part; a box without a score
    has 1. DataError names a line that is not a box."""
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            fields = line.strip().split(",") if "," in line else line.split()
            try:
                left, top, width, height, score = (*map(float, fields[2:6]), *_score(fields))
                labelled = len(fields) > 11 and fields[10]
                action = Action(fields[10], float(fields[11])) if labelled else None
                box = (left, top, left + width, top + height)
                yield MotRow(_whole(fields[0]) - 1, _whole(fields[1]), box, score, action)
            except (ValueError, IndexError, OverflowError):
                raise DataError(f"line {number} of {path} is not a MOTChallenge box") from None


def _score(fields: list[str]) -> list[float]:
    return [float(fields[6]) if len(fields) > 6 and fields[6].strip() else 1.0]


def _whole(field: str) -> int:
    """A whole number, which other programs may write as 12.0."""
    number = float(field)
    if number != int(number):
        raise ValueError(f"{field} is no whole number")
    return int(number)


def read_mot_frames(path: str | Path) -> Iterator[Poses]:
    """The frames of a MOTChallenge file, in order: boxes, scores and identities, no joints.

    The format knows no time; it is NaN.
    """
    frames: dict[int, list[MotRow]] = {}
    for row in read_mot(path):
        frames.setdefault(row.frame, []).append(row)
    for frame, rows in sorted(frames.items()):
        actions = tuple(row.action for row in rows)
        yield Poses(
            frame,
            math.nan,
            np.array([row.box for row in rows], np.float32),
            np.array([row.score for row in rows], np.float32),
            np.zeros((len(rows), 0, 2), np.float32),
            np.zeros((len(rows), 0), np.float32),
            np.array([row.id for row in rows], np.int64),
            actions if any(actions) else None,
        )


def _line(poses: Poses, i: int) -> str:
    x0, y0, x1, y1 = poses.boxes[i].tolist()
    line = f"{poses.frame + 1},{int(poses.ids[i])},{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f},"
    line += f"{poses.person_scores[i]:.4f},-1,-1,-1"
    if poses.actions is not None:
        action = poses.actions[i]
        line += f",{action.label},{action.score:.4f}" if action else ",,"
    return line + "\n"
