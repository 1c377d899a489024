"""OpenPose JSON: a folder with one file a frame, joints in BODY_25 order."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....errors import DataError, SinkError, one_line, write_error
from ....poses import Poses, action_from_dict, action_to_dict, carried_entry, estimated_of
from ....skeleton import COCO17, MPII16, Skeleton
from ....types import Float32Array
from ..base import Target

if TYPE_CHECKING:
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
ALSO_CALLED = {"pelvis": "hip"}
FINGERS = tuple(
    f"{finger}{joint}"
    for finger in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
    for joint in (1, 2, 3, 4)
)
PARTS = {
    "face_keypoints_2d": (*(f"face_{i}" for i in range(68)), "", ""),
    "hand_left_keypoints_2d": ("left_hand_root", *(f"left_{name}" for name in FINGERS)),
    "hand_right_keypoints_2d": ("right_hand_root", *(f"right_{name}" for name in FINGERS)),
}
"""Face and hands in OpenPose's order; the last two of a face are pupils, which nobody has."""
SIGMAS = dict(zip(MPII16.joints, MPII16.sigmas, strict=True))
SIGMAS |= dict(zip(COCO17.joints, COCO17.sigmas, strict=True)) | {"neck": SIGMAS["upper_neck"]}


def _sides(part: str) -> tuple[int, int]:
    return BODY_25.index(f"left_{part}"), BODY_25.index(f"right_{part}")


BODY25 = Skeleton(
    name="body25",
    joints=BODY_25,
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (10, 11),
        (8, 12), (12, 13), (13, 14), (0, 15), (15, 17), (0, 16), (16, 18),
        (14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24),
    ),
    flip_pairs=tuple(
        _sides(joint.removeprefix("left_")) for joint in BODY_25 if joint.startswith("left_")
    ),
    # COCO gives no spread for the joints of the feet; that of the ankles stands for them.
    sigmas=tuple(SIGMAS.get(joint, SIGMAS["left_ankle"]) for joint in BODY_25),
)  # fmt: skip
"""OpenPose's keypoint set, in which its files are read."""
EMPTY_PARTS = (
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
        joint = joint if joint in skeleton.joints else ALSO_CALLED.get(joint, joint)
        if joint in skeleton.joints:
            body[:, j] = ours[:, skeleton.index(joint)]
        elif all(side in skeleton.joints for side in MIDDLES.get(joint, ("",))):
            left, right = (ours[:, skeleton.index(side)] for side in MIDDLES[joint])
            body[:, j] = (left + right) / 2
            body[:, j, 2] = np.minimum(left[:, 2], right[:, 2])
    return body


def to_part(poses: Poses, skeleton: Skeleton, names: Sequence[str]) -> NDArray[np.float64]:
    """(N, J, 3) x, y, score of the joints ``names``; J is 0 if the skeleton has none of them."""
    if not any(name in skeleton.joints for name in names):
        return np.zeros((len(poses), 0, 3))
    part = np.zeros((len(poses), len(names), 3))
    for j, name in enumerate(names):
        if name in skeleton.joints:
            joint = skeleton.index(name)
            part[:, j, :2], part[:, j, 2] = poses.keypoints[:, joint], poses.scores[:, joint]
    return part


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
        parts = {"pose_keypoints_2d": to_body25(poses, self._skeleton)}
        parts |= {name: to_part(poses, self._skeleton, joints) for name, joints in PARTS.items()}
        for joints in parts.values():
            joints[..., :2] = joints[..., :2].round(2)
            joints[..., 2] = joints[..., 2].round(4)
        people = []
        for i in range(len(poses)):
            person: dict[str, Any] = {"person_id": [int(poses.ids[i])]}
            person |= {name: joints[i].ravel().tolist() for name, joints in parts.items()}
            person |= {part: [] for part in EMPTY_PARTS}
            person |= carried_entry(poses, i)
            if poses.actions is not None:
                person["action"] = action_to_dict(poses.actions[i])
            people.append(person)
        return {"version": 1.3, "time": round(poses.time, 6), "people": people}


def read_openpose(folder: str | Path) -> Iterator[Poses]:
    """The frames of a folder of OpenPose results, with the 25 joints of `BODY25`.

    A person's box spans the joints that were found, and the score is the mean of theirs. The time
    is NaN where the file does not tell, as OpenPose's own files do not. DataError for a folder
    without results and for a file that holds something else.
    """
    files = sorted(Path(folder).glob("*_keypoints.json"))
    if not files:
        raise DataError(f"{folder} holds no OpenPose results (*_keypoints.json)")
    for path in files:
        try:
            yield _frame(path, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, LookupError, TypeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
            raise DataError(f"{path} does not hold OpenPose results: {reason}") from None


def _frame(path: Path, content: dict[str, Any]) -> Poses:
    number = int(path.stem.split("_")[-2])
    time = float(content.get("time", math.nan))
    people = content["people"]
    if not people:
        return Poses.empty(number, time, len(BODY_25), BODY25)
    joints = np.array([person["pose_keypoints_2d"] for person in people], np.float32)
    joints = joints.reshape(len(people), len(BODY_25), 3)
    found = joints[..., 2] > 0
    means = joints[..., 2].sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    actions = tuple(action_from_dict(person.get("action")) for person in people)
    return Poses(
        number,
        time,
        spanning_boxes(joints),
        means.astype(np.float32),
        joints[..., :2].copy(),
        joints[..., 2].copy(),
        np.array([person.get("person_id", [-1])[0] for person in people], np.int64),
        actions if any(actions) else None,
        BODY25,
        estimated_of(people),
    )


def spanning_boxes(joints_NK3: Float32Array) -> Float32Array:
    """The boxes (N, 4) around the joints whose score is above 0; zeros where there are none."""
    boxes = np.zeros((len(joints_NK3), 4), np.float32)
    for box, joints in zip(boxes, joints_NK3, strict=True):
        found = joints[joints[:, 2] > 0, :2]
        if len(found):
            box[:2], box[2:] = found.min(axis=0), found.max(axis=0)
    return boxes
