"""Evaluation from photos to numbers, on sets whose answers are known by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pycocotools")

from hrtrack.errors import DataError, ModelError
from hrtrack.evaluation.evaluate import evaluate, results_json, results_table, write_json
from hrtrack.evaluation.labels import read_labels
from hrtrack.evaluation.predict import Protocol, run
from hrtrack.skeleton import COCO17, by_name

from ..train.dots import COLOURS, CentreNetwork, DotNetwork


@pytest.mark.parametrize("decoder", ["dark", "argmax"])
@pytest.mark.parametrize("flip", [False, True])
def test_labelled_boxes_by_hand(dots: Path, decoder: Any, flip: bool) -> None:
    protocol = Protocol(decoder=decoder, flip=flip)
    networks = {"dots": DotNetwork(), "again": DotNetwork()}
    first, again = evaluate(networks, dots / "dots.json", dots, protocol=protocol, quiet=True)
    # 11 labelled joints of the three people with a head; the moved knee is the only miss.
    assert first.people == 3
    assert first.pckh is not None
    assert first.pckh["mean"] == pytest.approx(100 * 10 / 11)
    assert first.pckh["shoulder"] == pytest.approx(100.0)
    # Left knee 2 of 3, right knee 3 of 3.
    assert first.pckh["knee"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert first.oks is not None
    # The moved knee's OKS is exp(-900 / (2 * 3000 * .16^2)) = .0029, so the person's is just
    # below .7507: five or six thresholds of ten; everybody else passes all.
    assert first.oks.ap50 == pytest.approx(1.0)
    assert 0.87 < first.oks.ar < 0.91
    assert results_json([again]) == results_json([first])
    assert list(results_json([first, again])) == ["dots", "again"]


def test_the_exact_flip_test_moves_nothing() -> None:
    """Of a network that sees every dot where it is, only the alignment can spoil the average."""
    rng = np.random.default_rng(0)
    crops = np.zeros((8, 128, 96, 3), np.uint8)
    for crop in crops:
        for x, top, colour in (
            (30, 30, "shoulder"), (70, 30, "shoulder"), (30, 90, "knee"), (70, 90, "knee")
        ):  # fmt: skip
            centre = x + int(rng.integers(-10, 11)), top + int(rng.integers(-10, 11))
            cv2.circle(crop, centre, 4, COLOURS[colour], -1)

    def moved(align: Any, unbiased: bool = False) -> NDArray[np.floating]:
        network = DotNetwork(unbiased)
        flipped = run(network, crops, Protocol(flip=True, align=align))
        return flipped[..., 0] - run(network, crops, Protocol())[..., 0]

    assert np.abs(moved("exact")).max() < 0.02
    assert np.abs(moved("exact", unbiased=True)).max() < 0.02
    # Half of what is left of 3 pixels by a shift of 4, and half of the 3 pixels.
    np.testing.assert_allclose(moved("column"), 0.5, atol=0.15)
    np.testing.assert_allclose(moved("none"), -1.5, atol=0.15)


def test_json_has_the_documented_form(dots: Path, tmp_path: Path) -> None:
    results = evaluate({"dots": DotNetwork()}, dots / "dots.json", dots, quiet=True)
    write_json(results, tmp_path / "out" / "eval.json")
    found = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert list(found) == ["n_people", "PCKh@0.5", "PCKh@0.1", "AP", "AP50", "AP75", "AR", "ci95"]
    assert next(iter(found["PCKh@0.5"])) == "mean"
    assert 0 <= found["AP"] <= 1 < found["PCKh@0.5"]["mean"] <= 100
    for metric, value in (("PCKh@0.5", found["PCKh@0.5"]["mean"]), ("AP", found["AP"])):
        low, high = found["ci95"][metric]
        assert low <= value <= high
    columns = [column.header for column in results_table(results).columns]
    assert columns[2:5] == ["PCKh@0.5 mean", "shoulder", "knee"]


def test_without_heads_pckh_is_null(dots: Path) -> None:
    content = json.loads((dots / "dots.json").read_text())
    for person in content["annotations"]:
        person.pop("neck", None)
    (dots / "dots.json").write_text(json.dumps(content))
    (result,) = evaluate({"dots": DotNetwork()}, dots / "dots.json", dots, quiet=True)
    found = result.as_json()
    assert found["PCKh@0.5"] is None
    assert found["ci95"]["PCKh@0.5"] is None
    assert found["n_people"] == 4
    assert found["AP"] > 0.8


def detector(
    *boxes: tuple[int, tuple[float, float, float, float], float],
) -> Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Gives fixed boxes, photo by photo in the order of the file."""
    photos = iter(range(2))

    def find(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        photo = next(photos)
        here = [(box, score) for index, box, score in boxes if index == photo]
        found = np.array([box for box, _ in here], np.float32).reshape(-1, 4)
        return found, np.array([score for _, score in here], np.float32)

    return find


def test_detector_boxes_by_hand(dots: Path) -> None:
    """Person 0 is found twice, 1 is missed, 2 and 3 are found, so is the ignored one."""
    find = detector(
        (0, (40, 70, 100, 170), 0.9),
        (0, (41, 70, 101, 170), 0.8),
        (1, (30, 70, 90, 170), 0.9),
        (1, (130, 60, 190, 160), 0.9),
        (1, (230, 70, 290, 170), 0.95),
    )
    (result,) = evaluate(
        {"dots": DotNetwork()}, dots / "dots.json", dots, detector=find, quiet=True
    )
    # Person 1's four joints are misses: 4 + 3 of 11.
    assert result.pckh is not None
    assert result.pckh["mean"] == pytest.approx(100 * 7 / 11)
    assert result.oks is not None
    # Three of four people with precision 1: without the OKS-NMS the copy, and without the ignored
    # boxes the pseudo person, would cost precision. 75 of 100 steps of recall are 76 points.
    assert result.oks.ap == pytest.approx(76 / 101)
    assert result.oks.ar == pytest.approx(0.75)


def test_foreign_joints_and_missing_photos_are_one_line_errors(dots: Path) -> None:
    network = CentreNetwork(COCO17, (128, 96))
    with pytest.raises(ModelError, match=r"'seventeen' predicts 17 joints .* have 4"):
        evaluate({"seventeen": network}, dots / "dots.json", dots, quiet=True)
    with pytest.raises(DataError, match=r"nowhere\.json"):
        evaluate({"dots": DotNetwork()}, dots / "nowhere.json", dots, quiet=True)
    (dots / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        evaluate({"dots": DotNetwork()}, dots / "dots.json", dots, quiet=True)


@pytest.mark.shared
@pytest.mark.slow
def test_tinypose_agrees_with_its_published_row(shared: Path) -> None:
    """`peers/README.md`: AP .688, AP50 .890, AP75 .769, measured with grey borders, no shift.

    The official way (black borders, shifted flip) gives it an AP of .722.
    """
    from hrtrack.tracker.inference.open import open_network

    network = open_network(
        shared / "peers" / "tinypose_256x192.onnx", backend="openvino", threads=1, precision="fp32"
    )
    labels, photos = shared / "data/coco/person_keypoints_val.json", shared / "data/coco/images"
    grey = Protocol(flip=True, align="none", border=127)
    (row,) = evaluate({"tinypose": network}, labels, photos, protocol=grey, quiet=True)
    network.close()
    assert row.oks is not None
    assert row.people == 125
    published = np.array([0.688, 0.890, 0.769])
    assert np.abs(np.array([row.oks.ap, row.oks.ap50, row.oks.ap75]) - published).max() <= 0.011


def write_whole_bodies(folder: Path) -> Path:
    """COCO-WholeBody's own form: 17 ``keypoints`` and four more lists, a category of 17 names.

    Two people whose joints all stand in the middle of their box, but for the second one's face.
    """
    cv2.imwrite(str(folder / "photo.png"), np.full((240, 320, 3), 90, np.uint8))
    annotations = []
    for number, x in enumerate((80, 240)):
        middle = (x, 120, 2)
        face = middle if number == 0 else (x + 25, 75, 2)
        annotations.append({
            "id": number + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 6000.0,
            "bbox": [x - 30, 70, 60, 100], "num_keypoints": 17, "keypoints": [*middle] * 17,
            "foot_valid": True, "foot_kpts": [*middle] * 6,
            "face_valid": True, "face_kpts": [*face] * 68,
            "lefthand_valid": True, "lefthand_kpts": [*middle] * 21,
            "righthand_valid": False, "righthand_kpts": [0.0] * 63,
        })  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "photo.png", "width": 320, "height": 240}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
    }
    path = folder / "whole.json"
    path.write_text(json.dumps(content))
    return path


