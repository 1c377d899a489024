"""AP and recall of boxes against cases worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from hrtrack.errors import DataError
from hrtrack.evaluation.metrics.detection import (
    evaluate_detectors,
    load_people,
    score_detections,
    table,
)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Photo 1: one labelled large person, one teacher box. Photo 2: one medium person."""
    photos = [{"id": i, "file_name": f"{i}.png", "width": 300, "height": 300} for i in (1, 2)]
    people = [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 100, 200]},
        {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [180, 10, 100, 200],
         "pseudo": True, "score": 0.9},
        {"id": 3, "image_id": 2, "category_id": 1, "iscrowd": 0, "bbox": [50, 50, 50, 80]},
    ]  # fmt: skip
    path = tmp_path / "people.json"
    path.write_text(json.dumps({"images": photos, "annotations": people}))
    return path


def row(photo: int, box: list[float], score: float) -> dict[str, object]:
    return {"image_id": photo, "category_id": 1, "bbox": box, "score": score}


def test_perfect_answer(truth: Path) -> None:
    rows = [row(1, [10, 10, 100, 200], 0.9), row(2, [50, 50, 50, 80], 0.8)]
    result = score_detections(load_people(truth), rows)
    assert result.people == 2
    assert result.ap["all"] == result.ap50["all"] == result.recall["all"] == pytest.approx(1)
    assert result.ap["medium"] == result.ap["large"] == pytest.approx(1)
    assert result.ap["small"] == -1


def test_teacher_boxes_count_neither_way(truth: Path) -> None:
    rows = [
        row(1, [180, 10, 100, 200], 0.95),
        row(1, [10, 10, 100, 200], 0.9),
        row(2, [50, 50, 50, 80], 0.8),
    ]
    assert score_detections(load_people(truth), rows).ap["all"] == pytest.approx(1)


def test_a_false_box_above_and_a_missed_person(truth: Path) -> None:
    rows = [row(2, [200, 200, 60, 90], 0.99), row(1, [10, 10, 100, 200], 0.9)]
    result = score_detections(load_people(truth), rows)
    # Precision 1/2 up to recall 1/2: 51 of the 101 recall points.
    assert result.ap50["all"] == pytest.approx(0.5 * 51 / 101)
    assert result.recall["all"] == pytest.approx(0.5)
    assert result.recall50["medium"] == pytest.approx(0)


def test_a_loose_box_counts_up_to_its_iou(truth: Path) -> None:
    rows = [row(1, [10, 10, 100, 145], 0.9), row(2, [50, 50, 50, 80], 0.8)]
    result = score_detections(load_people(truth), rows)
    # IoU .725 passes .50 to .70: five of the ten thresholds.
    assert result.recall["large"] == pytest.approx(0.5)
    assert result.ap50["all"] == pytest.approx(1)


def test_nothing_found(truth: Path) -> None:
    assert score_detections(load_people(truth), []).ap["all"] == pytest.approx(0)


def test_detectors_side_by_side(truth: Path) -> None:
    import cv2

    for i in (1, 2):
        cv2.imwrite(str(truth.parent / f"{i}.png"), np.full((300, 300, 3), i, np.uint8))

    def good(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        box = [10, 10, 110, 210] if image[0, 0, 0] == 1 else [50, 50, 100, 130]
        return np.array([box], np.float32), np.array([0.9], np.float32)

    def blind(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)

    results = evaluate_detectors({"good": good, "blind": blind}, load_people(truth), truth.parent)
    assert results["good"].ap["all"] == pytest.approx(1)
    assert results["blind"].recall["all"] == pytest.approx(0)
    lines = table(results).splitlines()
    assert lines[2].startswith("| good | 1.000 / 1.000 / 1.000 | 1.000")
    assert lines[3].startswith("| blind | .000 / .000 / .000 |")


def test_unreadable_inputs(truth: Path) -> None:
    with pytest.raises(DataError, match="cannot read the annotations"):
        load_people(truth.with_name("absent.json"))
    with pytest.raises(DataError, match="cannot read the photo"):
        evaluate_detectors({}, load_people(truth), truth.parent)
