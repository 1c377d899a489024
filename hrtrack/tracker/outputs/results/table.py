"""CSV: one row a person, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import DataError, one_line
from ....poses import Action, Poses
from ....skeleton import Skeleton, with_joints
from ..base import LineFile, Target

if TYPE_CHECKING:
    from ...video.frame import Frame
    from ..base import Picture, Run

PERSON = ("frame", "time", "id", "score", "x0", "y0", "x1", "y1")
ACTION = ("action", "action_score")
SOURCE = "source"
"""The first column in a table of several clips (``several.py``)."""
ESTIMATED = "estimated"
"""The last column where not everybody is estimated in every frame (``--target-fps``): 1 or 0."""


def columns(joints: tuple[str, ...]) -> list[str]:
    """The header: the person, three columns a joint, the action."""
    points = (f"{joint}_{part}" for joint in joints for part in ("x", "y", "score"))
    return [*PERSON, *points, *ACTION]


class Csv:
    """Writes a header, then a row for every person of every frame."""

    def __init__(self, target: Target, run: Run) -> None:
        self._file = LineFile(target)
        self._budget = run.budget
        self._first = [target.part_of.source] if target.part_of else []
        header = [SOURCE] * len(self._first) + columns(run.skeleton.joints)
        header += [ESTIMATED] * run.budget
        self._file.write(_lines([header]))

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Writes one frame's people; a frame with nobody in it has no row."""
        rows = [self._first + _row(poses, i) for i in range(len(poses))]
        if self._budget:
            rows = [[*r, str(int(e))] for r, e in zip(rows, poses.estimated, strict=True)]
        return self._file.write(_lines(rows))

    def close(self, *, complete: bool) -> None:
        """Closes the file."""
        self._file.close()


def read_csv(path: str | Path, source: str | None = None) -> Iterator[Poses]:
    """The frames of a CSV results file, of one clip if ``source`` names it; frames with nobody
    in them are not in it.

    The header names the joints. DataError names the line that is no person's row.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, None) or []
        several, budget = header[:1] == [SOURCE], header[-1:] == [ESTIMATED]
        if several:
            del header[0]
        if budget:
            del header[-1]
        parts = header[len(PERSON) : -len(ACTION)]
        joints = tuple(part.removesuffix("_x") for part in parts[::3])
        if not joints or header != columns(joints):
            raise DataError(f"{path} does not begin with the columns {', '.join(PERSON)}, ...")
        skeleton = with_joints(joints)
        checked = _checked(path, rows, len(header), several, budget)
        wanted = (row for row in checked if source is None or row[-1] == source)
        for (frame, _), group in groupby(wanted, key=lambda row: (row[0], row[-1])):
            yield _people(frame, list(group), skeleton)


def sources(path: str | Path) -> Iterator[str]:
    """The clips of a table of several, in order, each at least once; none in another file."""
    for poses in read_csv(path):
        if poses.source is not None:
            yield poses.source


def join(parts: Sequence[Path], path: Path) -> None:
    """Writes the rows of several clips' parts into one file, sorted by clip."""
    headers = {}
    for part in parts:
        with open(part, encoding="utf-8", newline="") as file:
            headers[part] = file.readline()
    whole = max(headers.values(), key=len)
    with open(path, "w", encoding="utf-8", newline="") as joined:
        joined.write(whole)
        for part in sorted(parts, key=lambda part: next(sources(part), "")):
            # Where somebody was not estimated, there is one more column.
            more = "" if headers[part] == whole else ",1"
            with open(part, encoding="utf-8", newline="") as file:
                next(file, None)
                for line in file:
                    if line.endswith("\n"):  # else its process was killed there
                        joined.write(f"{line[:-1]}{more}\n" if more else line)


def take_apart(
    path: str | Path, target: Callable[[str], Path | None], empty: Iterable[str]
) -> None:
    """Writes each clip's rows of a table to the file that ``target`` names, unless it is None."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        for source, group in groupby(rows, key=itemgetter(0)):
            if (place := target(source)) is not None:
                with open(place, "w", encoding="utf-8", newline="") as part:
                    csv.writer(part, lineterminator="\n").writerows(chain([header], group))
        for source in empty:
            if (place := target(source)) is not None:
                place.write_text(_lines([header]), encoding="utf-8")


_Row = tuple[int, float, int, list[float], Action | None, bool, str | None]


def _checked(
    path: str | Path, rows: Any, width: int, several: bool, budget: bool
) -> Iterator[_Row]:
    """Frame, time, identity, the other numbers, the action, ``estimated`` and the clip of each
    row."""
    for row in rows:
        try:
            fields = several + width + budget
            if len(row) != fields:
                raise ValueError(f"it has {len(row)} fields; {fields} were expected")
            source = row.pop(0) if several else None
            estimated = not budget or row.pop() != "0"
            action = Action(row[-2], float(row[-1])) if row[-2] else None
            numbers = [float(field) for field in row[3:-2]]
            yield int(row[0]), float(row[1]), int(row[2]), numbers, action, estimated, source
        except ValueError as error:
            where = f"line {rows.line_num} of {path}"
            raise DataError(f"{where} is not a person's row: {one_line(error)}") from None


def _lines(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _row(poses: Poses, i: int) -> list[str]:
    row = [str(poses.frame), f"{poses.time:.6f}", str(int(poses.ids[i]))]
    row += [f"{poses.person_scores[i]:.4f}", *(f"{v:.2f}" for v in poses.boxes[i].tolist())]
    for (x, y), score in zip(poses.keypoints[i].tolist(), poses.scores[i].tolist(), strict=True):
        row += [f"{x:.2f}", f"{y:.2f}", f"{score:.4f}"]
    action = poses.actions[i] if poses.actions is not None else None
    return [*row, action.label, f"{action.score:.4f}"] if action else [*row, "", ""]


def _people(frame: int, rows: list[_Row], skeleton: Skeleton) -> Poses:
    numbers = np.array([row[3] for row in rows], np.float32)
    points = numbers[:, 5:].reshape(len(rows), -1, 3)
    actions = tuple(row[4] for row in rows)
    return Poses(
        frame,
        rows[0][1],
        numbers[:, 1:5].copy(),
        numbers[:, 0].copy(),
        points[..., :2].copy(),
        points[..., 2].copy(),
        np.array([row[2] for row in rows], np.int64),
        actions if any(actions) else None,
        skeleton,
        np.array([row[5] for row in rows], bool),
        rows[0][-1],
    )
