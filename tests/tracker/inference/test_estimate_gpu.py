"""The GPU's way through a frame against OpenCV's; the arithmetic also runs on torch's CPU."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hrtrack import geometry
from hrtrack.models.network import DeviceNetwork, on_gpu
from hrtrack.models.zoo import resolve
from hrtrack.tracker.inference.crop import Cropper
from hrtrack.tracker.inference.detectors.base import DeviceDetector
from hrtrack.tracker.inference.detectors.torch import TorchDetector
from hrtrack.tracker.inference.estimate_gpu import GpuEstimator, sample_crops
from hrtrack.tracker.inference.open import open_detector, open_network
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video.frame import Frame

from ...export.networks import INFO, exported

BOXES = np.array([[40, 20, 90, 160], [-30, -20, 60, 90], [150, 60, 260, 260]], np.float64)
SCORES = np.array([0.9, 0.8, 0.7])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (200, 240, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3) * 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(exported())
    return path


def test_one_sample_cuts_what_opencv_cuts(image: np.ndarray) -> None:
    crops, to_image = Cropper((96, 64))(image, BOXES)
    sampled = sample_crops(torch.from_numpy(image), to_image, (96, 64)).numpy()
    difference = np.abs(sampled.astype(int) - crops)
    # OpenCV rounds positions to a 32nd of a pixel.
    assert difference.mean() < 0.6
    assert np.percentile(difference, 99) <= 6
    assert (sampled[1, :10, :10] == 0).all()


def both(model: Path, image: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the same crops by the network alone on the CPU, and on ``device``."""
    frame = Frame(0, 0.0, image)
    plain = open_network(model, backend="torch", device="cpu")
    windows = geometry.crop_boxes(BOXES, INFO.input_hw[1] / INFO.input_hw[0])
    maps = geometry.invert(geometry.crop_affines(windows, INFO.input_hw)).astype(np.float64)
    crops = sample_crops(torch.from_numpy(image), maps, INFO.input_hw).numpy()
    network = open_network(model, backend="torch", device=device, precision="fp32")
    there = GpuEstimator(network, 17, Stopwatch(), keep_heatmaps=True)
    poses = there(frame, BOXES, SCORES)
    assert there.heatmaps is not None
    assert there.heatmaps.shape == (3, 17, 16, 16)
    assert poses.keypoints.shape == (3, 17, 2)
    assert len(there(frame, BOXES[:0], SCORES[:0])) == 0
    assert geometry.iou(poses.boxes, BOXES.astype(np.float32)).diagonal().min() > 0.999
    return plain(crops)["keypoints"][..., 2], poses.scores


@pytest.mark.slow
def test_the_same_poses_on_the_cpu(model: Path, image: np.ndarray) -> None:
    expected, found = both(model, image, "cpu")
    assert np.abs(expected - found).mean() < 0.05


@pytest.mark.gpu
def test_the_same_poses_on_the_gpu(model: Path, image: np.ndarray) -> None:
    expected, found = both(model, image, "cuda")
    assert np.abs(expected - found).mean() < 0.05


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_captured_graphs_agree_with_the_cpu(model: Path, precision) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (11, *INFO.input_hw, 3), dtype=np.uint8)
    expected = open_network(model, backend="torch", device="cpu")(crops)["keypoints"]
    network = open_network(model, backend="torch", device="cuda", precision=precision)
    for count in (1, 3, 11):
        found = network(crops[:count], heatmaps=True)
        assert found["heatmaps"].shape == (count, 17, 16, 16)
        assert np.abs(found["keypoints"] - expected[:count])[..., 2].mean() < 0.02
    again = network(crops)["keypoints"]
    assert np.array_equal(again, network(crops)["keypoints"])


def test_what_meets_the_protocols_of_devices(model: Path) -> None:
    # A method that were renamed on one side only would send all crops through memory in silence.
    on_torch = open_network(model, backend="torch", device="cpu")
    assert isinstance(on_torch, DeviceNetwork)
    assert on_gpu(on_torch) is None
    assert not isinstance(open_network(model, backend="openvino"), DeviceNetwork)
    path = resolve("person_fast", task="detector")
    assert isinstance(TorchDetector(path, "ours", torch.device("cpu"), 0.1), DeviceDetector)
    assert not isinstance(open_detector("person_fast"), DeviceDetector)
