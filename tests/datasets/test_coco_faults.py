"""COCO files as labelling tools write them: what is taken, and what is said of the rest."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from hrtrack.configs.pose_schema import SetSection
from hrtrack.datasets.coco import read_coco
from hrtrack.datasets.people import People
from hrtrack.errors import DataError
from hrtrack.evaluation.labels import read_labels

JOINTS = ["head", "left_hand", "right_hand"]


@pytest.fixture
def content() -> dict[str, Any]:
    """Two people in two photos."""
    return {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [
            {
                "id": n, "image_id": n, "category_id": 1, "area": 900, "bbox": [5, 5, 30, 60],
                "keypoints": [20, 10, 2, 10, 40, 2, 30, 40, 1],
            }
            for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": "puppet", "keypoints": JOINTS, "skeleton": [[1, 2]]}],
    }  # fmt: skip


def read(folder: Path, content: Any, *, encoding: str = "utf-8") -> People:
    for name in "ab":
        (folder / f"{name}.png").touch()
    path = folder / "set.json"
    path.write_text(json.dumps(content), encoding=encoding)
    return read_coco(SetSection(annotations="", images=""), path, folder)


@pytest.mark.parametrize("limbs", [None, [], [[1, 2]], [["head", "left_hand"]]])
def test_limbs(tmp_path: Path, content: dict[str, Any], limbs: Any) -> None:
    content["categories"][0]["skeleton"] = limbs
    assert read(tmp_path, content).skeleton.limbs == (((0, 1),) if limbs else ())


def test_a_byte_order_mark_and_text_ids_of_photos(tmp_path: Path, content: dict[str, Any]) -> None:
    for entry in content["images"]:
        entry["id"] = f"photo {entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"photo {entry['image_id']}"
        entry["id"] = f"5f1e-{entry['id']}"
    assert len(read(tmp_path, content, encoding="utf-8-sig")) == 2
    assert len(read_labels(tmp_path / "set.json", tmp_path)) == 2


def test_numbers_from_a_table(tmp_path: Path, content: dict[str, Any]) -> None:
    for entry in content["annotations"]:
        entry |= {"id": float(entry["id"]), "image_id": float(entry["image_id"])}
    assert read(tmp_path, content).ids.tolist() == [1, 2]
    assert len(read_labels(tmp_path / "set.json", tmp_path).ignored) == 0


def set_in(part: str, **fields: Any) -> Any:
    """Changes the second entry of a part, or its only one."""

    def change(content: dict[str, Any]) -> None:
        for key, value in fields.items():
            if value is KeyError:
                del content[part][-1][key]
            else:
                content[part][-1][key] = value

    return change


def put(key: str, value: Any) -> Any:
    return lambda content: content.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("images", id=KeyError), "entry 1 of 'images' has no 'id'"),
        (set_in("images", file_name=KeyError), "entry 1 of 'images' has no 'file_name'"),
        (set_in("images", file_name=3), "entry 1 of 'images' has the file_name 3"),
        (put("images", None), "'images' is null, expected a list"),
        (put("annotations", None), "'annotations' is null, expected a list"),
        (put("annotations", [7]), "entry 0 of 'annotations' is 7, expected an object"),
        (put("categories", {}), "'categories' is {}, expected a list"),
        (set_in("annotations", id=[2]), "annotation [2] has [2] for its 'id'"),
        (set_in("annotations", image_id=[1]), "annotation 2 has [1] for its 'image_id'"),
        (set_in("annotations", image_id=9), "annotation 2 belongs to no image"),
        (set_in("annotations", area="9"), "annotation 2 has \"9\" for its 'area'"),
        (set_in("annotations", bbox=[1, 2]), "annotation 2 has [1, 2] for its 'bbox'"),
        (set_in("annotations", bbox="1 2"), "annotation 2 has \"1 2\" for its 'bbox'"),
        (set_in("annotations", bbox=[0, 0, float("inf"), 3]), "annotation 2 has [0, 0, Infinity"),
        (set_in("annotations", keypoints=["1"] * 9), "annotation 2 has [\"1\""),
        (set_in("annotations", keypoints=[float("nan")] * 9), "annotation 2 has [NaN"),
        (set_in("annotations", keypoints=[[1, 2, 3]] * 3), "annotation 2 has [[1, 2, 3]"),
        (set_in("annotations", neck=[1]), "annotation 2 has [1] for its 'neck'"),
        (set_in("annotations", pseudo_keypoints=[5]), "annotation 2 has [5] for its 'pseudo_k"),
        (set_in("categories", id=4), "has the id 4, but the annotations are of category 1"),
        (set_in("categories", keypoints="head"), 'is "head", expected a list of joints'),
        (set_in("categories", keypoints=["a", "b", "a"]), "two joints are called 'a'"),
        (set_in("categories", skeleton=[["head", "tail"]]), "names the joint \"tail\"; there are"),
        (set_in("categories", skeleton=[1, 2]), "'skeleton' is [1, 2], expected a list of pairs"),
        (set_in("categories", flip_pairs=[["left_hand", "hand"]]), "names the joint \"hand\""),
        (set_in("categories", flip_pairs=[[1, 2], [2, 3]]), "'left_hand' more than once"),
        (set_in("categories", sigmas=[0.1, 0, 0.1]), "is [0.1, 0, 0.1], expected 3 numbers above"),
        (set_in("categories", sigmas="wide"), "expected 3 numbers above 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, content: dict[str, Any], change: Any, message: str
) -> None:
    change(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
    assert "set.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        read_labels(tmp_path / "set.json", tmp_path)


def test_a_crowd_on_an_unlisted_photo_is_nobody_s(tmp_path: Path, content: dict[str, Any]) -> None:
    crowds = [
        {"id": n, "image_id": n, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9]}
        for n in (2, 77)
    ]
    crowds[0]["id"] = 3
    content["annotations"] += crowds
    assert len(read(tmp_path, content)) == 2
    assert read_labels(tmp_path / "set.json", tmp_path).ignored.tolist() == [[1, 0, 0, 9, 9]]


def test_people_without_ids_are_judged_not_ignored(tmp_path: Path, content: dict[str, Any]) -> None:
    for entry in content["annotations"]:
        del entry["id"]
    assert len(set(read(tmp_path, content).ids.tolist())) == 2
    assert len(read_labels(tmp_path / "set.json", tmp_path).ignored) == 0


def test_one_joint_makes_no_box(
    tmp_path: Path, content: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = content["annotations"]
    for entry in content["annotations"]:
        del entry["bbox"], entry["area"]
    first["keypoints"] = [20, 10, 2, 0, 0, 0, 0, 0, 0]
    second["keypoints"] = [20, 10, 2, 20, 50, 2, 0, 0, 0]
    with caplog.at_level(logging.WARNING, "hrtrack"):
        people = read(tmp_path, content)
    assert "left out 1 of 2 people" in caplog.text
    assert people.ids.tolist() == [2]
    np.testing.assert_allclose(people.boxes, [[15, 10, 25, 50]])
    assert people.areas[0] > 100
    content["annotations"] = [first]
    with pytest.raises(DataError, match="nobody to train on"):
        read(tmp_path, content)


def test_a_share_of_the_photos_is_judged(sticks: Path) -> None:
    path, images = sticks / "train.json", sticks / "images"
    whole = read_labels(path, images)
    parts = [read_labels(path, images, share) for share in ((0, 0.7), (0.7, 1))]
    assert 0 < len(parts[1]) < len(parts[0])
    assert sorted(parts[0].files + parts[1].files) == sorted(whole.files)
    spec = SetSection(annotations=str(path), images=str(images), share=(0.7, 1))
    assert read_coco(spec, path, images).files == parts[1].people.files
