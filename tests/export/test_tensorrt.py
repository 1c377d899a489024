"""Engines are built by the real TensorRT-RTX where it is installed; refusals need no GPU."""

from __future__ import annotations

import dataclasses
import os
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hrtrack.errors import BackendError, ModelError
from hrtrack.export import tensorrt
from hrtrack.export.onnx import to_onnx
from hrtrack.models.info import PoseInfo
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig
from hrtrack.models.runtimes import tensorrt as engines
from hrtrack.models.runtimes.tensorrt import BatchRange, Identity, parse_batches
from hrtrack.skeleton import COCO17
from hrtrack.tracker.inference.backends import tensorrt as loading
from hrtrack.tracker.inference.open import open_network

from .networks import INFO, small_network

ROOT = Path(tensorrt.__file__).resolve().parents[1]
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
FILES = (ROOT / "export/tensorrt.py", ROOT / "tracker/inference/backends/tensorrt.py")

RTX_ALONE = {
    "REQUIRE_USER_ALLOCATION", "ComputeCapability", "SM75", "num_compute_capabilities",
    "set_compute_capability",
}  # fmt: skip
"""Names that our code takes from TensorRT-RTX only."""


def rtx():
    """The TensorRT-RTX module, or a skip."""
    try:
        return engines.load_package("tensorrt-rtx")
    except BackendError:
        pytest.skip("TensorRT-RTX is not installed")


@pytest.fixture(scope="module")
def network() -> HRNet:
    return small_network()


def test_rtx_builds_an_engine_without_a_gpu(tmp_path: Path, network: HRNet) -> None:
    rtx()
    model = to_onnx(network, INFO, half=True).SerializeToString()
    phases = set()
    options = tensorrt.BuildOptions(BatchRange(1, 4, 16), tmp_path / "timing.bin")
    plan = tensorrt.build_plan(
        model, INFO.input_hw, "tensorrt-rtx", options, lambda phase, step, steps: phases.add(phase)
    )
    assert len(plan) > 100_000
    assert phases
    assert not (tmp_path / "timing.bin").exists()  # RTX measures nothing before it meets a GPU


def test_rtx_builds_for_turing_apart(network: HRNet) -> None:
    rtx()
    model = to_onnx(network, INFO, half=True).SerializeToString()
    usual, turing = (
        tensorrt.build_plan(
            model, INFO.input_hw, "tensorrt-rtx", tensorrt.BuildOptions(turing=turing)
        )
        for turing in (False, True)
    )
    assert len(turing) > 100_000
    assert turing != usual


@pytest.mark.slow
def test_rtx_builds_the_official_w32_in_half() -> None:
    rtx()
    info = PoseInfo(COCO17)
    model = to_onnx(HRNet(HRNetConfig()), info, half=True).SerializeToString()
    plan = tensorrt.build_plan(model, info.input_hw, "tensorrt-rtx", tensorrt.BuildOptions())
    assert 50e6 < len(plan) < 90e6


def test_graphs_that_tensorrt_or_we_do_not_take(network: HRNet) -> None:
    rtx()
    options = tensorrt.BuildOptions()
    with pytest.raises(ModelError, match="does not take this graph"):
        tensorrt.build_plan(b"\xff\xff", (64, 64), "tensorrt-rtx", options)
    model = to_onnx(network, INFO)
    del model.graph.output[1]
    with pytest.raises(ModelError, match="expected uint8 crops to keypoints and heatmaps"):
        tensorrt.build_plan(model.SerializeToString(), (64, 64), "tensorrt-rtx", options)


def used_names() -> set[str]:
    """Every dotted name that our code takes from the TensorRT module."""
    text = "\n".join(path.read_text() for path in FILES)
    return set(re.findall(r"\btrt\.([A-Za-z_][\w.]*[\w])", text))


def used_members() -> set[str]:
    """Methods and attributes of TensorRT's objects that our code uses."""
    building = r"\b(?:builder|network|parser|config|profile)\.([a-z]\w+)"
    running = r"\b_(?:context|engine|runtime)\.([a-z]\w+)"
    return set(re.findall(building, FILES[0].read_text())) | set(
        re.findall(running, FILES[1].read_text())
    )


def test_every_name_exists_in_rtx() -> None:
    module = rtx()
    assert len(used_names()) > 10
    for name in used_names():
        found = module
        for part in name.split("."):
            found = getattr(found, part)
    classes = [
        module.Builder, module.INetworkDefinition, module.OnnxParser, module.IBuilderConfig,
        module.IOptimizationProfile, module.IExecutionContext, module.ICudaEngine, module.Runtime,
    ]  # fmt: skip
    members = set().union(*map(dir, classes))
    assert used_members() <= members


