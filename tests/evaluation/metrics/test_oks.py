"""OKS AP against hand-worked cases and pycocotools, and the detector-box post-processing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from hrtrack.evaluation.metrics import oks
from hrtrack.skeleton import COCO17

SIGMAS = COCO17.sigmas


def truth(people: list[tuple[int, np.ndarray]], images: int) -> dict[str, Any]:
    annotations = []
    for number, (image, points) in enumerate(people, start=1):
        x0, y0 = points.min(axis=0)
        x1, y1 = points.max(axis=0)
        keypoints = np.concatenate([points, np.full((17, 1), 2.0)], axis=1)
        annotations.append(
            {
                "id": number, "image_id": image, "category_id": 1, "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": 10000.0,
                "keypoints": keypoints.ravel().tolist(), "num_keypoints": 17,
            }
        )  # fmt: skip
    return {
        "images": [{"id": i} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def result(image: int, points: np.ndarray, score: float) -> dict[str, Any]:
    keypoints = np.concatenate([points, np.ones((17, 1))], axis=1).ravel().tolist()
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score}


def person(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(50, 200, (17, 2))


def test_perfect_and_absent_results() -> None:
    people = [(1, person(1)), (2, person(2))]
    labels = truth(people, 2)
    perfect = oks.evaluate_oks(labels, [result(i, p, 0.9) for i, p in people], SIGMAS)
    assert (perfect.ap, perfect.ap50, perfect.ap75, perfect.ar) == pytest.approx((1, 1, 1, 1))
    assert perfect.ap_interval == pytest.approx((1, 1))
    nothing = oks.evaluate_oks(labels, [], SIGMAS)
    assert (nothing.ap, nothing.ar) == (0, 0)


def test_one_of_two_found_by_hand() -> None:
    """Recall ends at 0.5 with precision 1: 51 of the 101 recall points, so 51/101."""
    people = [(1, person(1)), (2, person(2))]
    run = oks.evaluate_oks(truth(people, 2), [result(1, people[0][1], 0.9)], SIGMAS)
    assert run.ap == pytest.approx(51 / 101)
    assert run.ar == pytest.approx(0.5)


def test_a_known_oks_passes_just_the_thresholds_below_it() -> None:
    """Every joint off by 2 sigma sqrt(-2 area ln .72): OKS .72, so 5 of 10 thresholds pass."""
    points = person(5)
    offset = 2 * np.array(SIGMAS) * np.sqrt(-2 * 10000.0 * np.log(0.72))
    moved = points + np.stack([offset, np.zeros(17)], axis=1)
    run = oks.evaluate_oks(truth([(1, points)], 1), [result(1, moved, 0.9)], SIGMAS)
    assert run.ap == pytest.approx(0.5)
    assert (run.ap50, run.ap75) == pytest.approx((1, 0))
    wider = oks.evaluate_oks(
        truth([(1, points)], 1), [result(1, moved, 0.9)], [2 * s for s in SIGMAS]
    )
    # Twice the sigma: OKS .72^(1/4) = .92, nine thresholds.
    assert wider.ap == pytest.approx(0.9)


def test_the_weighted_accumulation_equals_pycocotools() -> None:
    """On a noisy scene with false alarms the bootstrap's AP with weights one is the AP itself."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    generator = np.random.default_rng(0)
    people = [(1 + i % 9, person(i)) for i in range(30)]
    labels = truth(people, 9)
    labels["annotations"][4].update(iscrowd=1, num_keypoints=0)
    results = [
        result(i, p + generator.normal(0, spread, p.shape), generator.random())
        for i, p in people
        for spread in (2.0, 12.0)
    ]
    reported = oks.evaluate_oks(labels, results, SIGMAS, resamples=200)
    gt = COCO()
    gt.dataset = labels
    gt.createIndex()
    run = COCOeval(gt, gt.loadRes(results), "keypoints")
    run.evaluate()
    run.accumulate()
    run.summarize()
    matches = oks.matches_of(run)
    assert oks.average_precision(matches, np.ones(9, np.int64)) == pytest.approx(run.stats[0])
    assert (reported.ap, reported.ap50, reported.ap75, reported.ar) == pytest.approx(
        (run.stats[0], run.stats[1], run.stats[2], run.stats[5])
    )
    # Doubling every image changes nothing.
    assert oks.average_precision(matches, np.full(9, 2)) == pytest.approx(run.stats[0])
    low, high = reported.ap_interval
    assert 0 < low < run.stats[0] < high < 1


def test_rescoring_by_hand() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.2, 0.0]])
    # Mean of .9 and .5 times the box's .5; nobody above .2 gives 0.
    assert oks.rescore(scores, np.array([0.5, 1.0])) == pytest.approx([0.35, 0.0])


def test_oks_nms_drops_the_weaker_copy_only() -> None:
    first, far = person(1), person(1) + 500
    keypoints = np.stack([first + 0.5, first, far])
    kept = oks.oks_nms(keypoints, np.array([0.6, 0.8, 0.3]), np.full(3, 10000.0), np.array(SIGMAS))
    assert kept.tolist() == [1, 2]
