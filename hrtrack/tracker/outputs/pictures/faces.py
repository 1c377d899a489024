"""Faces made unrecognisable."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ....poses import Poses
from ....skeleton import Skeleton

WORDS = ("nose", "eye", "ear", "face", "head", "neck")
SEEN = 0.1
"""Joints of the head count from this score: it is better to blur too much than too little."""
LEAST = 0.075
"""A head's radius is at least this share of the longer side of the person's box: a head is about an
eighth of a standing body."""
GROWN = 1.5
"""How far the face reaches beyond its joints."""
CELLS = 5
"""What is left of a head: so many cells across."""


def blur_faces(image_HW3: NDArray[np.uint8], poses: Poses, skeleton: Skeleton) -> None:
    """Blurs the heads of all people, in place.

    Where a person's head is not seen, the upper fifth of the box is blurred instead. People who are
    not among ``poses`` stay as they are: nobody may rely on it where the tracker misses someone.
    """
    head = [i for i, name in enumerate(skeleton.joints) if any(word in name for word in WORDS)]
    height, width = image_HW3.shape[:2]
    for box, points, scores in zip(poses.boxes, poses.keypoints, poses.scores, strict=True):
        sides = box[2:] - box[:2]
        seen = [joint for joint in head if scores[joint] >= SEEN]
        if seen:
            low, high = points[seen].min(axis=0), points[seen].max(axis=0)
            centre = (low + high) / 2
            reach = max(GROWN * float((high - low).max()) / 2, LEAST * float(sides.max()))
            corners = np.concatenate([centre - reach, centre + reach])
        else:
            corners = np.array([box[0], box[1], box[2], box[1] + sides[1] / 5])
        corners = np.clip(corners, 0, (width, height, width, height))
        x0, y0 = np.floor(corners[:2]).astype(int).tolist()
        x1, y1 = np.ceil(corners[2:]).astype(int).tolist()
        if x1 <= x0 or y1 <= y0:
            continue
        patch = image_HW3[y0:y1, x0:x1]
        cells = cv2.resize(patch, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
        patch[...] = cv2.resize(cells, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
