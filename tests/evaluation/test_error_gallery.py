"""What evaluation draws, and the names under which several models stand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools")

from hrtrack.evaluation.evaluate import evaluate
from hrtrack.models.info import PoseInfo

from ..train.dots import DOTS, DotNetwork


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
    from hrtrack.evaluation.skeleton_gallery import COLUMNS, MARGIN, MISSED, TILE

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
    from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise

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
