"""From any skeleton to the 13 joints that the action network knows."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..skeleton import ACTION13, Skeleton
from ..types import Float32Array

# Where a skeleton has no joint of the same name, the action joint is the mean of these.
# The head of Penn Action is the middle of the head, which is where the means lie.
STAND_INS: dict[str, tuple[tuple[str, ...], ...]] = {
    "head": (
        ("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
        ("upper_neck", "head_top"),
        ("neck", "head_top"),
    ),
}
MIN_JOINTS = 6


class Bridge:
    """Derives action13 joints from the joints of ``skeleton``.

    Joints that the skeleton lacks stay masked (score 0). ModelError if fewer than
    `MIN_JOINTS` of the 13 can be derived.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.parts = tuple(_sources(name, skeleton) for name in ACTION13.joints)
        found = sum(bool(part) for part in self.parts)
        if found < MIN_JOINTS:
            raise ModelError(
                f"skeleton '{skeleton.name}' gives {found} of the 13 action joints; "
                f"at least {MIN_JOINTS} are needed: use a coco17 or mpii16 pose model with --action"
            )
        self._means = [(j, list(p)) for j, p in enumerate(self.parts) if len(p) > 1]
        singles = [(j, p[0]) for j, p in enumerate(self.parts) if len(p) == 1]
        self._to = [j for j, _ in singles]
        self._from = [k for _, k in singles]

    def __call__(
        self, keypoints: Float32Array, scores: Float32Array, min_score: float = 0.0
    ) -> Float32Array:
        """Keypoints (..., K, 2) and scores (..., K) to joints (..., 13, 3): x, y, score.

        A mean is taken over the source joints whose score exceeds ``min_score``; its score
        is their mean score. A joint at or below ``min_score`` becomes (0, 0, 0).
        """
        seen = scores > min_score
        out = np.zeros((*scores.shape[:-1], len(ACTION13), 3), np.float32)
        out[..., self._to, :2] = keypoints[..., self._from, :]
        out[..., self._to, 2] = np.where(seen, scores, 0.0)[..., self._from]
        for joint, sources in self._means:
            weight = seen[..., sources].astype(np.float32)
            count = np.maximum(weight.sum(-1), 1.0)
            out[..., joint, :2] = (keypoints[..., sources, :] * weight[..., None]).sum(-2) / count[
                ..., None
            ]
            out[..., joint, 2] = (scores[..., sources] * weight).sum(-1) / count
        out[..., :2] *= out[..., 2:] > 0
        return out


def _sources(name: str, skeleton: Skeleton) -> tuple[int, ...]:
    if name in skeleton.joints:
        return (skeleton.index(name),)
    best: tuple[int, ...] = ()
    for choice in STAND_INS.get(name, ()):
        present = tuple(skeleton.index(joint) for joint in choice if joint in skeleton.joints)
        # One end of the neck alone is no stand-in for the middle of the head.
        whole = len(present) == len(choice) or "nose" in choice
        if whole and len(present) > len(best):
            best = present
    return best
