"""Reading sets: COCO and custom files, MPII in both layouts, and what is said when they are bad."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hrtrack.configs.base import config_names
from hrtrack.configs.pose_schema import SetSection, load_config
from hrtrack.datasets.coco import read_coco
from hrtrack.datasets.mpii import read_mpii
from hrtrack.datasets.people import in_share, joined
from hrtrack.errors import ConfigError, DataError
from hrtrack.geometry import crop_boxes
from hrtrack.skeleton import COCO17, MPII16
from hrtrack.train.pose.loop import train_pose

from ..train.mini_mpii import write_mini_mpii


def _spec(**settings) -> SetSection:
    return SetSection(annotations="a.json", images="images", **settings)


@pytest.fixture
def mpii(tmp_path: Path) -> tuple[Path, np.ndarray]:
    return tmp_path, write_mini_mpii(tmp_path)


def test_mpii_json_gives_the_official_crop(mpii: tuple[Path, np.ndarray]) -> None:
    folder, joints = mpii
    spec = _spec(format="mpii")
    people = read_mpii(spec, folder / "annot" / "valid.json", folder / "images")
    assert people.skeleton is MPII16
    np.testing.assert_allclose(people.keypoints[1], joints[1, :, :2] - 1, rtol=1e-6)
    assert people.weights[0, 6] == 0
    assert people.weights.sum() == 6 * 16 - 1
    # center.y += 15 scale; the square of 200 * 1.25 scale pixels around it, counted from 0
    window = crop_boxes(people.boxes, 1.0)[0]
    np.testing.assert_allclose(window, [127, 127 + 15, 250, 250])
    np.testing.assert_allclose(people.heads, 0.6 * 50)
    train = read_mpii(spec, folder / "annot" / "train.json", folder / "images")
    assert np.isnan(train.heads).all()


def test_mpii_mat_equals_the_json(mpii: tuple[Path, np.ndarray]) -> None:
    folder, _ = mpii
    spec = _spec(format="mpii")
    a = read_mpii(spec, folder / "annot" / "valid.json", folder / "images")
    b = read_mpii(spec, folder / "release.mat", folder / "images")
    assert a.files == b.files
    for name in ("boxes", "weights", "heads"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-6)
    labelled = a.weights > 0
    np.testing.assert_allclose(a.keypoints[labelled], b.keypoints[labelled], rtol=1e-6)


@pytest.mark.slow
def test_mpii_trains_and_resumes(mpii: tuple[Path, np.ndarray]) -> None:
    folder, _ = mpii
    # The official recipe with a smaller network and crop, so that two steps take seconds.
    settings = [
        f"data.root={folder}", "data.workers=0", "fit.batch=2", "model.width=8",
        "model.modules=[1,1,1]", "model.blocks=1", "input.size=[64,64]", "fit.precision=fp32",
    ]  # fmt: skip
    for steps, resume in ((2, False), (3, True)):
        config = load_config("mpii_w32_256x256", [*settings, f"fit.steps={steps}"])
        train_pose(config, folder / "run", resume=resume, device="cpu", quiet=True)
    last = (folder / "run" / "val.csv").read_text().splitlines()[-1].split(",")
    assert last[0] == "3"
    assert 0 <= float(last[3]) <= 100


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("nose", "left_paw", "right_paw"), ((1, 2),)),
        (("tail", "R_paw", "L_paw"), ((2, 1),)),
        (("paw.L", "ball", "paw.R"), ((0, 2),)),
        (("earLeft", "earRight", "left_eye"), ((0, 1),)),
        (("lip", "rib", "l"), ()),
    ],
)
def test_sides_are_paired_by_name(
    names: tuple[str, ...], pairs: tuple[tuple[int, int], ...]
) -> None:
    from hrtrack.datasets.coco import skeleton_of

    content = {"categories": [{"id": 1, "name": "dog", "keypoints": list(names)}]}
    assert skeleton_of(content, Path("a.json")).flip_pairs == pairs


def test_other_categories_are_left_out(sticks: Path) -> None:
    content = json.loads((sticks / "train.json").read_text())
    count = len(content["annotations"])
    content["categories"].append({"id": 7, "name": "snake", "keypoints": ["head", "tail"]})
    content["annotations"].append(
        {**content["annotations"][0], "id": 999, "category_id": 7, "keypoints": [1, 1, 2, 5, 5, 2]}
    )
    path = sticks / "two.json"
    path.write_text(json.dumps(content))
    people = read_coco(_spec(), path, sticks / "images")
    assert len(people) == count
    assert 999 not in people.ids


def test_custom_joints_come_from_the_file(sticks: Path) -> None:
    content = json.loads((sticks / "train.json").read_text())
    content["categories"][0] |= {"flip_pairs": [["left_hand", "right_hand"], [4, 5]]}
    path = sticks / "named.json"
    path.write_text(json.dumps(content))
    people = read_coco(_spec(), path, sticks / "images")
    assert people.skeleton.flip_pairs == ((1, 2), (3, 4))
    assert people.skeleton.sigmas == (0.1,) * 5
    assert people.skeleton.limbs[0] == (0, 1)
    assert (people.weights == 0).any()
    path.write_text(json.dumps({**content, "categories": [
        {**content["categories"][0], "sigmas": [0.1]}]}))  # fmt: skip
    with pytest.raises(DataError, match="5 joints but 1 sigmas"):
        read_coco(_spec(), path, sticks / "images")


def test_a_zip_serves_as_a_folder(sticks: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for photo in sorted((sticks / "images").glob("*.png")):
            archive.write(photo, f"set/images/{photo.name}")
    a = read_coco(_spec(), sticks / "val.json", sticks / "images")
    b = read_coco(_spec(), sticks / "val.json", tmp_path / "photos.zip")
    np.testing.assert_array_equal(a.photo(3), b.photo(3))


@pytest.mark.shared
def test_lspet_labels_are_weighted(shared: Path) -> None:
    lspet = shared / "data" / "lspet"
    people = read_coco(_spec(pseudo_weight=0.5, weight=2.0), lspet / "val.json", lspet / "images")
    assert people.skeleton is COCO17
    assert set(np.unique(people.weights)) == {0.0, 1.0, 2.0}
    real = read_coco(_spec(), lspet / "val.json", lspet / "images")
    assert len(real) == 500
    assert np.isfinite(real.heads).sum() == 407
    assert (real.weights[:, :5] == 0).all()


def test_shares_split_the_photos() -> None:
    names = [f"im{i:05d}.jpg" for i in range(2000)]
    first = [in_share(name, (0, 0.9)) for name in names]
    second = [in_share(name, (0.9, 1)) for name in names]
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert 0.87 < np.mean(first) < 0.93


def test_bad_sets_are_named(sticks: Path, tmp_path: Path) -> None:
    images = sticks / "images"
    with pytest.raises(DataError, match="no such annotation file"):
        read_coco(_spec(), tmp_path / "none.json", images)
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        read_coco(_spec(), sticks / "train.json", tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds none of the annotated photos"):
        read_coco(_spec(), sticks / "train.json", tmp_path)
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    with pytest.raises(DataError, match="cannot read the annotations"):
        read_coco(_spec(), bad, images)
    bad.write_text("[]")
    with pytest.raises(DataError, match="not in COCO format"):
        read_coco(_spec(), bad, images)
    content = json.loads((sticks / "train.json").read_text())
    bad.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(DataError, match="nobody to train on"):
        read_coco(_spec(), bad, images)
    content["annotations"][0]["keypoints"] = [1, 2, 2]
    bad.write_text(json.dumps(content))
    with pytest.raises(DataError, match="5 joints need 15"):
        read_coco(_spec(), bad, images)
    with pytest.raises(DataError, match="not the official converted MPII JSON"):
        read_mpii(_spec(format="mpii"), bad, images)
    shutil.copy(bad, tmp_path / "bad.mat")
    with pytest.raises(DataError, match="not a MATLAB file"):
        read_mpii(_spec(format="mpii"), tmp_path / "bad.mat", images)


def test_sets_with_other_joints_do_not_join(sticks: Path, mpii: tuple[Path, np.ndarray]) -> None:
    a = read_coco(_spec(), sticks / "train.json", sticks / "images")
    folder, _ = mpii
    b = read_mpii(_spec(format="mpii"), folder / "annot" / "train.json", folder / "images")
    with pytest.raises(DataError, match="different joints"):
        joined([a, b])
    assert len(joined([a, a])) == 2 * len(a)


@pytest.mark.parametrize("name", config_names())
def test_bundled_configurations_are_valid(name: str) -> None:
    assert load_config(name).name == name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit.learning=1", "unknown key 'fit.learning'"),
        ("fit.lr=-1", "fit.lr: "),
        ("fit.lr=fast", "fit.lr: "),
        ("input.size=[250,192]", "multiples of 32"),
        ("model.heatmaps=linear", "belong together"),
        ("data.train.0.format=voc", "data.train.0.format"),
        ("data.train.7.format=coco", "no '7'"),
        ("data.train.²=3", "no '²'"),
        ("fit.lr", "expected section.key=value"),
        ("fit.stages=[{begin: 0.2, size: [64, 64], batch: 4, sigma: 2}]", "begin at 0"),
    ],
)
def test_configuration_errors_name_the_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("tiny", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configuration_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give a YAML file or one of .*tiny"):
        load_config("nothing")
    (tmp_path / "c.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must hold sections"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(tmp_path / "c.yaml")
    assert load_config("tiny", ["fit.lr=1e-4"]).fit.lr == 1e-4