def test_whole_bodies_by_hand(tmp_path: Path) -> None:
    whole = by_name("wholebody133")
    path = write_whole_bodies(tmp_path)
    labels = read_labels(path, tmp_path)
    assert labels.people.skeleton is whole
    assert labels.labelled.sum(axis=1).tolist() == [112, 112]
    assert not labels.labelled[:, 112:].any()
    np.testing.assert_array_equal(labels.people.keypoints[1, [0, 22, 23, 90, 91]], [
        [240, 120], [240, 120], [265, 75], [265, 75], [240, 120]
    ])  # fmt: skip
    network = CentreNetwork(whole, (128, 96))
    (result,) = evaluate({"centre": network}, path, tmp_path, quiet=True)
    found = result.as_json()
    assert found["n_people"] == 2
    # The second one's face, 68 of 112 joints, is missed: an OKS of 44 / 112 finds nobody, and one
    # of two with precision 1 is 51 points of 101.
    assert found["AP50"] == pytest.approx(51 / 101, abs=1e-4)


def test_a_part_of_a_whole_body_that_is_too_short_is_named(tmp_path: Path) -> None:
    path = write_whole_bodies(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][1]["foot_kpts"] = [1, 2, 2]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"annotation 2 has .* 'foot_kpts', expected .* 6 joints"):
        read_labels(path, tmp_path)
