"""Labelled boxes redrawn by a detector."""

from __future__ import annotations

import numpy as np

from hrtrack.datasets.refine_boxes import redraw


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
