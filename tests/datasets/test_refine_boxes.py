"""Labelled boxes redrawn by a detector."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import hrtrack
from hrtrack.cli import main
from hrtrack.datasets.refine_boxes import redraw
from hrtrack.tracker.inference.open import open_detector


def person(*box: float) -> dict[str, object]:
    return {"bbox": list(box)}


def test_each_person_gets_the_box_that_overlaps_most() -> None:
    people = [person(0, 0, 10, 20), person(8, 0, 10, 20), person(50, 50, 10, 10)]
    found = np.array([[1, 1, 11, 21], [7, 0, 17, 20], [52, 55, 90, 90]], np.float64)
    assert redraw(people, found, 0.5) == 2
    assert people == [person(1, 1, 10, 20), person(7, 0, 10, 20), person(50, 50, 10, 10)]


def test_one_box_serves_one_person() -> None:
    people = [person(0, 0, 10, 20), person(1, 0, 10, 20)]
    assert redraw(people, np.array([[1, 0, 11, 20]], np.float64), 0.5) == 1
    assert people == [person(0, 0, 10, 20), person(1, 0, 10, 20)]


def test_the_command_replaces_a_labelled_box(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = Path(hrtrack.__file__).parent / "cli" / "demo_people.jpg"
    picture = cv2.imread(str(photo))
    found, scores = (detector := open_detector("person_fast"))(picture[..., ::-1].copy())
    detector.close()
    x0, y0, x1, y1 = found[scores.argmax()].tolist()
    off = [x0 - 4, y0 + 4, x1 - x0, y1 - y0]
    far = [0.0, 0.0, 3.0, 3.0]
    entries = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": off},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": far},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": off, "pseudo": True},
    ]
    labels, out = tmp_path / "labels.json", tmp_path / "refined.json"
    images = [
        {"id": 1, "file_name": photo.name, "width": picture.shape[1], "height": picture.shape[0]}
    ]
    labels.write_text(json.dumps({"images": images, "annotations": entries}))
    with pytest.raises(SystemExit) as ended:
        main(
            ["data", "refine-boxes", str(labels), str(photo.parent), "person_fast", str(out), "-q"]
        )
    assert not ended.value.code
    assert "1 of 2 labelled boxes replaced" in capsys.readouterr().out
    boxes = [entry["bbox"] for entry in json.loads(out.read_text())["annotations"]]
    # Another number of threads may move a box by a fraction of a pixel; the label is 4 off.
    np.testing.assert_allclose(boxes[0], [x0, y0, x1 - x0, y1 - y0], atol=1.5)
    assert boxes[1:] == [far, off]
