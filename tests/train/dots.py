"""A made set of coloured dots, a network that sees them, and one that sees nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrtrack.models.info import PoseInfo
from hrtrack.models.pose.decode import decode, strides
from hrtrack.skeleton import Skeleton

JOINTS = ("left_shoulder", "right_shoulder", "left_knee", "right_knee")
DOTS = Skeleton("dots", JOINTS, ((0, 1), (2, 3)), ((0, 1), (2, 3)), (0.08,) * 4)
COLOURS = {"shoulder": (255, 0, 255), "knee": (0, 255, 0)}


class DotNetwork:
    """Finds magenta shoulders and green knees; the one further right in the crop is "left".

    ``unbiased``: its cells lie as UDP has them.
    """

    input_hw = (128, 96)

    def __init__(self, unbiased: bool = False) -> None:
        self.info = PoseInfo(DOTS, (128, 96), unbiased=unbiased)

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        maps = np.stack([self._maps(crop) for crop in crops_NHW3])
        return {"keypoints": decode(maps, unbiased=self.info.unbiased), "heatmaps": maps}

    def _maps(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        v, u = np.mgrid[:32, :24]
        across, down = strides(32, 24, self.info.unbiased)
        maps = np.zeros((4, 32, 24), np.float32)
        for place, colour in ((0, COLOURS["shoulder"]), (2, COLOURS["knee"])):
            near = np.abs(crop.astype(int) - colour).max(axis=2) < 100
            count, _, _, centres = cv2.connectedComponentsWithStats(near.astype(np.uint8))
            for side, (x, y) in enumerate(sorted(centres[1:count].tolist(), reverse=True)[:2]):
                squared = (u - x / across) ** 2 + (v - y / down) ** 2
                maps[place + side] = 0.9 * np.exp(-squared / 8)
        return maps

    def close(self) -> None:
        pass


class CentreNetwork:
    """Puts every joint into the middle of the crop."""

    def __init__(self, skeleton: Skeleton, input_hw: tuple[int, int]) -> None:
        self.input_hw, self.info = input_hw, PoseInfo(skeleton, input_hw)

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        height, width = (side // 4 for side in self.input_hw)
        v, u = np.mgrid[:height, :width]
        one = np.exp(-((u - width / 2) ** 2 + (v - height / 2) ** 2) / 8).astype(np.float32)
        joints = len(self.info.skeleton)
        maps = np.broadcast_to(one, (len(crops_NHW3), joints, height, width)).copy()
        return {"keypoints": decode(maps), "heatmaps": maps}

    def close(self) -> None:
        pass


def draw_person(photo: NDArray[np.uint8], x: int, y: int) -> dict[str, Any]:
    """Dots around (x, y), with the annotation that describes them; head size 20, box 60 x 100."""
    points = [(x + 20, y - 40), (x - 20, y - 40), (x + 15, y + 40), (x - 15, y + 40)]
    for name, (u, v) in zip(JOINTS, points, strict=True):
        cv2.circle(photo, (u, v), 5, COLOURS[name.split("_")[1]], -1)
    return {
        "category_id": 1, "iscrowd": 0, "bbox": [x - 30, y - 50, 60, 100], "area": 3000.0,
        "keypoints": [value for u, v in points for value in (u, v, 2)], "num_keypoints": 4,
        "neck": [x, y - 55, 2], "head_top": [x, y - 75, 2],
    }  # fmt: skip


def write_dots(folder: Path) -> None:
    """Writes ``dots.json`` and two photos of four people and one of a teacher's:

    0 labelled as drawn; 1 with its left knee labelled 30 px lower than drawn; 2 with its right
    shoulder unlabelled; 3 without a head; 4 marked pseudo.
    """
    photos = [np.full((240, 320, 3), 90, np.uint8) for _ in range(2)]
    people = [
        draw_person(photos[0], 70, 120), draw_person(photos[0], 230, 120),
        draw_person(photos[1], 60, 120), draw_person(photos[1], 160, 110),
        draw_person(photos[1], 260, 120),
    ]  # fmt: skip
    people[1]["keypoints"][3 * 2 + 1] += 30
    people[2]["keypoints"][3 * 1 + 2] = 0
    del people[3]["neck"]
    people[4]["pseudo"] = True
    for number, person in enumerate(people):
        person.update(id=number, image_id=number // 2 if number < 4 else 1)
    for index, photo in enumerate(photos):
        cv2.imwrite(str(folder / f"{index}.png"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 320, "height": 240} for i in (0, 1)],
        "annotations": people,
        "categories": [{"id": 1, "name": "dots", "keypoints": list(JOINTS), "skeleton": []}],
    }
    (folder / "dots.json").write_text(json.dumps(content))
