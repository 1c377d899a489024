"""Tracks against labels on disk: PoseTrack JSON or MOT text."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..poses import Poses
from .metrics.tracking import Frame, compare_boxes, score, score_joints

SEPARATOR = re.compile(r"\s*,\s*|\s+")
SEEN = 0.2
"""Joints of the results with a lower score count as not found."""
HEAD_SHARE = 0.6
"""PoseTrack's head size: this share of the diagonal of the head's box."""
FRAMES_MOST = 2_000_000
"""Longer than any labelled clip: times or hashes that were taken for frames go beyond."""
POSETRACK_IDS, POSETRACK_FRAMES = 10**9, 10**4
"""PoseTrack's own frame_ids begin there and end in the frame's number, counted from 0."""
PEDESTRIAN = (-1, 1)
"""MOTChallenge classes that are people on their own feet; -1 stands for none given."""


@dataclass(frozen=True)
class Clip:
    """The labelled frames of a clip by their index from 0, and the names of the joints, if any."""

    frames: dict[int, Frame]
    joints: tuple[str, ...] = ()


def evaluate_tracks(truth: Path, results: Iterable[Poses], name: str) -> dict[str, float | int]:
    """MOTA, IDF1, HOTA and their counts, and MOTA of every joint that both files know.

    Args:
        truth: PoseTrack JSON (``images`` and ``annotations`` with ``track_id``) or MOTChallenge
            text.
        results: the poses of the same clip, as `hrtrack.read_results` gives them; frames that
            the truth does not label do not count.
        name: what errors call the results.

    Raises:
        DataError: the truth is missing or of another kind, or the results hold a frame twice, two
            people of one identity in a frame, or a box that is none.
    """
    wanted = read_truth(truth)
    given = _tracks(results, name)
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
    is_json = path.suffix.lower() == ".json"
    read = _read_posetrack(path) if is_json else _read_mot(path)
    last = max(read.frames, default=-1) + 1
    if last > FRAMES_MOST:
        raise DataError(f"{path} counts frames to {last}; no clip has so many")
    if is_json:
        return read
    # A frame in which MOT text names nobody is a labelled frame, too.
    nobody = _frame([], [], 0)
    return Clip({index: read.frames.get(index, nobody) for index in range(last)})


def _tracks(results: Iterable[Poses], name: str) -> Clip:
    """The tracks of one clip, with the joints that the results name."""
    frames: dict[int, Frame] = {}
    names: tuple[str, ...] = ()
    for poses in results:
        where = f"{name}, frame {poses.frame}"
        if poses.source is not None:
            raise DataError(f"{name} holds several clips; give the results of one")
        if poses.frame in frames:
            raise DataError(f"{where} is there already")
        if poses.skeleton is not None and poses.scores.shape[1]:
            names = poses.skeleton.joints
        try:
            ids = _once(poses.ids.tolist())
            if (poses.boxes[:, 2:] < poses.boxes[:, :2]).any():
                raise ValueError("a box has no size")
            boxes = _numbers(poses.boxes, len(ids), 4)
            points = _numbers(poses.keypoints, *poses.keypoints.shape)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        seen = poses.scores >= SEEN
        if not names:  # joints without names are compared with nothing
            points, seen = points[:, :0], seen[:, :0]
        frames[poses.frame] = Frame(np.array(ids, np.int64), boxes, points, seen)
    nobody = _frame([], [], len(names))  # whether or not the file names joints where nobody is
    return Clip(
        {index: frame if len(frame.ids) else nobody for index, frame in frames.items()}, names
    )


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
            for index, image in zip(_places(images), images, strict=True)
            if image.get("is_labeled", True)
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path} is no PoseTrack JSON with images, annotations and categories: {error!r}"
        ) from None
    return Clip(frames, names)


def _places(images: list[dict[str, Any]]) -> list[int]:
    """The index of each image in its clip, from 0, of images in order.

    Where the file lists every frame, an image's place in it; else the number that its file is
    called by, or its ``frame_id``.
    """
    listed = list(range(len(images)))
    if len(images) == images[0].get("nframes"):
        return listed
    stems = [Path(image.get("file_name", "")).stem for image in images]
    if all(stem.isdecimal() for stem in stems):
        ids = [int(stem) for stem in stems]
    elif all("frame_id" in image for image in images):
        ids = [int(image["frame_id"]) for image in images]
    else:
        return listed
    if len(set(ids)) < len(ids) or min(ids) < 0:
        raise ValueError("the numbers of two images are the same, or below 0")
    numbers = [one % POSETRACK_FRAMES if one >= POSETRACK_IDS else one for one in ids]
    # Counted from 1, without a gap.
    return listed if numbers == [number + 1 for number in listed] else numbers


def _numbers(values: Any, *shape: int) -> NDArray[np.float64]:
    """An array of a shape; ValueError for another or for what is no finite number."""
    array = np.array(values, np.float64).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("a number is not finite")
    return array


def _once(ids: list[int]) -> list[int]:
    if len(set(ids)) < len(ids):
        raise ValueError("two people of a frame have one ID")
    return ids


def _posetrack_frame(people: list[dict[str, Any]], joints: int) -> Frame:
    points = _numbers([person["keypoints"] for person in people], len(people), joints, 3)
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
    frame = _frame(_once([int(person["track_id"]) for person in people]), boxes, joints)
    return Frame(
        frame.ids, frame.boxes, points[..., :2], points[..., 2] > 0, np.array(heads, np.float64)
    )


def _read_mot(path: Path) -> Clip:
    ids: dict[int, list[int]] = defaultdict(list)
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for number, line in _lines(path):
        try:
            fields = [float(field) for field in SEPARATOR.split(line.rstrip(" ,"))[:8]]
            left, top, width, height = _numbers(fields, len(fields))[2:6]
            index, person = int(fields[0]) - 1, int(fields[1])
            if index < 0 or index + 1 != fields[0] or person != fields[1]:
                raise ValueError("frames and IDs are whole numbers, frames from 1 on")
            if width < 0 or height < 0:
                raise ValueError("a box has no size")
        except (ValueError, IndexError, OverflowError):
            raise DataError(
                f"{path}, line {number}: expected frame,id,left,top,width,height,... with frames "
                f"counted from 1, found '{line[:60]}'"
            ) from None
        counts = len(fields) < 7 or fields[6] != 0
        ignored = not counts or (len(fields) > 7 and fields[7] not in PEDESTRIAN)
        if ignored:
            ids.setdefault(index, [])  # labelled all the same
            continue
        if person in ids[index]:
            raise DataError(f"{path}, line {number}: {person} is in frame {index + 1} already")
        ids[index].append(person)
        boxes[index].append([left, top, left + width, top + height])
    return Clip({index: _frame(ids[index], boxes[index], 0) for index in ids})


def _frame(ids: list[int], boxes: list[list[float]], joints: int) -> Frame:
    count = len(ids)
    return Frame(
        np.array(ids, np.int64),
        _numbers(boxes, count, 4),
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
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from None
