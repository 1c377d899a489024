"""A made set: stick people on plain grounds, drawn so that a small network can learn them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

JOINTS = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
COLOURS = ((255, 230, 0), (0, 90, 255), (255, 60, 0), (0, 200, 220), (220, 0, 200))
SIDE = 96


def write_set(folder: Path, name: str, count: int, seed: int) -> None:
    """Writes ``name.json`` and its photos into ``folder``."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        file = f"{name}_{number:03d}.png"
        joints = _joints(rng)
        ground = rng.integers(60, 160, 3)
        picture = np.clip(ground + rng.normal(0, 8, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        middle = joints[1:].mean(axis=0)
        for joint in joints:
            cv2.line(picture, _place(middle), _place(joint), (230, 230, 230), 2)
        for joint, colour in zip(joints, COLOURS, strict=True):
            cv2.circle(picture, _place(joint), 5, colour, -1, cv2.LINE_AA)
        cv2.imwrite(str(folder / "images" / file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        visible = np.full(len(JOINTS), 2)
        visible[rng.integers(len(JOINTS))] = 0 if rng.random() < 0.3 else 2
        keypoints = np.concatenate([joints, visible[:, None]], axis=1)
        keypoints[visible == 0] = 0
        low, high = joints.min(axis=0) - 6, joints.max(axis=0) + 6
        images.append({"id": number, "file_name": file, "width": SIDE, "height": SIDE})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [*low, *(high - low)],
                "area": float((high - low).prod()),
                "num_keypoints": int((visible > 0).sum()),
                "keypoints": keypoints.round(2).ravel().tolist(),
            }
        )
    category = {
        "id": 1,
        "name": "stick",
        "keypoints": list(JOINTS),
        "skeleton": [[1, 2], [1, 3], [2, 4], [3, 5]],
        "sigmas": [0.1] * len(JOINTS),
    }
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / f"{name}.json").write_text(json.dumps(content))


def _joints(rng: np.random.Generator) -> np.ndarray:
    """A head, hands and feet about the middle, (5, 2)."""
    rest = np.array([[0, -28], [-18, -8], [18, -8], [-10, 26], [10, 26]], float)
    turn = np.deg2rad(rng.uniform(-30, 30))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return rest @ rotation.T + SIDE / 2 + rng.normal(0, 3, (5, 2))


def _place(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
