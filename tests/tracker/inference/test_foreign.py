"""Other projects' pose networks in our loop: graphs of their exact shapes with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hrtrack import Tracker
from hrtrack.errors import BackendError, ModelError
from hrtrack.evaluation.predict import Protocol, run
from hrtrack.models.pose.flip import FlipTest
from hrtrack.skeleton import COCO17
from hrtrack.tracker.inference.open import open_network

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])


def save(path: Path, joints: int, hw: tuple[int, int], kind: str, batch: int | str = "N") -> Path:
    """A network whose joint k is at the brightest pixel of the colour k mod 3.

    SimCC: each axis' highest value, laid on even bins by a matrix. Heatmaps: cells take the pixel
    at their corner.
    """
    height, width = hw
    pick = np.zeros((joints, 3, 1, 1), np.float32)
    pick[np.arange(joints), np.arange(joints) % 3] = 0.25
    constants = [numpy_helper.from_array(pick, "pick")]
    if kind == "simcc":
        for name, side in (("across", width), ("down", height)):
            spread = np.zeros((side, 2 * side), np.float32)
            spread[np.arange(side), 2 * np.arange(side)] = 1
            constants.append(numpy_helper.from_array(spread, name))
        nodes = [
            helper.make_node("Conv", ["input", "pick"], ["maps"]),
            helper.make_node("ReduceMax", ["maps"], ["columns"], axes=[2], keepdims=0),
            helper.make_node("ReduceMax", ["maps"], ["rows"], axes=[3], keepdims=0),
            helper.make_node("MatMul", ["columns", "across"], ["simcc_x"]),
            helper.make_node("MatMul", ["rows", "down"], ["simcc_y"]),
        ]
        shapes = {"simcc_x": [joints, 2 * width], "simcc_y": [joints, 2 * height]}
    else:
        nodes = [helper.make_node("Conv", ["input", "pick"], ["heatmap"], strides=[4, 4])]
        shapes = {"heatmap": [joints, height // 4, width // 4]}
    graph = helper.make_graph(
        nodes,
        "pose",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, height, width])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
            for name, shape in shapes.items()
        ],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def spots(count: int, hw: tuple[int, int], step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Black crops with one bright pixel in each colour, and their places (N, 3, 2)."""
    random = np.random.default_rng(3)
    crops = np.zeros((count, *hw, 3), np.uint8)
    places = random.integers(1, min(hw) // step - 1, (count, 3, 2)) * step
    for crop, of_crop in zip(crops, places, strict=True):
        for colour, (x, y) in enumerate(of_crop):
            crop[y, x, colour] = 255
    return crops, places


@pytest.mark.parametrize(
    ("file", "joints", "hw", "batch"),
    [
        ("rtmpose-t_simcc-body7_256x192.onnx", 17, (256, 192), "N"),
        ("end2end.onnx", 17, (256, 192), 1),
        ("rtmpose-l_384x288.onnx", 17, (384, 288), "N"),
        ("rtmpose-m_mpii.onnx", 16, (256, 256), "N"),
        ("rtmpose_m_halpe26_256x192.onnx", 26, (256, 192), "N"),
        ("rtmw_l_wholebody_384x288.onnx", 133, (384, 288), "N"),
        ("rtmpose_m_onehand_256x256.onnx", 21, (256, 256), "N"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_simcc_gives_the_pixels_of_rgb_crops(
    file: str, joints: int, hw: tuple[int, int], batch: int | str, threads: int, tmp_path: Path
) -> None:
    path = save(tmp_path / file, joints, hw, "simcc", batch)
    network = open_network(path, precision="fp32", threads=threads)
    assert network.input_hw == hw
    assert len(network.skeleton) == joints
    assert "SimCC" in network.describe()
    crops, places = spots(5, hw)
    found = network(crops, heatmaps=True)
    colours = np.arange(joints) % 3
    np.testing.assert_array_equal(found["keypoints"][..., :2], places[:, colours])
    peak = 0.25 * (255 - MEAN) / STD / (10 if "rtmw" in file else 1)
    expected = np.broadcast_to(peak[colours], (5, joints))
    np.testing.assert_allclose(found["keypoints"][..., 2], expected, rtol=1e-4)
    assert found["heatmaps"].shape == (5, joints, hw[0] // 4, hw[1] // 4)
    assert set(network(crops[:1])) == {"keypoints"}
    none = network(crops[:0], heatmaps=True)
    assert none["keypoints"].shape == (0, joints, 3)
    assert none["heatmaps"].shape == (0, *found["heatmaps"].shape[1:])
    network.close()


def test_scores_of_rtmw_are_brought_to_ours(tmp_path: Path) -> None:
    crops, _ = spots(2, (256, 192))
    plain, tenfold = (
        open_network(save(tmp_path / name, 17, (256, 192), "simcc"), precision="fp32")(crops)
        for name in ("rtmpose_l_256x192.onnx", "rtmw_l_256x192.onnx")
    )
    np.testing.assert_allclose(
        tenfold["keypoints"][..., 2], plain["keypoints"][..., 2] / 10, rtol=1e-5
    )


@pytest.mark.parametrize(("file", "unbiased"), [("vitpose-s-coco.onnx", True), ("x.onnx", False)])
def test_vitpose_heatmaps_are_spread_as_it_learned_them(
    file: str, unbiased: bool, tmp_path: Path
) -> None:
    network = open_network(save(tmp_path / file, 17, (256, 192), "heatmaps"), precision="fp32")
    crops, places = spots(3, (256, 192), step=4)
    found = network(crops)["keypoints"]
    assert network.info.unbiased == unbiased
    stride = np.array([191 / 47, 255 / 63]) if unbiased else 4
    expected = places[:, np.arange(17) % 3] / 4 * stride
    np.testing.assert_allclose(found[..., :2], expected, atol=0.05)


def test_the_flip_test_of_simcc(tmp_path: Path) -> None:
    """The spots stand still, so both images agree, but for left and right joints' colours."""
    hw = (256, 192)
    plain = open_network(save(tmp_path / "simcc.onnx", 17, hw, "simcc"), precision="fp32")
    flipped = FlipTest(plain)
    crops, _ = spots(4, hw)
    crops = np.repeat(crops.max(axis=3, keepdims=True), 3, axis=3)
    alone, both = plain(crops)["keypoints"], flipped(crops, heatmaps=True)
    assert set(both) == {"keypoints", "heatmaps"}
    np.testing.assert_array_equal(both["keypoints"][:, 0, :2], alone[:, 0, :2])
    found = run(plain, crops, Protocol(flip=True))
    np.testing.assert_allclose(found, both["keypoints"], atol=1e-6)
    np.testing.assert_allclose(run(plain, crops, Protocol(decoder="argmax")), alone)
    left = COCO17.index("left_hip"), COCO17.index("right_hip")
    np.testing.assert_allclose(both["keypoints"][:, left[0], 1], both["keypoints"][:, left[1], 1])
    assert flipped(crops[:0])["keypoints"].shape == (0, 17, 3)


@pytest.mark.parametrize(
    ("joints", "skeleton", "named"),
    [
        (17, "coco17", None), (26, "halpe26", None), (133, "wholebody133", None),
        (17, "ap10k17", "ap10k17"),
    ],
)  # fmt: skip
def test_the_tracker_takes_it(
    joints: int, skeleton: str, named: str | None, tmp_path: Path
) -> None:
    path = save(tmp_path / "end2end.onnx", joints, (256, 192), "simcc")
    image = np.zeros((480, 640, 3), np.uint8)
    with Tracker(model=path, threads=1, skeleton=named) as tracker:
        assert tracker.skeleton.name == skeleton
        poses = tracker.image(image)
    assert poses.keypoints.shape[1:] == (joints, 2)


def test_it_runs_on_openvino_whatever_else_is_here(tmp_path: Path, monkeypatch) -> None:
    from hrtrack.tracker.inference import open as opening

    monkeypatch.setattr(opening, "nvidia_driver_present", lambda: True)
    path = save(tmp_path / "rtmpose.onnx", 17, (256, 192), "simcc")
    assert "another project's network" in open_network(path).describe()
    with pytest.raises(BackendError, match="OpenVINO only") as caught:
        open_network(path, device="cuda")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError) as refused:
        open_network(path, backend="torch")
    assert "\n" not in str(refused.value)
