"""JSON lines: one object a frame, the project's own format, written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import DataError, ModelError, one_line
from ....poses import Poses, action_from_dict, estimated_of
from ....skeleton import NAMES, by_name
from ....types import Float32Array
from ..base import LineFile, Target

if TYPE_CHECKING:
    from ...video.frame import Frame
    from ..base import Picture, Run


class JsonLines:
    """Writes ``{"frame":12,"time":0.24,"skeleton":"coco17","people":[...]}`` a line."""

    def __init__(self, target: Target, run: Run) -> None:
        self._file = LineFile(target)
        self._skeleton = run.skeleton.name

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Writes one frame; False when the reader of a pipe has gone."""
        values = poses.to_dict() | {"skeleton": self._skeleton}
        line = json.dumps(values, separators=(",", ":"))
        return self._file.write(line + "\n")

    def close(self, *, complete: bool) -> None:
        """Closes the file."""
        self._file.close()


def read_jsonl(path: str | Path) -> Iterator[Poses]:
    """The frames of a results file, in its order.

    A last line that is cut off (by a run that was killed) is left out. DataError names the line
    that is not a frame's results or is of another skeleton than the first, or the file that
    cannot be read. The poses know the names of their joints where the skeleton is a built-in one.
    """
    skeleton, joints = None, 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                    skeleton = skeleton or value["skeleton"]
                    joints = joints or _joints(value)
                    poses = _from_json(value, skeleton, joints)
                except (ValueError, LookupError, TypeError, OverflowError, ModelError) as error:
                    if isinstance(error, json.JSONDecodeError) and not line.endswith("\n"):
                        return
                    reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
                    what = f"line {number} of {path} is not a frame's results"
                    raise DataError(f"{what}: {reason}") from None
                yield poses
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def skeleton_of(path: str | Path) -> str:
    """The name of the skeleton that a results file was written with; DataError if none."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return str(json.loads(file.readline())["skeleton"])
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not begin with a frame's results ({error})") from None


def _unreadable(path: str | Path, error: OSError | UnicodeDecodeError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"no such file: {path}")
    return DataError(f"cannot read the results {path}: {getattr(error, 'strerror', error)}")


def _joints(value: dict[str, Any]) -> int:
    """How many joints people have; 0 if nobody tells of a skeleton of the user's own."""
    try:
        return len(by_name(value["skeleton"]))
    except ModelError:
        return len(value["people"][0]["keypoints"]) if value["people"] else 0


def _from_json(value: dict[str, Any], skeleton: str, joints: int) -> Poses:
    if value["skeleton"] != skeleton:
        raise ValueError(f"its skeleton is {value['skeleton']}, the first line's is {skeleton}")
    people = value["people"]
    frame, time = int(value["frame"]), float(value["time"])
    if not math.isfinite(time):
        raise ValueError(f"its time is {time}")
    if not people:
        return Poses.empty(frame, time, joints, by_name(skeleton) if skeleton in NAMES else None)
    keypoints = _numbers(people, "keypoints")
    expected = (len(people), joints, 3)
    if keypoints.shape != expected:
        raise ValueError(
            f"keypoints has shape {keypoints.shape}; {expected} was expected for {skeleton}"
        )
    actions = tuple(action_from_dict(person.get("action")) for person in people)
    return Poses(
        frame,
        time,
        _numbers(people, "box"),
        _numbers(people, "score"),
        keypoints[..., :2].copy(),
        keypoints[..., 2].copy(),
        np.array([person["id"] for person in people], np.int64),
        actions if any(action is not None for action in actions) else None,
        by_name(skeleton) if skeleton in NAMES else None,
        estimated_of(people),
    )


def _numbers(people: list[dict[str, Any]], name: str) -> Float32Array:
    rows = [person[name] for person in people]
    try:
        with np.errstate(over="ignore"):
            found = np.array(rows, np.float32)
    except (ValueError, TypeError):
        raise ValueError(f"{name} does not hold numbers, as many for everyone") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds a number that is not finite")
    return found
