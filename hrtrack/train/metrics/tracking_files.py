"""Tracks on disk: truth from PoseTrack JSON or MOT text, results from JSONL or MOT text."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...skeleton import BUILT_IN
from .tracking import Frame, compare_boxes, score, score_joints

SEEN = 0.2
"""Joints of the results with a lower score count as not found."""
HEAD_SHARE = 0.6
"""PoseTrack's head size: this share of the diagonal of the head's box."""
PEDESTRIAN = (-1, 1)
"""MOTChallenge classes that are people on their own feet; -1 stands for none given."""


@dataclass(frozen=True)
class Clip:
    """The labelled frames of a clip by their index from 0, and the names of the joints, if any."""

    frames: dict[int, Frame]
    joints: tuple[str, ...] = ()


def evaluate_files(truth: Path, results: Path) -> dict[str, float | int]:
    """MOTA, IDF1, HOTA and their counts, and MOTA of every joint that both files know.

    Args:
        truth: PoseTrack JSON (``images`` and ``annotations`` with ``track_id``) or MOTChallenge
            text.
        results: hrtrack's JSONL or MOT text of the same clip; frames that the truth does not
            label do not count.

    Raises:
        DataError: a file is missing or of another kind.
    """
    wanted, given = read_truth(truth), read_results(results)
    order = sorted(wanted.frames)
    if not order:
        raise DataError(f"{truth} labels no frame")
    mine = [wanted.frames[index] for index in order]
    nobody = _frame([], [], len(given.joints))
    theirs = [given.frames.get(index, nobody) for index in order]
    total = score([compare_boxes(mine, theirs)])
    found: dict[str, float | int] = {
        "MOTA": total.mota,
        "IDF1": total.idf1,
        "HOTA": total.hota,
        "ID switches": total.switches,
        "fragmentations": total.fragmentations,
        "misses": total.misses,
        "false positives": total.false_positives,
        "frames": total.frames,
    }
    common = [name for name in wanted.joints if name in given.joints]
    if common:
        a = [_only(frame, [wanted.joints.index(name) for name in common]) for frame in mine]
        b = [_only(frame, [given.joints.index(name) for name in common]) for frame in theirs]
        for name, value in score_joints([(a, b)], common).items():
            found[f"MOTA {name}"] = value
    return found


def read_truth(path: Path) -> Clip:
    """The labels of one clip, PoseTrack JSON or MOT text by the file's suffix."""
    return _read_posetrack(path) if path.suffix == ".json" else _read_mot(path, truth=True)


def read_results(path: Path) -> Clip:
    """The tracks of one clip, hrtrack's JSONL or MOT text by the file's suffix."""
    return _read_jsonl(path) if path.suffix == ".jsonl" else _read_mot(path, truth=False)


def _read_posetrack(path: Path) -> Clip:
    try:
        data = json.loads(_text(path))
        images = data["images"]
        names = tuple(data["categories"][0].get("keypoints", ()))
        people: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for person in data["annotations"]:
            people[person["image_id"]].append(person)
        images.sort(key=lambda image: (image.get("frame_id", 0), image.get("file_name", "")))
        frames = {
            index: _posetrack_frame(people[image["id"]], len(names))
            for index, image in enumerate(images)
            if image.get("is_labeled", True)
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is no PoseTrack JSON with images, annotations and categories: {error!r}"
        ) from None
    return Clip(frames, names)


def _posetrack_frame(people: list[dict[str, Any]], joints: int) -> Frame:
    points = np.array([person["keypoints"] for person in people], np.float64)
    points = points.reshape(len(people), joints, 3)
    boxes, heads = [], []
    for person, joint in zip(people, points, strict=True):
        labelled = joint[joint[:, 2] > 0, :2]
        if person.get("bbox"):
            x, y, width, height = person["bbox"]
            boxes.append([x, y, x + width, y + height])
        elif len(labelled):
            boxes.append([*labelled.min(axis=0), *labelled.max(axis=0)])
        else:
            boxes.append([0.0, 0.0, 0.0, 0.0])
        head = person.get("bbox_head")
        size = (
            np.hypot(head[2], head[3]) if head else 0.25 * np.ptp(labelled, axis=0).max(initial=1)
        )
        heads.append(HEAD_SHARE * float(size))
    frame = _frame([int(person["track_id"]) for person in people], boxes, joints)
    return Frame(
        frame.ids, frame.boxes, points[..., :2], points[..., 2] > 0, np.array(heads, np.float64)
    )


def _read_mot(path: Path, *, truth: bool) -> Clip:
    ids: dict[int, list[int]] = defaultdict(list)
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    last = 0
    for number, line in _lines(path):
        try:
            fields = [float(field) for field in line.replace(" ", ",").split(",")[:8] if field]
            index, person = int(fields[0]) - 1, int(fields[1])
            left, top, width, height = fields[2:6]
        except (ValueError, IndexError):
            raise DataError(
                f"{path}, line {number}: expected frame,id,left,top,width,height,..., "
                f"found '{line[:60]}'"
            ) from None
        last = max(last, index)
        counts = len(fields) < 7 or fields[6] != 0
        if truth and (not counts or (len(fields) > 7 and int(fields[7]) not in PEDESTRIAN)):
            continue
        ids[index].append(person)
        boxes[index].append([left, top, left + width, top + height])
    return Clip({i: _frame(ids.get(i, []), boxes.get(i, []), 0) for i in range(last + 1)})


def _read_jsonl(path: Path) -> Clip:
    frames: dict[int, Frame] = {}
    names: tuple[str, ...] = ()
    for number, line in _lines(path):
        try:
            data = json.loads(line)
            people = data["people"]
            if data["skeleton"] in BUILT_IN:
                names = BUILT_IN[data["skeleton"]].joints
            ids = [int(person["id"]) for person in people]
            frame = _frame(ids, [person["box"] for person in people], len(names))
            if names and people:
                points = np.array([person["keypoints"] for person in people], np.float64)
                frame = Frame(frame.ids, frame.boxes, points[..., :2], points[..., 2] >= SEEN)
            frames[int(data["frame"])] = frame
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}, line {number}: no frame of hrtrack: {error!r}") from None
    return Clip(frames, names)


def _frame(ids: list[int], boxes: list[list[float]], joints: int) -> Frame:
    count = len(ids)
    return Frame(
        np.array(ids, np.int64),
        np.array(boxes, np.float64).reshape(count, 4),
        np.zeros((count, joints, 2)),
        np.zeros((count, joints), bool),
    )


def _only(frame: Frame, joints: list[int]) -> Frame:
    keypoints, seen = frame.keypoints, frame.seen
    assert keypoints is not None
    assert seen is not None
    picked: NDArray[np.intp] = np.array(joints, np.intp)
    return Frame(frame.ids, frame.boxes, keypoints[:, picked], seen[:, picked], frame.heads)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from None
