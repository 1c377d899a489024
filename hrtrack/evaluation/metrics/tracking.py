"""How well identities hold: MOTA, IDF1, HOTA, and MOTA joint by joint.

The counting itself is that of roboflow's `trackers` (which follows TrackEval); this module
says what is compared with what.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import HrtrackError
from ...geometry import iou
from ...types import Float64Array, IntArray


@dataclass(frozen=True)
class Frame:
    """The people of one frame, in truth or as found.

    ``boxes`` (N, 4); ``keypoints`` (N, K, 2) and ``seen`` (N, K) are None where there are
    only boxes. ``heads`` (N,) are the head sizes in pixels of people in the truth.
    """

    ids: IntArray
    boxes: Float64Array
    keypoints: Float64Array | None = None
    seen: NDArray[np.bool_] | None = None
    heads: Float64Array | None = None


@dataclass(frozen=True)
class Comparison:
    """IDs in truth and as found, and how alike their owners are, frame by frame."""

    truth: list[IntArray]
    found: list[IntArray]
    similarity: list[Float64Array]


@dataclass(frozen=True)
class TrackingScores:
    """CLEAR MOT (Bernardin, Stiefelhagen 2008), IDF1 (Ristani et al. 2016) and HOTA (Luiten et
    al. 2021); shares in [0, 1] (MOTA may be negative), counts over all frames."""

    mota: float
    idf1: float
    hota: float
    switches: int
    fragmentations: int
    misses: int
    false_positives: int
    frames: int


def compare_boxes(truth: Iterable[Frame], found: Iterable[Frame]) -> Comparison:
    """Frames compared by the IoU of their boxes."""
    pairs = list(zip(truth, found, strict=True))
    return Comparison(
        [a.ids for a, _ in pairs],
        [b.ids for _, b in pairs],
        [iou(a.boxes, b.boxes).astype(np.float64) for a, b in pairs],
    )


def compare_joint(
    truth: Iterable[Frame], found: Iterable[Frame], joint: int, limit: float = 0.5
) -> Comparison:
    """Frames compared by the distance of one joint, as PoseTrack does.

    A pair counts as alike from 0.5 up, which is a distance of ``limit`` head sizes
    (Andriluka et al., "PoseTrack", CVPR 2018); people whose joint is not seen are left out.
    """
    ids_truth, ids_found, similarity = [], [], []
    for a, b in zip(truth, found, strict=True):
        if a.keypoints is None or a.seen is None or a.heads is None:
            raise ValueError("joints in truth need keypoints, seen and heads")
        if b.keypoints is None or b.seen is None:
            raise ValueError("found joints need keypoints and seen")
        mine, other = a.seen[:, joint], b.seen[:, joint]
        gap = a.keypoints[mine, None, joint] - b.keypoints[None, other, joint]
        far = np.hypot(gap[..., 0], gap[..., 1]) / np.maximum(a.heads[mine, None], 1e-6)
        ids_truth.append(a.ids[mine])
        ids_found.append(b.ids[other])
        similarity.append(np.clip(1.0 - far / (2 * limit), 0.0, 1.0))
    return Comparison(ids_truth, ids_found, similarity)


def score(comparisons: Sequence[Comparison]) -> TrackingScores:
    """The scores of one or more clips together; IDs of different clips are different people.

    Raises:
        HrtrackError: the `trackers` package is missing.
    """
    clear, identity, hota = _trackers()
    joined = _joined(comparisons)
    counts = clear(joined.truth, joined.found, joined.similarity, threshold=0.5)
    people = identity(joined.truth, joined.found, joined.similarity, threshold=0.5)
    higher = hota(joined.truth, joined.found, joined.similarity)
    return TrackingScores(
        mota=float(counts["MOTA"]),
        idf1=float(people["IDF1"]),
        hota=float(higher["HOTA"]),
        switches=int(counts["IDSW"]),
        fragmentations=int(counts["Frag"]),
        misses=int(counts["CLR_FN"]),
        false_positives=int(counts["CLR_FP"]),
        frames=len(joined.truth),
    )


def score_joints(
    clips: Sequence[tuple[Sequence[Frame], Sequence[Frame]]], joints: Sequence[str]
) -> dict[str, float]:
    """MOTA of every labelled joint over clips of truth and found frames, and their ``mean``."""
    clear = _trackers()[0]
    result = {}
    for number, name in enumerate(joints):
        joined = _joined([compare_joint(a, b, number) for a, b in clips])
        if sum(map(len, joined.truth)):
            counts = clear(joined.truth, joined.found, joined.similarity, threshold=0.5)
            result[name] = float(counts["MOTA"])
    return result | {"mean": float(np.mean(list(result.values())))} if result else {}


def _joined(comparisons: Sequence[Comparison]) -> Comparison:
    """Clips one after the other, with IDs of their own."""
    truth, found, similarity = [], [], []
    next_truth = next_found = 0
    for one in comparisons:
        truth += [ids + next_truth for ids in one.truth]
        found += [ids + next_found for ids in one.found]
        similarity += one.similarity
        next_truth = _after(truth[-len(one.truth) :], next_truth)
        next_found = _after(found[-len(one.found) :], next_found)
    return Comparison(truth, found, similarity)


def _after(ids: list[IntArray], least: int) -> int:
    return max([least, *(int(some.max()) + 1 for some in ids if len(some))])


def _trackers() -> tuple[Any, Any, Any]:
    try:
        from trackers.eval.clear import compute_clear_metrics
        from trackers.eval.hota import compute_hota_metrics
        from trackers.eval.identity import compute_identity_metrics
    except ImportError:
        raise HrtrackError(
            "tracking metrics need the package 'trackers'; install hrtrack with its [train] extra"
        ) from None
    return compute_clear_metrics, compute_identity_metrics, compute_hota_metrics