def test_every_name_of_the_contexts_exists_in_rtx() -> None:
    module = rtx()
    text = (ROOT / "tracker/inference/backends/tensorrt.py").read_text()
    for name in re.findall(r"\btrt\.([A-Za-z_][\w.]*[\w])", text):
        found = module
        for part in name.split("."):
            found = getattr(found, part)
    for pattern, kind in (
        (r"\b_?engine\.([a-z]\w+)", module.ICudaEngine),
        (r"\bcontext\.([a-z]\w+)", module.IExecutionContext),
        (r"\bruntime_config\.([a-z]\w+)", module.IRuntimeConfig),
        (r"\b_compiled\.([a-z]\w+)", module.IRuntimeCache),
    ):
        names = set(re.findall(pattern, text))
        assert names
        assert names <= set(dir(kind))


def test_every_name_occurs_in_full_tensorrt() -> None:
    """The bindings install alone but do not import, so their binaries are searched.

    HRTRACK_TENSORRT_WHEELS names a folder with `tensorrt_cu13_bindings` wheels of 10.16 and 11.4.
    """
    wheels = sorted(Path(os.environ.get("HRTRACK_TENSORRT_WHEELS", "-")).glob("*bindings*.whl"))
    if not wheels:
        pytest.skip("no TensorRT binding wheels; see HRTRACK_TENSORRT_WHEELS")
    names = {part for name in used_names() for part in name.split(".")} | used_members()
    names -= RTX_ALONE
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as files:
            binaries = b"".join(
                files.read(n) for n in files.namelist() if n.endswith((".so", ".py"))
            )
        missing = {name for name in names if name.encode() not in binaries}
        assert not missing, f"{wheel.name} lacks {missing}"


HERE = Identity(
    "tensorrt", "11.4.0.106", "NVIDIA L4", "8.9", "fp16", BatchRange(), "0123456789abcdef", "a.onnx"
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"version": "10.16.1.11"},
            "version 10.16.1.11, here it is 11.4.0.106; rebuild it: hrtrack",
        ),
        ({"capability": "9.0", "gpu": "NVIDIA H100"}, "GPU architecture 9.0, here it is 8.9"),
        ({"package": "tensorrt-rtx"}, "package tensorrt-rtx, here it is tensorrt"),
        ({"weights": "ffff"}, "weights ffff, here it is 0123456789abcdef"),
    ],
)
def test_a_foreign_engine_is_refused(change, expected) -> None:
    found = dataclasses.replace(HERE, **change)
    with pytest.raises(BackendError, match=re.escape(expected)) as caught:
        engines.require_fit(found, HERE, Path("a.engine"))
    assert "--batch 1:8:64" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_engines_that_fit() -> None:
    engines.require_fit(HERE, HERE, Path("a.engine"))
    same_architecture = dataclasses.replace(HERE, gpu="NVIDIA L40S")
    engines.require_fit(same_architecture, HERE, Path("a.engine"))
    portable = dataclasses.replace(HERE, version="10.16.1.11", capability="8.0", portable=True)
    engines.require_fit(portable, HERE, Path("a.engine"))
    any_weights = dataclasses.replace(HERE, weights="")
    engines.require_fit(HERE, any_weights, Path("a.engine"))


def test_identity_round_trip(tmp_path: Path) -> None:
    engines.write_engine(b"plan", HERE, tmp_path / "x" / "a.engine")
    assert (tmp_path / "x" / "a.engine").read_bytes() == b"plan"
    assert engines.read_identity(tmp_path / "x" / "a.engine") == HERE
    (tmp_path / "b.engine").write_bytes(b"plan")
    with pytest.raises(ModelError, match=r"no b.engine.json beside it"):
        engines.read_identity(tmp_path / "b.engine")
    (tmp_path / "b.engine.json").write_text('{"package": 1}')
    with pytest.raises(ModelError, match="damaged"):
        engines.read_identity(tmp_path / "b.engine")


def test_the_cache_keeps_engines_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = engines.cached_path(tmp_path, HERE)
    assert here == engines.cached_path(tmp_path, HERE)
    assert here != engines.cached_path(tmp_path, dataclasses.replace(HERE, precision="fp32"))
    monkeypatch.setattr(engines, "__version__", "99.0")  # whose decoder may be another
    assert here != engines.cached_path(tmp_path, HERE)


