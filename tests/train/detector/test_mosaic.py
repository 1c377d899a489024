"""People pasted into a detector's canvases."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

from hrtrack.configs.detector_schema import MosaicSection, SetSection
from hrtrack.train.detector.mosaic import paste_people, random_mosaic
from hrtrack.train.detector.photos import IGNORE, PERSON, PhotoStore, build_store
from hrtrack.train.detector.render import paste_layer

PEOPLE = np.array([[100, 60, 140, 180]], np.float32)


@pytest.fixture(params=[(40, 60, 120), (0, 60, 200), (60, 110, 140)], ids=str)
def store(tmp_path: Path, request: pytest.FixtureRequest) -> PhotoStore:
    """One dark photo with one bright upright person: in the middle, as tall, in the corner."""
    top, left, tall = request.param
    image = np.full((200, 160, 3), 20, np.uint8)
    image[top : top + tall, left : left + 50] = 240
    cv2.imwrite(str(tmp_path / "0.png"), image)
    person = {"image_id": 0, "bbox": [left, top, 50, tall]}
    content = {"images": [{"id": 0, "file_name": "0.png"}], "annotations": [person]}
    (tmp_path / "people.json").write_text(json.dumps(content))
    sets = [SetSection(annotations="people.json", images=".")]
    build_store(sets, tmp_path, tmp_path / "cache")
    return PhotoStore(tmp_path / "cache", 0.5, [1.0])


def pasted(
    store: PhotoStore, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int8]]:
    """A grey canvas after people were pasted into it, with the boxes and kinds."""
    canvas = np.full((240, 320, 3), 60, np.uint8)
    layers, boxes, kinds = paste_people(
        (240, 320), PEOPLE, np.array([PERSON], np.int8), store, np.random.default_rng(seed)
    )
    for layer in layers:
        paste_layer(canvas, store[layer.photo].image, layer)
    return canvas, boxes, kinds


def test_a_pasted_person_is_where_its_box_says(store: PhotoStore) -> None:
    checked = 0
    for seed in range(40):
        canvas, boxes, kinds = pasted(store, seed)
        assert len(boxes) == len(kinds)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [320, 240]).all()
        np.testing.assert_array_equal(boxes[0], PEOPLE[0])
        if len(boxes) != 2:
            continue
        rows, columns = np.nonzero(canvas[..., 0] > 200)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # A twentieth of a person of 120 pixels: the corners fade into what is behind.
        np.testing.assert_allclose(boxes[1], seen, atol=6)
        checked += 1
    assert checked >= 5


def test_who_is_covered_is_ignored(store: PhotoStore) -> None:
    covered, free = 0, 0
    for seed in range(60):
        canvas, boxes, kinds = pasted(store, seed)
        x0, y0, x1, y1 = PEOPLE[0].astype(int)
        hidden = float((canvas[y0:y1, x0:x1, 0] > 200).mean())
        if kinds[0] == IGNORE:
            covered += 1
            assert hidden > 0.5
        elif len(boxes) == 2:
            free += 1
            assert hidden < 0.65
    assert covered
    assert free


def test_only_canvases_that_ask_for_it(store: PhotoStore) -> None:
    counts = {
        share: [
            len(
                random_mosaic(
                    store, MosaicSection(size=(224, 224), mosaic=0, paste=share), rng
                ).boxes
            )
            for rng in map(np.random.default_rng, range(30))
        ]
        for share in (0.0, 1.0)
    }
    assert max(counts[0.0]) == 1
    assert np.mean(counts[1.0]) > 2
