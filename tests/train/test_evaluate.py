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
from hrtrack.models.decode import decode
from hrtrack.models.info import PoseInfo
from hrtrack.skeleton import COCO17, MPII16, Skeleton
from hrtrack.train.evaluate import evaluate, results_json, results_table, write_json
from hrtrack.train.predict import Protocol, run

JOINTS = ("left_shoulder", "right_shoulder", "left_knee", "right_knee")
DOTS = Skeleton("dots", JOINTS, ((0, 1), (2, 3)), ((0, 1), (2, 3)), (0.08,) * 4)
COLOURS = {"shoulder": (255, 0, 255), "knee": (0, 255, 0)}


class DotNetwork:
    """Finds magenta shoulders and green knees; the one further right in the crop is "left"."""

    input_hw = (128, 96)
    info = PoseInfo(DOTS, (128, 96))

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        maps = np.stack([self._maps(crop) for crop in crops_NHW3])
        return {"keypoints": decode(maps), "heatmaps": maps}

    def _maps(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        v, u = np.mgrid[:32, :24]
        maps = np.zeros((4, 32, 24), np.float32)
        for place, colour in ((0, COLOURS["shoulder"]), (2, COLOURS["knee"])):
            near = np.abs(crop.astype(int) - colour).max(axis=2) < 100
            count, _, _, centres = cv2.connectedComponentsWithStats(near.astype(np.uint8))
            for side, (x, y) in enumerate(sorted(centres[1:count].tolist(), reverse=True)[:2]):
                squared = (u - x / 4) ** 2 + (v - y / 4) ** 2
                maps[place + side] = 0.9 * np.exp(-squared / 8)
        return maps

    def close(self) -> None:
        pass


class CentreNetwork:
    """Puts every joint into the middle of the crop."""

    def __init__(self, skeleton: Skeleton, input_hw: tuple[int, int]) -> None:
        self.input_hw, self.info = input_hw, PoseInfo(skeleton, input_hw)

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        height, width = (side // 4 for side in self.input_hw)
        v, u = np.mgrid[:height, :width]
        one = np.exp(-((u - width / 2) ** 2 + (v - height / 2) ** 2) / 8).astype(np.float32)
        joints = len(self.info.skeleton)
        maps = np.broadcast_to(one, (len(crops_NHW3), joints, height, width)).copy()
        return {"keypoints": decode(maps), "heatmaps": maps}

    def close(self) -> None:
        pass


def draw_person(photo: NDArray[np.uint8], x: int, y: int) -> dict[str, Any]:
    """Dots around (x, y), with the annotation that describes them; head size 20, box 60 x 100."""
    points = [(x + 20, y - 40), (x - 20, y - 40), (x + 15, y + 40), (x - 15, y + 40)]
    for name, (u, v) in zip(JOINTS, points, strict=True):
        cv2.circle(photo, (u, v), 5, COLOURS[name.split("_")[1]], -1)
    return {
        "category_id": 1, "iscrowd": 0, "bbox": [x - 30, y - 50, 60, 100], "area": 3000.0,
        "keypoints": [value for u, v in points for value in (u, v, 2)], "num_keypoints": 4,
        "neck": [x, y - 55, 2], "head_top": [x, y - 75, 2],
    }  # fmt: skip


@pytest.fixture
def dots(tmp_path: Path) -> Path:
    """Two photos, four people and one of a teacher's:

    0 labelled as drawn; 1 with its left knee labelled 30 px lower than drawn; 2 with its right
    shoulder unlabelled; 3 without a head; 4 marked pseudo.
    """
    photos = [np.full((240, 320, 3), 90, np.uint8) for _ in range(2)]
    people = [
        draw_person(photos[0], 70, 120), draw_person(photos[0], 230, 120),
        draw_person(photos[1], 60, 120), draw_person(photos[1], 160, 110),
        draw_person(photos[1], 260, 120),
    ]  # fmt: skip
    people[1]["keypoints"][3 * 2 + 1] += 30
    people[2]["keypoints"][3 * 1 + 2] = 0
    del people[3]["neck"]
    people[4]["pseudo"] = True
    for number, person in enumerate(people):
        person.update(id=number, image_id=number // 2 if number < 4 else 1)
    for index, photo in enumerate(photos):
        cv2.imwrite(str(tmp_path / f"{index}.png"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 320, "height": 240} for i in (0, 1)],
        "annotations": people,
        "categories": [{"id": 1, "name": "dots", "keypoints": list(JOINTS), "skeleton": []}],
    }
    (tmp_path / "dots.json").write_text(json.dumps(content))
    return tmp_path


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

    def moved(align: Any) -> NDArray[np.floating]:
        flipped = run(DotNetwork(), crops, Protocol(flip=True, align=align))
        return flipped[..., 0] - run(DotNetwork(), crops, Protocol())[..., 0]

    assert np.abs(moved("exact")).max() < 0.02
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


def mpii_people() -> tuple[list[dict[str, Any]], NDArray[np.float64], NDArray[np.float64]]:
    """Two people; the second's scale is 2. Positions (16, 2, 2) and head boxes count from 1.

    The network answers with the middle of the crop, 15 scale below the centre: (100, 115) and
    (100, 130). Head boxes of diagonals 50 and 100 give limits of 15 and 30 px. Person 0's
    joints lie 14.5 px away, its left wrist 15.5; person 1's lie 30.5 away, its knees 29.5.
    """
    positions = np.zeros((16, 2, 2))
    positions[:, :, 0] = 100 + 14.5, 115
    positions[:, :, 1] = 100, 130 - 30.5
    positions[MPII16.index("left_wrist"), 0, 0] += 1
    for side in ("left_knee", "right_knee"):
        positions[MPII16.index(side), 1, 1] += 1
    for middle in ("pelvis", "thorax"):
        positions[MPII16.index(middle)] += 70
    heads = np.zeros((2, 2, 2))
    heads[0] = 80
    heads[1] = np.array([[80 + 30, 80 + 60], [80 + 40, 80 + 80]])
    entries = [
        {
            "image": f"{n}.png", "center": [100.0, 100.0], "scale": float(n + 1),
            "joints": positions[:, :, n].tolist(), "joints_vis": [1] * 16,
        }
        for n in range(2)
    ]  # fmt: skip
    entries[0]["joints_vis"][MPII16.index("left_ankle")] = 0
    return entries, positions, heads


def check_mpii_table(result: Any) -> None:
    table, found = result.pckh, result.as_json()
    # Person 0: 13 of 14 counting joints labelled (no left ankle), 12 right. Person 1: 2 of 14.
    assert table["mean"] == pytest.approx(100 * 14 / 27)
    assert table["head"] == pytest.approx(50)
    assert table["wrist"] == pytest.approx(25)
    assert table["knee"] == pytest.approx(100)
    assert table["ankle"] == pytest.approx(25)
    assert found["AP"] is None
    assert found["ci95"]["AP"] is None
    assert found["n_people"] == 2


def test_mpii_converted_by_hand(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    entries, positions, heads = mpii_people()
    missing = np.zeros((16, 2))
    missing[MPII16.index("left_ankle"), 0] = 1
    (tmp_path / "valid.json").write_text(json.dumps(entries))
    savemat(
        tmp_path / "gt_valid.mat",
        {"jnt_missing": missing, "pos_gt_src": positions, "headboxes_src": heads},
    )
    write_blank(tmp_path)
    networks = {"centre": CentreNetwork(MPII16, (256, 256))}
    (plain,) = evaluate(networks, tmp_path / "valid.json", tmp_path, quiet=True)
    check_mpii_table(plain)
    # A map in the very middle is its own mirror image only with the official column's shift.
    (flipped,) = evaluate(
        networks, tmp_path / "valid.json", tmp_path, quiet=True,
        protocol=Protocol(flip=True, align="column"),
    )  # fmt: skip
    check_mpii_table(flipped)


def test_mpii_release_by_hand(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    entries, positions, heads = mpii_people()

    def struct(**fields: Any) -> NDArray[Any]:
        made = np.empty((1, 1), dtype=[(name, object) for name in fields])
        made[0, 0] = tuple(fields.values())
        return made

    photos = []
    for n, entry in enumerate(entries):
        points = [
            struct(x=positions[j, 0, n], y=positions[j, 1, n], id=j)
            for j in range(16)
            if entry["joints_vis"][j]
        ]
        person = struct(
            x1=heads[0, 0, n], y1=heads[0, 1, n], x2=heads[1, 0, n], y2=heads[1, 1, n],
            annopoints=struct(point=np.concatenate(points, axis=1)),
            scale=entry["scale"], objpos=struct(x=100.0, y=100.0),
        )  # fmt: skip
        photos.append(struct(image=struct(name=entry["image"]), annorect=person))
    release = struct(annolist=np.concatenate(photos, axis=1), img_train=np.array([[1, 1]]))
    savemat(tmp_path / "mpii.mat", {"RELEASE": release})
    write_blank(tmp_path)
    network = CentreNetwork(MPII16, (256, 256))
    (result,) = evaluate({"centre": network}, tmp_path / "mpii.mat", tmp_path, quiet=True)
    check_mpii_table(result)


def test_mpii_from_training_to_flip_test_on_the_command_line(tmp_path: Path) -> None:
    """The commands of ``docs/mpii.md`` on a made MPII, with a smaller network and crop."""
    pytest.importorskip("scipy")
    pytest.importorskip("torch")
    from click.testing import CliRunner

    from hrtrack.cli.main import hrtrack

    from .mini_mpii import write_mini_mpii

    write_mini_mpii(tmp_path)
    out = tmp_path / "run"

    def run(*words: object) -> None:
        result = CliRunner().invoke(hrtrack, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    run(
        "train", "mpii_w32_256x256", f"data.root={tmp_path}", "model.width=8",
        "model.modules=[1,1,1]", "model.blocks=1", "input.size=[64,64]", "data.workers=0",
        "fit.batch=2", "fit.steps=2", "-o", out, "--device", "cpu", "-q",
    )  # fmt: skip
    scores = []
    for extra in ((), ("--flip", "--decoder", "argmax")):
        run(
            "eval", "--annotations", tmp_path / "annot" / "valid.json",
            "--images", tmp_path / "images", "-m", out / "weights.safetensors",
            "--backend", "torch", "--device", "cpu", "--json", tmp_path / "out.json", *extra,
        )  # fmt: skip
        scores.append(json.loads((tmp_path / "out.json").read_text()))
    for found in scores:
        assert found["n_people"] == 6
        assert found["AP"] is None
        assert list(found["PCKh@0.5"]) == [
            "mean", "head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"
        ]  # fmt: skip
    # The training's own validation reads the same weights in the same way.
    last = (out / "val.csv").read_text().splitlines()[-1].split(",")
    assert scores[0]["PCKh@0.5"]["mean"] == pytest.approx(float(last[3]), abs=0.01)


def write_blank(folder: Path) -> None:
    for n in range(2):
        cv2.imwrite(str(folder / f"{n}.png"), np.zeros((300, 300, 3), np.uint8))


def test_worst_picture_marks_the_misplaced_label(dots: Path) -> None:
    worst = dots / "pictures" / "worst.png"
    networks = {"a": DotNetwork(), "b": DotNetwork()}
    evaluate(networks, dots / "dots.json", dots, worst=worst, quiet=True)
    for name in ("worst-a.png", "worst-b.png"):
        sheet = cv2.cvtColor(cv2.imread(str(worst.with_name(name))), cv2.COLOR_BGR2RGB)
        assert sheet.shape == (320, 4 * 320, 3)
        rings = (np.abs(sheet.astype(int) - (230, 40, 40)).max(axis=2) < 30).sum(axis=0)
        # One ring on the first person, the worst, and none on the others.
        assert rings[:320].sum() > 20
        assert rings[320:].sum() == 0


def test_skeletons_show_no_photo_and_mark_what_is_off(dots: Path) -> None:
    from hrtrack.train.skeletons import COLUMNS, MARGIN, MISSED, TILE

    # A photo of colours that the picture itself never has.
    for path in dots.glob("*.png"):
        photo = cv2.imread(str(path))
        photo[photo.max(axis=2) == 0] = (40, 255, 40)
        cv2.imwrite(str(path), photo)
    out = dots / "pictures" / "skeletons.png"
    evaluate({"dots": DotNetwork()}, dots / "dots.json", dots, skeletons=out, quiet=True)
    sheet = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB).astype(int)
    assert sheet.shape[1] == COLUMNS * (TILE + MARGIN) + MARGIN
    assert (np.abs(sheet - (40, 255, 40)).max(axis=2) < 60).sum() == 0
    marked = np.abs(sheet - MISSED).max(axis=2) < 25
    # The misplaced label leads the row of the worst; the person found best has no mark.
    assert marked[sheet.shape[0] // 2 : -26, : TILE + MARGIN].sum() > 20
    assert marked[: sheet.shape[0] // 2, : TILE + MARGIN].sum() == 0


def test_models_of_one_file_name_keep_apart() -> None:
    from hrtrack.cli.evaluate import short_names

    assert short_names(["body_fast"]) == {"body_fast": "body_fast"}
    assert short_names(["runs/a/best.onnx", "x.onnx"]) == {
        "runs/a/best.onnx": "best", "x.onnx": "x"
    }  # fmt: skip
    assert list(short_names(["runs/a/best.onnx", "runs/b/best.onnx"]).values()) == [
        "a/best", "b/best"
    ]  # fmt: skip
    assert list(short_names(["a/best.onnx", "a/best.pth", "b/best.pth"]).values()) == [
        "a/best.onnx", "a/best.pth", "b/best.pth"
    ]  # fmt: skip
    assert list(short_names(["body_fast", "old/body_fast.onnx"]).values()) == [
        "body_fast", "old/body_fast"
    ]  # fmt: skip


def test_two_models_of_one_name_on_the_command_line(dots: Path) -> None:
    torch = pytest.importorskip("torch")
    from click.testing import CliRunner

    from hrtrack.cli.main import hrtrack
    from hrtrack.models.checkpoints import save_weights
    from hrtrack.models.hrnet import HRNet, HRNetConfig, initialise

    words = [
        "eval", "--annotations", dots / "dots.json", "--images", dots, "--backend", "torch",
        "--device", "cpu", "--json", dots / "out.json", "--worst", dots / "worst.png",
    ]  # fmt: skip
    for seed, folder in enumerate(("one", "two")):
        torch.manual_seed(seed)
        network = HRNet(HRNetConfig(joints=4, width=8, modules=(1, 1, 1), blocks=1))
        initialise(network, "he")
        (dots / folder).mkdir()
        save_weights(network, PoseInfo(DOTS, (64, 64)), dots / folder / "best.safetensors")
        words += ["-m", dots / folder / "best.safetensors"]
    result = CliRunner().invoke(hrtrack, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads((dots / "out.json").read_text())
    assert list(found) == ["one/best", "two/best"]
    assert (dots / "worst-one_best.png").is_file()
    assert (dots / "worst-two_best.png").is_file()


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
    from hrtrack.tracker.infer import open_network

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
