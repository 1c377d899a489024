"""OpenPose JSON: a folder with one file a frame, joints in BODY_25 order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....errors import DataError, SinkError, write_error
from ....poses import Poses
from ..base import Target
from .jsonl import action_json

if TYPE_CHECKING:
    from ....skeleton import Skeleton
    from ...video.frame import Frame
    from ..base import Picture, Run

BODY_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist",
    "left_shoulder", "left_elbow", "left_wrist", "pelvis",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
    "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
MIDDLES = {
    "neck": ("left_shoulder", "right_shoulder"),
    "pelvis": ("left_hip", "right_hip"),
}
"""Joints of BODY_25 that stand half-way between two others."""
EMPTY_PARTS = (
    "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d",
    "pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d",
)  # fmt: skip


def to_body25(poses: Poses, skeleton: Skeleton) -> NDArray[np.float64]:
    """(N, 25, 3) x, y, score; zeros for the joints that the skeleton does not have.

    Neck and pelvis are the middle of the shoulders and of the hips, with the lower score of
    the two, where the skeleton has none of its own.
    """
    ours = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2).astype(float)
    body = np.zeros((len(poses), len(BODY_25), 3))
    for j, joint in enumerate(BODY_25):
        if joint in skeleton.joints:
            body[:, j] = ours[:, skeleton.index(joint)]
        elif all(side in skeleton.joints for side in MIDDLES.get(joint, ("",))):
            left, right = (ours[:, skeleton.index(side)] for side in MIDDLES[joint])
            body[:, j] = (left + right) / 2
            body[:, j, 2] = np.minimum(left[:, 2], right[:, 2])
    return body


class OpenPose:
    """Writes ``NAME_000000000012_keypoints.json`` for each frame into a folder."""

    def __init__(self, target: Target, run: Run) -> None:
        self._folder = Path(target.path)
        self._skeleton = run.skeleton
        self._stem = re.sub(r"[^\w-]+", "_", Path(run.source.name).stem).strip("_-") or "frame"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Not by a glob alone: a_b's files begin like a's.
            own = re.compile(re.escape(self._stem) + r"_\d{12}_keypoints\.json")
            for old in self._folder.glob("*_keypoints.json"):
                if own.fullmatch(old.name):
                    old.unlink()
        except OSError as error:
            raise write_error(self._folder, error) from None

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Writes one frame's file."""
        path = self._folder / f"{self._stem}_{poses.frame:012d}_keypoints.json"
        text = json.dumps(self._content(poses), separators=(",", ":"))
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            path.unlink(missing_ok=True)
            trouble = write_error(path, error)
            raise SinkError(f"{trouble}; what was written so far is good") from None
        return True

    def close(self, *, complete: bool) -> None:
        """Nothing is left to do."""

    def _content(self, poses: Poses) -> dict[str, Any]:
        body = to_body25(poses, self._skeleton)
        body[..., :2] = body[..., :2].round(2)
        body[..., 2] = body[..., 2].round(4)
        people = []
        for i in range(len(poses)):
            person: dict[str, Any] = {"person_id": [int(poses.ids[i])]}
            person["pose_keypoints_2d"] = body[i].ravel().tolist()
            person |= {part: [] for part in EMPTY_PARTS}
            if poses.actions is not None:
                person["action"] = action_json(poses.actions[i])
            people.append(person)
        return {"version": 1.3, "time": round(poses.time, 6), "people": people}


def read_openpose(
    folder: str | Path,
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
    """For each frame its number, the ids (N,) and the joints (N, 25, 3) in BODY_25 order."""
    files = sorted(Path(folder).glob("*_keypoints.json"))
    if not files:
        raise DataError(f"{folder} holds no OpenPose results (*_keypoints.json)")
    for path in files:
        people = json.loads(path.read_text(encoding="utf-8"))["people"]
        ids = np.array([person["person_id"][0] for person in people], np.int64)
        joints = np.array([person["pose_keypoints_2d"] for person in people], np.float32)
        yield int(path.stem.split("_")[-2]), ids, joints.reshape(len(people), len(BODY_25), 3)
