"""A made MPII in both of its layouts: the official converted JSON files and the release .mat."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

JOINTS = 16
PEOPLE = 6


def write_mini_mpii(folder: Path) -> np.ndarray:
    """Writes ``annot/{train,valid}.json``, ``annot/gt_valid.mat``, ``release.mat`` and
    ``images/``; returns the joints (6, 16, 3) as x, y, visible, counted from 1."""
    rng = np.random.default_rng(0)
    (folder / "annot").mkdir(parents=True)
    (folder / "images").mkdir()
    joints = np.zeros((PEOPLE, JOINTS, 3))
    joints[..., 0] = rng.uniform(60, 200, (PEOPLE, JOINTS))
    joints[..., 1] = rng.uniform(40, 220, (PEOPLE, JOINTS))
    joints[..., 2] = 1
    joints[0, 6] = 0  # an unlabelled pelvis
    heads = np.stack([[100.0 + i, 30, 130 + i, 70] for i in range(PEOPLE)])
    for number in range(PEOPLE):
        picture = rng.integers(0, 255, (256, 256, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number:09d}.jpg"), picture)
    entries = [
        {
            "joints_vis": joints[i, :, 2].astype(int).tolist(),
            "joints": joints[i, :, :2].tolist(),
            "image": f"{i:09d}.jpg",
            "scale": 1.0,
            "center": [128.0, 128.0],
        }
        for i in range(PEOPLE)
    ]
    for name in ("train", "valid"):
        (folder / "annot" / f"{name}.json").write_text(json.dumps(entries))
    boxes = heads.reshape(PEOPLE, 2, 2).transpose(1, 2, 0)
    savemat(folder / "annot" / "gt_valid.mat", {"headboxes_src": boxes})
    savemat(folder / "release.mat", {"RELEASE": _release(joints, heads)})
    return joints


def struct(**fields: object) -> np.ndarray:
    """A MATLAB structure as `savemat` takes it."""
    record = np.empty((1, 1), dtype=[(name, object) for name in fields])
    record[0, 0] = tuple(fields.values())
    return record


def _row(structs: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(structs, axis=1)


def _release(joints: np.ndarray, heads: np.ndarray) -> np.ndarray:
    photos = []
    for number, (person, head) in enumerate(zip(joints, heads, strict=True)):
        points = _row(
            [
                struct(x=float(x), y=float(y), id=joint, is_visible=1)
                for joint, (x, y, visible) in enumerate(person)
                if visible
            ]
        )
        rect = struct(
            x1=head[0], y1=head[1], x2=head[2], y2=head[3], annopoints=struct(point=points),
            scale=1.0, objpos=struct(x=128.0, y=128.0),
        )  # fmt: skip
        photos.append(struct(image=struct(name=f"{number:09d}.jpg"), annorect=rect))
    # A test photo: nobody's joints are public, and its head box has no further fields.
    test = struct(image=struct(name="test.jpg"), annorect=struct(x1=1.0))
    used = np.array([[1] * len(photos) + [0]])
    return struct(annolist=_row([*photos, test]), img_train=used)
