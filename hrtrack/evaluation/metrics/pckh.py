"""PCKh: the share of joints that lie within a fraction of the head's size.

Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis",
CVPR 2014. As in the official HRNet evaluation a joint is right when its distance is at most
``threshold`` times the head's size, a person's unlabelled joints do not count, the mean is
weighted by the number of labelled joints, and a group of joints (both shoulders, say) is the
plain mean of its joints' shares.

Where this departs from the official code: its ``Mean@0.1`` reads the eleventh step of a
0.01 grid and is therefore PCKh@0.11; here 0.1 means 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...skeleton import Skeleton
from ...types import BoolArray, FloatArray

LIMB_GROUPS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def joint_groups(skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """The rows of a PCKh table: for each group the joints (both sides) it averages.

    ``mean`` comes first and holds every joint that counts: the 12 limb joints, with the head
    top and upper neck where the skeleton has them. Pelvis and thorax do not count, as in the
    official evaluation of MPII.
    """
    groups = {
        name: (skeleton.index(f"left_{name}"), skeleton.index(f"right_{name}"))
        for name in LIMB_GROUPS
        if f"left_{name}" in skeleton.joints and f"right_{name}" in skeleton.joints
    }
    counted = [joint for pair in groups.values() for joint in pair]
    counted += [skeleton.index(n) for n in ("head_top", "upper_neck") if n in skeleton.joints]
    head = {"head": (skeleton.index("head_top"),)} if "head_top" in skeleton.joints else {}
    return {"mean": tuple(sorted(counted)), **head, **groups} if counted else {}


def normalised_errors(
    predicted: FloatArray, labels: FloatArray, head_sizes: FloatArray
) -> FloatArray:
    """Distances (N, K) between (N, K, 2) keypoints in units of the head size (N,)."""
    return np.linalg.norm(predicted - labels, axis=2) / head_sizes[:, None]


def pckh(
    errors: FloatArray,
    labelled: BoolArray,
    groups: Mapping[str, tuple[int, ...]],
    threshold: float = 0.5,
) -> dict[str, float | None]:
    """PCKh in percent for each group.

    Args:
        errors: (N, K) from `normalised_errors`; infinite where a person was not found.
        labelled: (N, K) joints that have a label.
        groups: from `joint_groups`; ``mean`` pools its joints, the others average theirs.
        threshold: fraction of the head's size.

    Returns:
        one number per group, None for a group without any label.
    """
    right = ((errors <= threshold) & labelled).sum(axis=0)
    count = labelled.sum(axis=0)
    return {name: _share(right, count, joints, name == "mean") for name, joints in groups.items()}


def _share(
    right: FloatArray, count: FloatArray, joints: tuple[int, ...], pooled: bool
) -> float | None:
    chosen = [joint for joint in joints if count[joint] > 0]
    if not chosen:
        return None
    if pooled:
        return float(100 * right[chosen].sum() / count[chosen].sum())
    return float(100 * (right[chosen] / count[chosen]).mean())


def bootstrap_mean(
    errors: FloatArray,
    labelled: BoolArray,
    joints: tuple[int, ...],
    threshold: float = 0.5,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the pooled PCKh, people drawn with replacement."""
    counted = labelled[:, joints]
    right = ((errors[:, joints] <= threshold) & counted).sum(axis=1)
    count = counted.sum(axis=1)
    draws = np.random.default_rng(seed).integers(0, len(count), (resamples, len(count)))
    means = 100 * right[draws].sum(axis=1) / np.maximum(count[draws].sum(axis=1), 1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
