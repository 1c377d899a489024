"""Learning from a finished pose network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("onnx")

from hrtrack.configs.pose_schema import TeacherSection, TrainConfig, load_config
from hrtrack.errors import ConfigError, ModelError
from hrtrack.models.checkpoints import load_weights
from hrtrack.models.network import PIXEL_MEAN, PIXEL_STD
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.train.distillation import cells_of
from hrtrack.train.pose.distillation import (
    DistilledNetwork,
    Teacher,
    distributions,
    sampling,
)
from hrtrack.train.pose.loop import train_pose
from hrtrack.train.pose.targets import cross_entropy
from hrtrack.train.pose.throughput import measure_throughput

JOINTS, WIDTH = 5, 8


@pytest.fixture(scope="module")
def network() -> HRNet:
    torch.manual_seed(0)
    network = HRNet(HRNetConfig(JOINTS, WIDTH, (1, 1, 1), 1))
    initialise(network, "he")
    torch.nn.init.normal_(network.final_layer.weight, std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def file(network: HRNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as the public exports are: 96 x 64 normalised pictures to heatmaps."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    torch.onnx.export(network, (torch.zeros(1, 3, 96, 64),), str(path), dynamo=False)
    return path


def config(data: Path, teacher: Path, *more: str) -> TrainConfig:
    names = [f"data.root={data}", f"teacher.model={teacher}", "fit.batch=4", "data.val=null", *more]
    return load_config("tiny", names)


def test_a_crop_of_its_own_size_is_seen_as_by_the_network(network: HRNet, file: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3), dtype=np.uint8)
    told = Teacher(file, JOINTS)(torch.from_numpy(crops))
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    images = ((torch.from_numpy(crops) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        seen = network.features(images), network(images)
    # OpenVINO computes in bfloat16 where the processor can.
    for one, own in zip(told, seen, strict=True):
        torch.testing.assert_close(one, own, atol=0.03 * float(own.abs().max()), rtol=0)


def test_a_smaller_crop_is_seen_enlarged(file: Path) -> None:
    rng = np.random.default_rng(1)
    large = cv2.resize(rng.integers(0, 256, (12, 8, 3), dtype=np.uint8), (64, 96))
    small = cv2.resize(large, (32, 48), interpolation=cv2.INTER_AREA)
    teacher = Teacher(file, JOINTS)
    fine, coarse = (teacher(torch.from_numpy(crop)[None])[1][0].numpy() for crop in (large, small))
    assert coarse.shape == (JOINTS, 12, 8)
    shrunk = cv2.resize(fine.transpose(1, 2, 0), (8, 12), interpolation=cv2.INTER_AREA)
    same = np.corrcoef(coarse.ravel(), shrunk.transpose(2, 0, 1).ravel())[0, 1]
    assert same > 0.9


@pytest.mark.parametrize("height", [96, 48, 64])
def test_a_teacher_on_pytorch_answers_as_the_one_on_openvino(file: Path, height: int) -> None:
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (2, 12, 7, 3), dtype=np.uint8)
    size = (round(height / 1.5), height)
    crops = np.stack([cv2.resize(crop, size) for crop in coarse])
    told = Teacher(file, JOINTS)(torch.from_numpy(crops))
    seen = Teacher(file, JOINTS, torch.device("cpu"))(torch.from_numpy(crops))
    # OpenVINO computes in bfloat16 where the processor can.
    for one, own in zip(told, seen, strict=True):
        torch.testing.assert_close(one, own, atol=0.03 * float(own.abs().max()), rtol=0)


def test_cells_are_read_where_they_lie() -> None:
    down, along = sampling((48, 32), (96, 96))
    assert down.shape == (12, 24)
    np.testing.assert_allclose(down.sum(1), 1, rtol=1e-6)
    # A map whose cells hold their pixel's place gives the place of the student's cells.
    x = along @ (4 * np.arange(24, dtype=np.float32))
    np.testing.assert_allclose((x + 0.5) / 2 - 0.5, 4 * np.arange(8), atol=1e-4)


def test_certain_absent_and_undecided_joints() -> None:
    spot = torch.zeros(1, 3, 16, 12)
    spot[0, :, 4:6, 5] = torch.tensor([0.8, 0.0, 0.3])[:, None]
    shares, weights = distributions(spot)
    np.testing.assert_allclose(shares.sum((2, 3)), [[1, 0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(weights, [[1, 1, 0]], atol=1e-6)


def test_a_pupil_that_knows_it_all_has_little_to_lose(network: HRNet) -> None:
    torch.manual_seed(0)
    distilled = DistilledNetwork(network, WIDTH)
    features = torch.randn(2, WIDTH, 8, 8) * 3 + 1
    told = torch.zeros(2, JOINTS, 8, 8)
    told[:, :, 3, 3] = 0.9
    right = torch.where(told > 0, 12.0, -12.0)
    spread = features.std((0, 2, 3))[:, None, None]
    guess = cells_of((features - features.mean((0, 2, 3))[:, None, None]) / spread)
    weights = TeacherSection(model="x")
    knows = distilled.loss(right, guess, features, told, weights)
    assert float(knows) < 0.05
    blank = distilled.loss(right, torch.zeros_like(guess), features, told, weights)
    assert float(blank - knows) == pytest.approx(2.0, rel=0.1)  # its features' variance
    wrong = distilled.loss(-right, guess, features, told, weights)
    expected, divisor = cross_entropy(-right, *distributions(told))
    assert float(wrong) == pytest.approx(float(expected / divisor), rel=0.05)


def test_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected pictures 1x3xHxW and 17 heatmaps"):
        Teacher(file, 17)
    with pytest.raises(ModelError, match="no file"):
        Teacher(tmp_path / "none.onnx", JOINTS)
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        Teacher(tmp_path / "bad.onnx", JOINTS)
    linear = ["model.heatmaps=linear", "target.kind=gaussian"]
    with pytest.raises(ConfigError, match=r"a teacher needs model\.heatmaps=softmax"):
        load_config("tiny", ["teacher.model=x", "data.resident=true", *linear])


@pytest.mark.slow
def test_training_goes_on_with_its_pupil(sticks: Path, file: Path, tmp_path: Path) -> None:
    told = [config(sticks, file, f"fit.steps={steps}") for steps in (4, 2)]
    whole = train_pose(told[0], tmp_path / "whole", device="cpu", quiet=True)
    half = train_pose(told[1], tmp_path / "halves", device="cpu", quiet=True)
    assert not all(torch.equal(a, b) for a, b in _pairs(whole, half))
    again = train_pose(told[1], tmp_path / "again", device="cpu", quiet=True)
    assert all(torch.equal(a, b) for a, b in _pairs(half, again))
    alone = load_config(
        "tiny", [f"data.root={sticks}", "fit.steps=2", "fit.batch=4", "data.val=null"]
    )
    alone_trained = train_pose(alone, tmp_path / "alone_trained", device="cpu", quiet=True)
    assert not all(torch.equal(a, b) for a, b in _pairs(half, alone_trained))
    # The schedule follows the steps, so a resumed run is compared with one of the same end.
    saved = torch.load(tmp_path / "whole" / "state.pt", weights_only=True)
    assert set(saved["head"]) == {"levels.0.weight", "levels.0.bias", "mean", "deviation"}
    assert saved["head"]["levels.0.weight"].any()
    with pytest.raises(ModelError, match=r"teacher\.model was"):
        train_pose(alone, tmp_path / "halves", resume=True, device="cpu", quiet=True)


@pytest.mark.slow
def test_throughput_counts_the_teacher(sticks: Path, file: Path) -> None:
    found = measure_throughput(config(sticks, file), device="cpu", seconds=0.2)
    assert found.real > 0


def _pairs(a: Path, b: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    one, other = load_weights(a)[0], load_weights(b)[0]
    assert set(one) == set(other)
    return [(one[name], other[name]) for name in one]
