"""The ONNX file says what PyTorch says, on two runtimes, and is a checkpoint as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hrtrack.errors import ModelError
from hrtrack.export.onnx import export_onnx, to_onnx
from hrtrack.models.agreement import TOLERANCES, compare, drawn_crops
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.info import read_onnx_metadata
from hrtrack.models.pose.graph import PoseGraph
from hrtrack.models.pose.hrnet import HRNet
from hrtrack.tracker.inference.open import open_network

from .networks import CONFIG, INFO, exported, small_network


@pytest.fixture(scope="module")
def network() -> HRNet:
    return small_network()


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return drawn_crops(INFO.input_hw, 4)


@pytest.fixture(scope="module")
def reference(network: HRNet, crops: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return PoseGraph(network, INFO)(torch.from_numpy(crops))[0].numpy()


def test_onnx_runtime_and_openvino_equal_pytorch(tmp_path, network, crops, reference) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export_onnx(network, INFO, tmp_path / "a.onnx")
    onnx.checker.check_model(str(tmp_path / "a.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    found = session.run(["keypoints"], {"crops": crops})[0]
    assert np.abs(found - reference).max() < 1e-2
    there = open_network(tmp_path / "a.onnx", backend="openvino", precision="fp32")
    assert np.abs(there(crops)["keypoints"] - reference).max() < 1e-2


def test_bf16_keeps_the_decoder_exact(tmp_path, network, crops, reference) -> None:
    export_onnx(network, INFO, tmp_path / "a.onnx", storage="fp16")
    there = open_network(tmp_path / "a.onnx", backend="openvino")
    if "bf16" not in there.describe():
        pytest.skip("this CPU does not compute in bf16")
    agreement = compare(reference, there(crops)["keypoints"], INFO.skeleton, INFO.input_hw)
    assert agreement.decided > 20
    # Random maps have ties, so a few joints may jump; the rest must stay.
    assert agreement.p95_pixels < 2
    assert agreement.mean_score < 0.02


@pytest.mark.parametrize(
    ("storage", "share", "error"),
    [("fp16", 0.51, 1e-3), pytest.param("int8", 0.3, 1e-2, marks=pytest.mark.slow)],
)
def test_small_files_read_back(tmp_path: Path, network, storage, share, error) -> None:
    (tmp_path / "full.onnx").write_bytes(exported())
    export_onnx(network, INFO, tmp_path / "small.onnx", storage=storage)
    full, small = (
        path.stat().st_size for path in map(tmp_path.joinpath, ("full.onnx", "small.onnx"))
    )
    assert small < share * full + 60_000
    loaded, described = load_hrnet(tmp_path / "small.onnx")
    assert (loaded.config, described.input_hw) == (CONFIG, INFO.input_hw)
    assert described.notes == INFO.notes
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            difference = (loaded.state_dict()[name] - value).abs().max()
            assert difference <= error * value.abs().max(), name


def test_parameters_keep_the_official_names(network: HRNet) -> None:
    names = {item.name for item in onnx.load_from_string(exported()).graph.initializer}
    state = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert state <= names


def test_a_half_trunk_stays_within_tolerance(network, crops, reference) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = to_onnx(network, INFO, half=True)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 50
    halves = {
        item.name for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT16
    }
    assert "stage4.0.branches.3.0.conv2.weight" in halves
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(["keypoints"], {"crops": crops})[0]
    agreement = compare(reference, found, INFO.skeleton, INFO.input_hw)
    assert agreement.within(TOLERANCES["fp16"]), agreement


def test_metadata_is_read_without_any_library(tmp_path: Path, network: HRNet) -> None:
    export_onnx(network, INFO, tmp_path / "a.onnx", batch=1)
    model = onnx.load(tmp_path / "a.onnx")
    assert read_onnx_metadata(tmp_path / "a.onnx") == {
        entry.key: entry.value for entry in model.metadata_props
    }
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_unwritable_places_and_senseless_options(tmp_path: Path, network: HRNet) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot write"):
        export_onnx(network, INFO, tmp_path / "file" / "a.onnx")
    with pytest.raises(ModelError, match="float16"):
        export_onnx(network, INFO, tmp_path / "a.onnx", storage="fp16", half=True)