class LoadedEngine:
    """An engine that runs on no GPU: it gives a prepared answer."""

    skeleton, input_hw = INFO.skeleton, INFO.input_hw

    def __init__(self, identity: Identity, answer: np.ndarray) -> None:
        self.identity, self._answer, self.closed = identity, answer, False

    def __call__(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        return {"keypoints": self._answer[: len(crops)]}

    def close(self) -> None:
        self.closed = True


def test_an_engine_built_elsewhere_is_compared_once(tmp_path: Path) -> None:
    reference = np.full((8, 17, 3), 30.0, np.float32)
    reference[..., 2] = 0.9
    built = dataclasses.replace(HERE, reference=reference.tolist())
    engines.write_engine(b"plan", built, tmp_path / "a.engine")
    good = LoadedEngine(built, reference + np.array([0.01, 0, 0], np.float32))
    assert loading.compared_once(good, tmp_path / "a.engine") is good
    assert engines.read_identity(tmp_path / "a.engine").verified
    bad = LoadedEngine(built, reference + np.float32(5))
    with pytest.raises(BackendError, match=r"differs from PyTorch by .* rebuild it"):
        loading.compared_once(bad, tmp_path / "a.engine")
    assert bad.closed


def test_batch_ranges() -> None:
    assert parse_batches("8") == BatchRange(8, 8, 8)
    assert str(parse_batches("1:8:64")) == "1:8:64"
    for text in ("", "8:1", "8:4:64", "a", "0"):
        with pytest.raises(ModelError, match="is no batch range"):
            parse_batches(text)


@NO_GPU
def test_without_a_gpu_or_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "a.engine"
    engines.write_engine(b"plan", HERE, engine)
    monkeypatch.setitem(engines.MODULES, "tensorrt", ("tensorrt_that_is_not_there",))
    with pytest.raises(BackendError, match=r"pip install 'hrtrack\[tensorrt\]'"):
        open_network(engine, backend="tensorrt")
    monkeypatch.setitem(engines.MODULES, "tensorrt", ("json",))
    monkeypatch.setattr("json.__version__", "11.4.0.106", raising=False)
    with pytest.raises(BackendError, match="no NVIDIA GPU"):
        open_network(engine, backend="tensorrt")
    with pytest.raises(BackendError, match="no NVIDIA GPU"):
        tensorrt.build_plan(b"", (64, 64), "tensorrt", tensorrt.BuildOptions())


def test_old_tensorrt_is_refused() -> None:
    tensorrt.require_version(SimpleNamespace(__version__="10.13.0"))
    with pytest.raises(BackendError, match=r"10\.3\.0 is too old; 10\.13 or newer"):
        tensorrt.require_version(SimpleNamespace(__version__="10.3.0"))


class StandIn:
    """torch2trt 0.5's function: its parameters by name, an object with an engine as result."""

    def torch2trt(
        self, module, inputs, input_names=None, output_names=None, log_level=None,
        fp16_mode=False, max_workspace_size=1 << 25, strict_type_constraints=False,
        keep_network=True, int8_mode=False, int8_calib_dataset=None, int8_calib_algorithm=None,
        use_onnx=False, default_device_type=None, dla_core=0, gpu_fallback=True, device_types=None,
        min_shapes=None, max_shapes=None, opt_shapes=None, onnx_opset=None, max_batch_size=None,
        avg_timing_iterations=None,
    ):  # fmt: skip
        self.outputs = dict(zip(output_names, module(*inputs), strict=True))
        self.shapes = (min_shapes, opt_shapes, max_shapes)
        assert fp16_mode
        assert use_onnx
        assert input_names == ["crops"]
        return SimpleNamespace(engine=SimpleNamespace(serialize=lambda: bytearray(b"plan")))


def test_torch2trt_is_called_as_it_wants_to_be(network: HRNet) -> None:
    from hrtrack.models.pose.graph import PoseGraph

    stand_in = StandIn()
    graph = PoseGraph(network, INFO)
    crops = torch.zeros((2, *INFO.input_hw, 3), dtype=torch.uint8)
    assert tensorrt.convert_graph(stand_in, graph, crops, BatchRange(1, 2, 4)) == b"plan"
    assert stand_in.outputs["keypoints"].shape == (2, 17, 3)
    assert stand_in.shapes == tuple([(n, 64, 64, 3)] for n in (1, 2, 4))


def test_torch2trt_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.MODULES, "tensorrt", ("json",))
    monkeypatch.setattr("json.__version__", "11.4.0.106", raising=False)
    with pytest.raises(BackendError, match="does not run with TensorRT 11"):
        tensorrt.require_torch2trt()
    monkeypatch.setattr("json.__version__", "10.16.1", raising=False)
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no NVIDIA GPU"):
            tensorrt.require_torch2trt()
    monkeypatch.setattr(tensorrt, "this_gpu", lambda: ("NVIDIA L4", "8.9"))
    with pytest.raises(BackendError, match="torch2trt is not installed; it is on no registry"):
        tensorrt.require_torch2trt()
