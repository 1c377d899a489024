"""COCO keypoint results, as `pycocotools` loads them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import DataError, one_line, write_error
from ....poses import Poses, action_from_dict, action_to_dict, carried_entry, estimated_of
from ..base import LineFile, Target
from .openpose import spanning_boxes

if TYPE_CHECKING:
    from ...video.frame import Frame
    from ..base import Picture, Run

PERSON = 1
"""COCO's category number of a person."""


class Coco:
    """Writes a list of ``{"image_id", "category_id", "keypoints", "score", "bbox", ...}``.

    ``image_id`` is the number of the frame, or the number that a picture's file name is (as in
    COCO's own sets). ``time``, ``track_id``, ``estimated`` and ``action`` are our additions.
    """

    def __init__(self, target: Target, run: Run) -> None:
        self._target = target
        self._file = LineFile(
            target if target.to_stdout else replace(target, path=str(target.part))
        )
        stem = Path(run.source.name).stem
        self._image = int(stem) if run.source.kind == "image" and stem.isdecimal() else None
        self._between = "[\n"

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Writes one frame's people."""
        image = poses.frame if self._image is None else self._image
        go_on = True
        for i in range(len(poses)):
            entry = json.dumps(_entry(poses, i, image), separators=(",", ":"))
            go_on = self._file.write(self._between + entry)
            self._between = ",\n"
        return go_on

    def close(self, *, complete: bool) -> None:
        """Closes the list and gives the file its name."""
        empty = self._between == "[\n"
        try:
            self._file.write("[]\n" if empty else "\n]\n")
        finally:
            self._file.close()
        if not self._target.to_stdout:
            try:
                self._target.part.replace(self._target.path)
            except OSError as error:
                raise write_error(self._target.path, error) from None


def read_coco(path: str | Path) -> Iterator[Poses]:
    """The frames of a COCO results file in order, ``image_id`` as the frame's number.

    The time is NaN and an identity -1 where the file does not tell. People without a ``bbox`` get
    the box that their joints span. DataError for a file that holds no list of people.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = sorted(entries, key=lambda entry: int(entry["image_id"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise DataError(f"cannot read the COCO results {path}: {reason}") from None
    for image, group in groupby(entries, key=lambda entry: int(entry["image_id"])):
        people = list(group)
        try:
            yield _people(image, people)
        except (ValueError, LookupError, TypeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
            raise DataError(f"{path} does not hold people for image {image}: {reason}") from None


def _people(image: int, people: list[dict[str, Any]]) -> Poses:
    points = np.array([p.get("keypoints", []) for p in people], np.float32)
    points = points.reshape(len(people), points.shape[1] // 3, 3)
    boxes = spanning_boxes(points)
    for row, person in enumerate(people):
        if "bbox" in person:
            left, top, width, height = person["bbox"]
            boxes[row] = left, top, left + width, top + height
    actions = tuple(action_from_dict(p.get("action")) for p in people)
    return Poses(
        image,
        float(people[0].get("time", math.nan)),
        boxes,
        np.array([p["score"] for p in people], np.float32),
        points[..., :2].copy(),
        points[..., 2].copy(),
        np.array([p.get("track_id", -1) for p in people], np.int64),
        actions if any(actions) else None,
        estimated=estimated_of(people),
    )


def _entry(poses: Poses, i: int, image: int) -> dict[str, Any]:
    x0, y0, x1, y1 = poses.boxes[i].astype(float).tolist()
    points = np.round(poses.keypoints[i].astype(float), 2)
    scores = np.round(poses.scores[i].astype(float), 4)
    entry = {
        "image_id": image,
        "category_id": PERSON,
        "keypoints": np.concatenate([points, scores[:, None]], axis=1).ravel().tolist(),
        "score": round(float(poses.person_scores[i]), 4),
        "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
        "track_id": int(poses.ids[i]),
        "time": round(poses.time, 6),
        **carried_entry(poses, i),
    }
    if poses.actions is not None:
        entry["action"] = action_to_dict(poses.actions[i])
    return entry
