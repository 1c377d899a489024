"""The same crops through every back end that this machine has."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch

from hrtrack.errors import BackendError, ModelError
from hrtrack.export.onnx import export_onnx
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.checkpoints import save_weights
from hrtrack.models.info import PoseInfo
from hrtrack.models.pose.graph import PoseGraph
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.skeleton import COCO17
from hrtrack.tracker.inference.backends.base import in_batches, plan
from hrtrack.tracker.inference.open import open_network

from .sharing import until_shared

INFO = PoseInfo(COCO17, (64, 64))


@pytest.fixture(scope="module")
def network() -> HRNet:
    torch.manual_seed(0)
    network = HRNet(HRNetConfig(width=16, modules=(1, 1, 1), blocks=1))
    initialise(network, "he")
    return network.eval()


@pytest.fixture(scope="module")
def files(network: HRNet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    export_onnx(network, INFO, folder / "a.onnx", storage="fp16")
    save_weights(network, INFO, folder / "a.safetensors", half=True)
    heatmaps_only(network, folder / "maps.onnx")
    return {path.name: path for path in folder.iterdir()}


def heatmaps_only(network: HRNet, path: Path) -> None:
    """What other projects export: normalised planes in, heatmaps out, nothing said."""
    torch.onnx.export(
        network, (torch.zeros(1, 3, 64, 64),), path, dynamo=False,
        input_names=["image"], output_names=["heatmap"], opset_version=17,
    )  # fmt: skip


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(network: HRNet, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        keypoints, heatmaps = PoseGraph(network, INFO)(torch.from_numpy(crops))
    return keypoints.numpy(), heatmaps.numpy()


@pytest.mark.parametrize(
    ("backend", "file"),
    [
        ("openvino", "a.onnx"),
        ("openvino", "maps.onnx"),
        ("torch", "a.onnx"),
        ("torch", "a.safetensors"),
    ],
)
def test_back_ends_agree(backend, file, files, crops, expected) -> None:
    network = open_network(files[file], backend=backend, precision="fp32", device="cpu")
    found = network(crops, heatmaps=True)
    keypoints, heatmaps = expected
    assert network.input_hw == (64, 64)
    assert network.skeleton == COCO17
    # Stored in float16: a noisy map's highest cell may change places, so nearly all must agree.
    assert np.abs(found["heatmaps"] - heatmaps).max() < 2e-3 * np.abs(heatmaps).max()
    near = np.abs(found["keypoints"] - keypoints)[..., :2].max(axis=2) < 0.5
    assert near.mean() > 0.95
    assert np.allclose(network(crops[:3])["keypoints"], found["keypoints"][:3], atol=1e-2)
    assert set(network(crops[:1])) == {"keypoints"}
    empty = network(crops[:0], heatmaps=True)
    assert empty["keypoints"].shape == (0, 17, 3)
    assert empty["heatmaps"].shape == (0, 17, 16, 16)
    assert file.split(".")[0] in network.describe()
    network.close()
    with pytest.raises(BackendError, match="closed"):
        network(crops[:2])


@pytest.mark.parametrize("threads", [1, 2])
def test_crops_that_run_side_by_side_keep_their_places(threads, files, crops) -> None:
    network = open_network(files["a.onnx"], precision="fp32", threads=threads)
    alone = [network(crop[None], heatmaps=True) for crop in crops]
    if threads > 1:
        until_shared(network)
    for _ in range(5):
        together = network(crops, heatmaps=True)
        for place, one in enumerate(alone):
            np.testing.assert_allclose(
                together["heatmaps"][place], one["heatmaps"][0], rtol=1e-4, atol=1e-4
            )


def test_any_number_of_crops_may_follow_any_other(files: dict[str, Path]) -> None:
    network = open_network(files["a.onnx"], precision="fp32", threads=2)
    crops = drawn_crops(INFO.input_hw, 9)
    alone = np.concatenate([network(crop[None])["keypoints"] for crop in crops])
    for count in (3, 9, 2, 5, 9):
        chosen = np.random.default_rng(count).permutation(9)[:count]
        together = network(crops[chosen])["keypoints"]
        np.testing.assert_allclose(together, alone[chosen], rtol=1e-4, atol=1e-3)
    network.close()


def test_a_second_person_does_not_wait_for_the_compiler(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path / "file" / "cache"))  # keeps nothing
    made: list[tuple[int, bool]] = []
    compile_ = openvino.Core.compile_model

    def watched(self: openvino.Core, model: Any, device: str, config: dict[str, Any]) -> Any:
        streams = config.get("NUM_STREAMS", 1)
        made.append((streams, threading.current_thread() is threading.main_thread()))
        return compile_(self, model, device, config)

    monkeypatch.setattr(openvino.Core, "compile_model", watched)
    crops = drawn_crops(INFO.input_hw, 3)
    photo = open_network(files["a.onnx"], threads=2)
    photo(crops[:1])
    photo.close()
    assert made == [(1, False)], "nothing is prepared for a single picture"
    made.clear()
    video = open_network(files["a.onnx"], threads=2)
    for _ in range(3):
        video(crops[:1])
    until_shared(video)
    together = video(crops)["keypoints"]
    np.testing.assert_allclose(together[0], video(crops[:1])["keypoints"][0], atol=0.05)
    assert made == [(1, False), (2, False)]
    video.close()
    video.close()
    with pytest.raises(BackendError, match="closed"):
        video(crops[:1])
    made.clear()
    crowd = open_network(files["a.onnx"], threads=2)
    first = crowd(crops)["keypoints"]
    assert made == [(1, False)], "nor for a single picture of several people"
    second = crowd(crops)["keypoints"]
    until_shared(crowd)
    assert made == [(1, False), (2, False)]
    for later in (second, crowd(crops)["keypoints"]):
        np.testing.assert_array_equal(later, first)


def test_the_first_crowd_does_not_wait_for_the_compiler(files: dict[str, Path]) -> None:
    crops = drawn_crops(INFO.input_hw, 3)
    network = open_network(files["a.onnx"], threads=2)
    compile_, may = network._new_queues, threading.Event()
    network._new_queues = lambda size: may.wait(60) and compile_(size)
    before = [network(crops)["keypoints"] for _ in range(3)]
    may.set()
    until_shared(network)
    for found in (*before, network(crops)["keypoints"]):
        np.testing.assert_array_equal(found, before[0])


def test_the_openvino_path_needs_no_torch(files) -> None:
    code = (
        "import sys; from hrtrack.tracker.inference.open import open_network; import numpy as np;"
        f"n = open_network({str(files['a.onnx'])!r});"
        "n(np.zeros((1, 64, 64, 3), np.uint8));"
        "assert not {'torch', 'onnx', 'tensorrt'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_auto_says_why(files) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "(no NVIDIA GPU here)" in open_network(files["a.onnx"]).describe()
    assert "PyTorch" in open_network(files["a.safetensors"]).describe()


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        (
            {"backend": "cuda"},
            BackendError,
            "unknown back end 'cuda'; choose one of auto, openvino",
        ),
        ({"backend": "openvino", "device": "TPU"}, BackendError, "no device 'TPU' here; it has"),
        ({"backend": "openvino", "precision": "int8"}, BackendError, "hrtrack export"),
        ({"backend": "torch", "device": "nonsense"}, BackendError, "no device 'nonsense'"),
        ({"backend": "torch", "device": "cpu", "precision": "int8"}, BackendError, "int8"),
    ],
)
def test_refusals(files, options, error, expected) -> None:
    with pytest.raises(error, match=expected) as caught:
        open_network(files["a.onnx"], **options)
    assert "\n" not in str(caught.value)


def test_cuda_without_a_gpu(files) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for backend in ("torch", "tensorrt", "tensorrt-rtx"):
        with pytest.raises(BackendError) as caught:
            open_network(files["a.onnx"], backend=backend, device="cuda")
        assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_models_that_are_none(tmp_path, files, shared) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match=r"not an ONNX|damaged"):
        open_network(tmp_path / "text.onnx", backend="openvino")
    with pytest.raises(ModelError, match="expected pose heatmaps"):
        open_network(shared / "peers/yolox_nano.onnx", backend="openvino")
    with pytest.raises(BackendError, match="hrtrack export"):
        open_network(files["a.safetensors"], backend="openvino")


@pytest.mark.shared
def test_a_foreign_network_is_normalised_and_decoded(shared) -> None:
    network = open_network(shared / "peers/tinypose_256x192.onnx")
    found = network(np.full((2, 256, 192, 3), 127, np.uint8), heatmaps=True)
    assert found["keypoints"].shape == (2, 17, 3)
    assert found["heatmaps"].shape == (2, 17, 64, 48)


def test_batches_cover_every_crop_once() -> None:
    assert list(plan(11, (1, 4), pad=False)) == [
        (0, 4, 4), (4, 8, 4), (8, 9, 1), (9, 10, 1), (10, 11, 1),
    ]  # fmt: skip
    assert list(plan(11, (1, 8, 16), pad=True)) == [(0, 11, 16)]
    assert list(plan(3, (2,), pad=False)) == [(0, 2, 2), (2, 3, 2)]
    crops = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)

    def double(batches: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        assert [len(batch) for batch in batches] == [4, 4]
        return [{"x": batch[:, 0, 0].astype(np.float32)} for batch in batches]

    found = in_batches(crops, (2, 4), double, pad=True)
    assert found["x"].ravel().tolist() == list(range(7))
