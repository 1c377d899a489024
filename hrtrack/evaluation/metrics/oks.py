"""OKS average precision and recall, with intervals.

Matching and the numbers themselves come from pycocotools. Its accumulation cannot draw an
image twice, so the bootstrap repeats that step here in weighted form; the tests hold the
two together.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import oks
from ...types import FloatArray

KEYPOINT_SCORE_MIN = 0.2
NMS_OKS = 0.9
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class OksResult:
    """COCO's keypoint metrics in [0, 1] and the 95 % interval of the AP over images."""

    ap: float
    ap50: float
    ap75: float
    ar: float
    ap_interval: tuple[float, float]


def rescore(keypoint_scores: FloatArray, box_scores: FloatArray) -> FloatArray:
    """Person scores (N,) as in the official HRNet evaluation.

    The mean of a person's keypoint scores (N, K) above 0.2 times the box's score (N,).
    """
    confident = keypoint_scores > KEYPOINT_SCORE_MIN
    mean = (keypoint_scores * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1)
    return mean * box_scores


def oks_nms(
    keypoints: FloatArray,
    scores: FloatArray,
    areas: FloatArray,
    sigmas: FloatArray,
    threshold: float = NMS_OKS,
) -> NDArray[np.int64]:
    """Indices of the poses (N, K, 2) that remain, best first, when near-copies are dropped.

    Greedy, as in the official HRNet evaluation: a pose goes when its OKS with a better one
    exceeds ``threshold``, with the mean of the two ``areas`` (N,) as the person's area.
    """
    order = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(int(best))
        mean_areas = (areas[best] + areas[rest]) / 2
        similar = oks(keypoints[best][None], keypoints[rest], mean_areas, sigmas)[0]
        order = rest[similar <= threshold]
    return np.array(keep, np.int64)


def evaluate_oks(
    annotations: dict[str, Any],
    results: Sequence[dict[str, Any]],
    sigmas: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> OksResult:
    """COCO keypoint AP of ``results`` (COCO result entries) on a COCO ``annotations`` object.

    Annotations with ``iscrowd`` or without any labelled keypoint match without counting, as
    in COCO. The interval resamples the images.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = annotations
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if results:
            found = truth.loadRes(list(results))
        else:
            found = COCO()
            found.dataset = {**annotations, "annotations": []}
            found.createIndex()
        run = COCOeval(truth, found, "keypoints")
        run.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        run.evaluate()
        run.accumulate()
        run.summarize()
    matches = matches_of(run)
    precision = run.stats
    interval = _bootstrap(matches, resamples, seed) if matches.positives.sum() else (0.0, 0.0)
    return OksResult(
        float(precision[0]), float(precision[1]), float(precision[2]), float(precision[5]), interval
    )


@dataclass(frozen=True, slots=True)
class Matches:
    """Every result, best score first, with the image it lies in."""

    image: NDArray[np.int64]  # (D,)
    right: NDArray[np.bool_]  # (T, D) matched a counting person
    counts: NDArray[np.bool_]  # (T, D) not ignored
    positives: NDArray[np.int64]  # (I,) people to be found, per image


def matches_of(run: Any) -> Matches:
    """What a `pycocotools` evaluation, already run, has matched at every threshold."""
    every_size = 0
    images = len(run.params.imgIds)
    wanted = run.evalImgs[every_size * images : (every_size + 1) * images]
    positives = np.zeros(images, np.int64)
    image, scores, right, counts = [], [], [], []
    for index, entry in enumerate(wanted):
        if entry is None:
            continue
        positives[index] = (np.asarray(entry["gtIgnore"]) == 0).sum()
        ignored = np.asarray(entry["dtIgnore"], bool)
        right.append((np.asarray(entry["dtMatches"]) > 0) & ~ignored)
        counts.append(~ignored)
        scores.append(np.asarray(entry["dtScores"], np.float64))
        image.append(np.full(len(entry["dtScores"]), index, np.int64))
    if not scores:
        thresholds = len(run.params.iouThrs)
        empty = np.zeros((thresholds, 0), bool)
        return Matches(np.zeros(0, np.int64), empty, empty, positives)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    return Matches(
        np.concatenate(image)[order],
        np.concatenate(right, axis=1)[:, order],
        np.concatenate(counts, axis=1)[:, order],
        positives,
    )


def average_precision(matches: Matches, times: NDArray[np.int64]) -> float:
    """COCO's AP with image i counted ``times[i]`` times: 101-point interpolated precision."""
    people = int((matches.positives * times).sum())
    if people == 0:
        return 0.0
    weight = times[matches.image]
    right = np.cumsum(matches.right * weight, axis=1)
    wrong = np.cumsum((matches.counts & ~matches.right) * weight, axis=1)
    recall = right / people
    precision = right / np.maximum(right + wrong, np.spacing(1))
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for reached, best in zip(recall, best_from_here, strict=True):
        at = np.searchsorted(reached, RECALLS, side="left")
        total += best[at[at < len(best)]].sum() / len(RECALLS)
    return float(total / len(recall))


def _bootstrap(matches: Matches, resamples: int, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    images = len(matches.positives)
    values = [
        average_precision(
            matches, np.bincount(generator.integers(0, images, images), minlength=images)
        )
        for _ in range(resamples)
    ]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
