"""Models of 26 and of 133 joints, through the whole loop and into every output."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrtrack import Tracker
from hrtrack.cli import main
from hrtrack.errors import ModelError
from hrtrack.skeleton import by_name
from hrtrack.tracker.outputs.base import FORMATS, READABLE
from hrtrack.tracker.outputs.results.jsonl import read_jsonl
from hrtrack.tracker.outputs.results.openpose import read_openpose
from hrtrack.tracker.outputs.results.read import read_results

from ..clips import count_frames, moving_portrait
from .files import save_to

FRAMES = 6


def random_model(path: Path, joints: int) -> Path:
    """An ONNX graph that makes heatmaps of random filters, and does not say what its joints are."""
    rng = np.random.default_rng(joints)
    weights = numpy_helper.from_array(rng.normal(0, 0.1, (joints, 3, 4, 4)).astype(np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "w"], ["maps"], strides=[4, 4]),
            helper.make_node("Sigmoid", ["maps"], ["heatmaps"]),
        ],
        "random",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 64, 48])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", joints, 16, 12])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_portrait(tmp_path_factory.mktemp("clips") / "portrait.mp4", FRAMES)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--quiet"])
    return int(stop.value.code or 0)


@pytest.mark.parametrize("name", [pytest.param("halpe26", marks=pytest.mark.slow), "wholebody133"])
def test_a_clip_ends_well_in_every_format(name: str, clip: Path, tmp_path: Path) -> None:
    skeleton = by_name(name)
    joints = len(skeleton)
    model = random_model(tmp_path / "model.onnx", joints)
    saves = {form: save_to(tmp_path, form) for form in READABLE}
    layers = "skeleton,boxes,ids,scores,trails,names,blur-faces"
    arguments = [f"--save={save}" for save in saves.values()]
    arguments += ["--output", str(tmp_path / "out.mp4"), "--draw", layers, "--min-score", "0.01"]
    assert run("--source", str(clip), "--model", str(model), *arguments) == 0

    assert count_frames(tmp_path / "out.mp4") == FRAMES
    frames = list(read_jsonl(tmp_path / "out.jsonl"))
    assert len(frames) == FRAMES
    assert all(poses.keypoints.shape[1:] == (joints, 2) for poses in frames)
    peopled = [poses for poses in frames if len(poses)]
    assert peopled
    for form, save in saves.items():
        lacks = FORMATS[form].lacks
        found = list(read_results(save, skeleton if FORMATS[form].assumes else None))
        wanted = peopled if "empty frames" in lacks else frames
        assert [(one.frame, len(one)) for one in found] == [(one.frame, len(one)) for one in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert "names" in lacks or one.skeleton == skeleton
            if "joints" not in lacks and "names" not in lacks:
                np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.011)
                np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
    header = next(csv.reader((tmp_path / "out.csv").open()))
    assert all(any(joint in column for column in header) for joint in skeleton.joints)

    toe = skeleton.index("right_big_toe")
    shown = [poses for poses in read_openpose(tmp_path / "out") if len(poses)]
    for poses, body in zip(peopled, shown, strict=True):
        there = body.keypoints[:, 22]
        np.testing.assert_allclose(there, poses.keypoints[:, toe], atol=0.011)
    last = sorted((tmp_path / "out").glob("*.json"))[peopled[0].frame]
    person = json.loads(last.read_text())["people"][0]
    hand = np.array(person["hand_left_keypoints_2d"]).reshape(-1, 3)
    assert len(hand) == (21 if joints == 133 else 0)
    assert len(person["face_keypoints_2d"]) == (210 if joints == 133 else 0)
    if joints == 133:
        np.testing.assert_allclose(hand[:, :2], peopled[0].keypoints[0, 91:112], atol=0.011)

    for form, save in saves.items():
        again = tmp_path / f"{form}.mp4"
        own = ("--skeleton", name) if FORMATS[form].assumes else ()
        assert run("draw", str(clip), save, "--output", str(again), *own) == 0
        assert count_frames(again) == FRAMES


def test_a_skeleton_of_ones_own_is_tracked_and_redrawn(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model(tmp_path / "model.onnx", 5)
    with pytest.raises(ModelError, match=r"5 joints, .*--skeleton"):
        Tracker(model)
    own = tmp_path / "own.yaml"
    own.write_text("joints: [a, left_b, right_b, c, d]\nlimbs: [[a, left_b], [a, right_b, c, d]]\n")
    results = tmp_path / "out.jsonl"
    given = ("--source", str(clip), "--model", str(model), "--min-score", "0.01")
    assert run(*given, "--skeleton", str(own), "--save", str(results)) == 0
    assert any(len(poses) for poses in read_jsonl(results))
    redraw = ("draw", str(clip), str(results), "--output")
    assert run(*redraw, str(tmp_path / "a.mp4"), "--skeleton", str(own)) == 0
    assert count_frames(tmp_path / "a.mp4") == FRAMES
    capsys.readouterr()
    assert run(*redraw, str(tmp_path / "b.mp4")) != 0
    assert "--skeleton" in capsys.readouterr().err
    assert run(*redraw, str(tmp_path / "b.mp4"), "--skeleton", "coco17") != 0
    assert "has the keypoint set 'own'" in capsys.readouterr().err


def test_a_skeleton_with_other_joints_than_the_model_is_refused(tmp_path: Path) -> None:
    model = random_model(tmp_path / "model.onnx", 14)
    with pytest.raises(ModelError, match="predicts 14 joints, the skeleton 'coco17' has 17"):
        Tracker(model, skeleton="coco17")
    with Tracker(model, skeleton="crowdpose14") as tracker:
        assert tracker.skeleton is by_name("crowdpose14")
