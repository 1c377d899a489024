"""Labels that are numbers and yet wrong are told before anyone trains on them or is judged."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from PIL import Image

from hrtrack.configs.detector_schema import SetSection as BoxSet
from hrtrack.configs.pose_schema import SetSection
from hrtrack.datasets.coco import read_coco
from hrtrack.datasets.mpii import read_mpii
from hrtrack.datasets.people import Photos
from hrtrack.errors import DataError
from hrtrack.evaluation.labels import read_labels
from hrtrack.train.detector.photos import build_store

from ..train.sticks import SIDE, write_set

Content = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight stick people, each on a photo of 96 x 96 of its own."""
    write_set(tmp_path, "set", 8, seed=0)
    return tmp_path


def change(folder: Path, by: Callable[[Content], None]) -> None:
    content = json.loads((folder / "set.json").read_text())
    by(content)
    (folder / "set.json").write_text(json.dumps(content))


def fault(folder: Path) -> str:
    """What training and evaluation both say of the set."""
    path, images = folder / "set.json", folder / "images"
    with pytest.raises(DataError) as trained:
        read_coco(SetSection(annotations="", images=""), path, images)
    with pytest.raises(DataError) as judged:
        read_labels(path, images)
    assert str(trained.value) == str(judged.value)
    assert "\n" not in str(trained.value)
    assert str(path) in str(trained.value)
    return str(trained.value)


def warning(folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING, "hrtrack"):
        people = read_coco(
            SetSection(annotations="", images=""), folder / "set.json", folder / "images"
        )
    assert len(people) == 8
    assert all("\n" not in record.getMessage() for record in caplog.records)
    return caplog.text


def points(entry: Content) -> np.ndarray:
    return np.array(entry["keypoints"], float).reshape(-1, 3)


def put(entry: Content, joints: np.ndarray) -> None:
    entry["keypoints"] = joints.ravel().tolist()


def test_good_labels_are_taken_in_silence(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert warning(folder, caplog) == ""


@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("who", [slice(None), slice(3, 4)])
def test_joints_as_shares(folder: Path, with_boxes: bool, who: slice) -> None:
    def shares(content: Content) -> None:
        for entry in content["annotations"][who]:
            joints = points(entry)
            joints[:, :2] /= SIDE
            put(entry, joints)
            if not with_boxes:
                del entry["bbox"]

    change(folder, shares)
    said = fault(folder)
    assert f"annotation {who.start or 0}" in said
    assert "shares of the picture; expected pixels" in said


def test_boxes_as_shares(folder: Path) -> None:
    def shares(content: Content) -> None:
        for entry in content["annotations"]:
            entry["bbox"] = [value / SIDE for value in entry["bbox"]]

    change(folder, shares)
    assert "bbox" in fault(folder)
    assert "annotation 0 and 7 more of 8" in fault(folder)


def corners(content: Content) -> None:
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]


def test_corners_for_sizes(folder: Path) -> None:
    change(folder, corners)
    said = fault(folder)
    assert "fits in it as two corners; expected x, y, width, height" in said
    assert re.search(r"annotation [0-7] and \d more of 8 has the bbox", said)

    def without_sizes(content: Content) -> None:
        for image in content["images"]:
            del image["width"], image["height"]

    change(folder, without_sizes)  # the photos know theirs
    assert "fits in it as two corners" in fault(folder)


def test_corners_for_sizes_in_a_set_of_boxes(folder: Path) -> None:
    part = BoxSet(annotations="set.json", images="images")
    build_store([part], folder, folder / "right", quiet=True)
    change(folder, corners)
    with pytest.raises(DataError, match="as two corners; expected x, y, width, height"):
        build_store([part], folder, folder / "wrong", quiet=True)
    assert not (folder / "wrong" / "index.json").exists()


def test_a_box_that_leaves_its_picture_is_no_corner(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def amodal(content: Content) -> None:
        content["annotations"][2]["bbox"] = [40, 2, 70, 90]

    change(folder, amodal)
    assert "corners" not in warning(folder, caplog)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_another_size_than_the_file_s(folder: Path, factor: float) -> None:
    def resized(content: Content) -> None:
        for image in content["images"]:
            image |= {"width": int(SIDE * factor), "height": int(SIDE * factor)}
        for entry in content["annotations"]:
            entry["bbox"] = [value * factor for value in entry["bbox"]]
            put(entry, points(entry) * [factor, factor, 1])

    change(folder, resized)
    said = fault(folder)
    assert f"the file calls {int(SIDE * factor)}x{int(SIDE * factor)}, but set_000.png" in said
    assert f"is {SIDE}x{SIDE}" in said


def test_one_picture_of_another_size_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(folder, lambda content: content["images"][5].update(width=SIDE + 30))
    said = warning(folder, caplog)
    assert f"annotation 5 is on a picture that the file calls {SIDE + 30}x{SIDE}" in said

    def leave(content: Content) -> None:
        joints = points(content["annotations"][5])
        joints[0] = SIDE + 20, 40, 2
        put(content["annotations"][5], joints)

    change(folder, leave)  # which that picture would hold, and the real one does not
    assert "labels and photos do not belong together" in fault(folder)


def test_a_turned_photo_has_the_size_that_it_is_shown_in(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    photos = Photos(tmp_path)
    height, width = photos.read("turned.jpg").shape[:2]
    assert photos.size("turned.jpg") == (width, height) == (40, 60)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert photos.size("broken.jpg") is photos.size("missing.jpg") is None


def test_joints_outside_pictures_and_boxes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def stray(content: Content) -> None:
        joints = points(content["annotations"][4])
        joints[2] = 3 * SIDE, 30, 2
        put(content["annotations"][4], joints)

    change(folder, stray)
    said = warning(folder, caplog)
    assert "annotation 4 has a joint outside its picture: right_hand at 288, 30" in said
    assert "annotation 4 has a joint far outside its bbox: right_hand at 288, 30" in said


def test_most_joints_outside_pictures(folder: Path) -> None:
    def scaled(content: Content) -> None:
        for entry in content["annotations"]:
            put(entry, points(entry) * [10, 10, 1])
            del entry["bbox"]

    change(folder, scaled)
    assert "outside its picture" in fault(folder)


def test_most_joints_outside_boxes(folder: Path) -> None:
    def elsewhere(content: Content) -> None:
        for entry in content["annotations"]:
            entry["bbox"] = [0, 0, 12, 12]

    change(folder, elsewhere)
    said = fault(folder)
    assert "annotation 0 and 7 more of 8 has a joint far outside its bbox: head at" in said


def test_boxes_beside_pictures(folder: Path) -> None:
    def beside(content: Content) -> None:
        for entry in content["annotations"]:
            entry["bbox"] = [SIDE + 4, 3, 30, 40]

    change(folder, beside)
    assert "outside its picture set_000.png of 96x96" in fault(folder)


def test_shares_in_mpii_s_own_format(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((200, 300, 3), np.uint8))
    joints = np.random.default_rng(0).uniform(0.1, 0.9, (16, 2))
    entry = {
        "image": "a.png", "center": [150, 100], "scale": 0.8,
        "joints": joints.tolist(), "joints_vis": [1] * 16,
    }  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps([entry]))
    spec = SetSection(format="mpii", annotations="", images="")
    with pytest.raises(DataError, match=r"annotation 0 has all its joints.*shares"):
        read_mpii(spec, tmp_path / "train.json", tmp_path)
