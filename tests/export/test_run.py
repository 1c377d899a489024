"""Exports are compared before they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hrtrack.errors import BackendError, ModelError, UsageError
from hrtrack.export.run import ExportOptions, Target, export_model
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.checkpoints import load_hrnet, save_weights
from hrtrack.models.network import PoseNetwork
from hrtrack.models.runtimes import tensorrt as engines
from hrtrack.models.runtimes.tensorrt import EnginePrecision
from hrtrack.tracker.inference.open import open_network

from .networks import INFO, small_network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(small_network(), INFO, path)
    return path


def opener(path: Path, target: Target, precision: EnginePrecision) -> PoseNetwork:
    """What the command line passes in."""
    if target in ("tensorrt", "tensorrt-rtx"):
        return open_network(path, backend=target, precision=precision)
    precision = "int8" if precision == "int8" else "fp32"
    return open_network(path, backend="openvino", precision=precision)


def test_onnx_is_verified_and_small(tmp_path: Path, weights: Path) -> None:
    done = export_model(weights, tmp_path / "a.onnx", ExportOptions(store="fp16"), opener)
    assert done.agreement is not None
    assert done.agreement.decided > 12
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert load_hrnet(done.path)[1].notes == INFO.notes


def test_openvino_keeps_the_metadata(tmp_path: Path, weights: Path) -> None:
    done = export_model(weights, tmp_path / "a.xml", ExportOptions(to="openvino"), opener)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    network = open_network(done.path)
    assert (network.info.notes, network.input_hw) == (INFO.notes, INFO.input_hw)
    assert network(drawn_crops(INFO.input_hw, 3))["keypoints"].shape == (3, 17, 3)


class Deaf:
    """A network that does not say what PyTorch says."""

    input_hw = INFO.input_hw

    def __call__(self, crops_NHW3, *, heatmaps=False):
        return {"keypoints": np.full((len(crops_NHW3), 17, 3), 0.5, np.float32)}

    def close(self) -> None:
        """Nothing to free."""


def test_an_inaccurate_export_is_not_saved(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ModelError, match=r"differs from PyTorch by .* not saved") as caught:
        export_model(weights, tmp_path / "a.onnx", ExportOptions(), lambda *asked: Deaf())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    options = ExportOptions(allow_inaccurate=True)
    assert export_model(weights, tmp_path / "a.onnx", options, lambda *asked: Deaf()).agreement


def test_rtx_engine_with_its_sidecar(tmp_path: Path, weights: Path) -> None:
    try:
        engines.load_package("tensorrt-rtx")
    except BackendError:
        pytest.skip("TensorRT-RTX is not installed")
    options = ExportOptions(to="tensorrt-rtx", precision="fp16")
    done = export_model(weights, tmp_path / "a.engine", options, opener)
    identity = engines.read_identity(done.path)
    assert (identity.precision, identity.weights) == ("fp16", engines.weights_hash(weights))
    assert np.array(identity.reference).shape == (8, 17, 3)
    assert identity.verified == (done.agreement is not None)


@pytest.mark.parametrize(
    ("name", "options", "calibration", "expected"),
    [
        ("a.engine", ExportOptions(), None, "--to onnx writes .onnx files"),
        ("a.xml", ExportOptions(to="openvino", precision="int8"), None, "--calibrate FOLDER"),
        ("a.onnx", ExportOptions(precision="fp16", store="fp16"), None, "--store is for float32"),
        ("a.onnx", ExportOptions(precision="fp16"), np.zeros(1), "--calibrate is for"),
        ("a.onnx", ExportOptions(via="torch2trt"), None, "--via torch2trt makes"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path, weights, name, options, calibration, expected
) -> None:
    with pytest.raises(UsageError, match=expected):
        export_model(weights, tmp_path / name, options, opener, calibration=calibration)


@pytest.mark.slow
def test_int8_runs_on_openvino_and_holds_its_tolerance(tmp_path: Path, weights: Path) -> None:
    crops = drawn_crops(INFO.input_hw, 32)
    options = ExportOptions(to="openvino", precision="int8", allow_inaccurate=True)
    done = export_model(weights, tmp_path / "a.xml", options, opener, calibration=crops)
    network = open_network(done.path, precision="int8")
    assert "int8" in network.describe()
    assert done.agreement is not None
    assert done.agreement.mean_score < 0.06
    with pytest.raises(ModelError, match="at least 32"):
        export_model(
            weights, tmp_path / "b.xml",
            ExportOptions(to="openvino", precision="int8"), opener, calibration=crops[:3],
        )  # fmt: skip
