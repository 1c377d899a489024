"""8-bit arithmetic on CPUs: what is measured, what is stored, and what the graph becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from hrtrack.errors import BackendError, ModelError
from hrtrack.export.run import ExportOptions, export_model
from hrtrack.models.agreement import TOLERANCES, compare, drawn_crops
from hrtrack.models.checkpoints import load_hrnet, save_weights
from hrtrack.models.info import read_onnx_metadata
from hrtrack.models.runtimes import eight_bit
from hrtrack.models.runtimes.eight_bit import FEWEST, pose_ranges, watched
from hrtrack.models.runtimes.openvino import openvino_core
from hrtrack.models.zoo import resolve
from hrtrack.tracker.inference.open import open_network

from .networks import INFO, exported, small_network
from .test_run import opener

onnx = pytest.importorskip("onnx")


def test_ranges_are_the_ends_of_what_reaches_each_convolution() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 1, 1, bias=False)
            self.last = nn.Conv2d(1, 1, 1)
            nn.init.constant_(self.first.weight, -2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x))

    network = Two()
    with watched(network) as both:
        network(torch.tensor([[[[1.0, 3.0]]]]))
        network(torch.tensor([[[[-0.5, 2.0]]]]))
    assert both == {"first.weight": (-0.5, 3.0), "last.weight": (-6.0, 1.0)}
    with watched(network, floats={"last"}) as one:
        network(torch.zeros(1, 1, 1, 1))
    assert list(one) == ["first.weight"]
    network(torch.full((1, 1, 1, 1), 9.0))
    assert one == {"first.weight": (0.0, 0.0)}, "it went on measuring"


def test_metadata_there_and_back() -> None:
    ranges = {"a.weight": (-0.123456789, 3.0), "b.weight": (0.0, 1e-5)}
    again = eight_bit.from_metadata(eight_bit.metadata(ranges), "x")
    assert again == {"a.weight": (-0.12346, 3.0), "b.weight": (0.0, 1e-5)}
    assert eight_bit.metadata({}) == {}
    assert eight_bit.from_metadata({}, "x") == {}


@pytest.mark.parametrize("text", ["[1", "[1, 2]", '{"a": 3}', '{"a": [1]}', '{"a": ["x", 2]}'])
def test_damaged_metadata_is_one_line(text: str) -> None:
    with pytest.raises(ModelError, match=r"x\.onnx: its 'activation_ranges'") as caught:
        eight_bit.from_metadata({eight_bit.KEY: text}, "x.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("span", ["[2, 1]", "[0, Infinity]", "[NaN, 1]"])
def test_impossible_ranges_are_refused(span: str) -> None:
    with pytest.raises(ModelError, match="gives a the range"):
        eight_bit.from_metadata({eight_bit.KEY: f'{{"a": {span}}}'}, "x.onnx")


def test_zero_falls_on_a_step() -> None:
    for low, high in ((-2.0, 2.5), (0.0, 3.0), (-1.0, -0.5), (0.5, 4.0), (0.0, 0.0)):
        ends = eight_bit.with_zero(low, high)
        step = (ends[1] - ends[0]) / 255
        assert step > 0
        assert ends[0] / step == pytest.approx(round(ends[0] / step), abs=1e-6)
        assert ends[0] <= min(low, 0) + step
        assert ends[1] >= max(high, 0) - step


def convolutions(model: openvino.Model) -> list[Any]:
    """All convolutions of a graph."""
    return [op for op in model.get_ops() if op.get_type_name() == "Convolution"]


def reads_steps(convolution: Any) -> bool:
    """Whether both activations and weights come in steps."""
    sources = [convolution.input_value(i).get_node().get_type_name() for i in (0, 1)]
    return sources == ["FakeQuantize", "FakeQuantize"]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with ranges measured on drawn crops."""
    path = tmp_path_factory.mktemp("ranges") / "bundled.onnx"
    crops = drawn_crops(load_hrnet(resolve("body_fast"))[1].input_hw, FEWEST)
    done = export_model(
        resolve("body_fast"), path, ExportOptions(store="fp16"), opener, calibration=crops
    )
    assert done.eightbit is not None
    assert done.agreement is not None
    assert done.agreement.mean_pixels <= done.eightbit.mean_pixels
    return path


ANY = ExportOptions(allow_inaccurate=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with ranges."""
    folder = tmp_path_factory.mktemp("small")
    save_weights(small_network(), INFO, folder / "small.safetensors")
    crops = drawn_crops(INFO.input_hw, FEWEST)
    return export_model(
        folder / "small.safetensors", folder / "a.onnx", ANY, opener, calibration=crops
    ).path


@pytest.mark.slow
def test_all_but_the_last_layer_computes_in_8_bits(bundled: Path) -> None:
    ranges = eight_bit.from_metadata(read_onnx_metadata(bundled), bundled)
    model = openvino_core().read_model(bundled)
    eight_bit.quantise(model, ranges)
    assert eight_bit.quantised(model)
    every = convolutions(model)
    assert len(ranges) == len(every) - 1
    assert sum(reads_steps(op) for op in every) == len(every) - 1
    # Each tensor once, however many layers read it.
    steps = [op for op in model.get_ops() if op.get_type_name() == "FakeQuantize"]
    places = [op.input_value(0) for op in steps]
    assert not any(place.get_node().get_type_name() == "FakeQuantize" for place in places)
    sources = {(place.get_node().get_friendly_name(), place.get_index()) for place in places}
    assert len(sources) == len(steps)


@pytest.mark.slow
def test_the_answers_stay(bundled: Path) -> None:
    network, exact = open_network(bundled, precision="int8"), open_network(bundled)
    plain = open_network(bundled, precision="fp32")
    assert "int8 and" in network.describe()
    assert ("int8 and" in exact.describe()) == eight_bit.int8_is_fast()
    assert "int8" not in plain.describe()
    crops = drawn_crops(plain.input_hw, 8)
    expected = plain(crops)["keypoints"]
    found = network(crops)["keypoints"]
    agreement = compare(expected, found, plain.skeleton, plain.input_hw)
    assert agreement.decided > 100
    assert agreement.mean_pixels > 0
    assert agreement.within(TOLERANCES["int8"]), str(agreement)


def test_an_export_of_the_export_keeps_the_ranges(small: Path, tmp_path: Path) -> None:
    again = export_model(small, tmp_path / "a.onnx", ANY, opener)
    assert again.eightbit is not None
    before = read_onnx_metadata(small)[eight_bit.KEY]
    assert read_onnx_metadata(again.path)[eight_bit.KEY] == before


@pytest.mark.slow
def test_an_export_in_half_precision_drops_the_ranges(small: Path, tmp_path: Path) -> None:
    half = export_model(small, tmp_path / "b.onnx", replace(ANY, precision="fp16"), opener)
    assert half.eightbit is None
    assert eight_bit.KEY not in read_onnx_metadata(half.path)


@pytest.mark.slow
def test_openvino_s_own_files_keep_the_ranges(small: Path, tmp_path: Path) -> None:
    options = replace(ANY, to="openvino")
    done = export_model(small, tmp_path / "a.xml", options, opener)
    assert done.eightbit is not None
    network, onnx = open_network(done.path, precision="int8"), open_network(small, precision="int8")
    assert "int8" in network.describe()
    crops = drawn_crops(network.input_hw, 3)
    np.testing.assert_allclose(network(crops)["keypoints"], onnx(crops)["keypoints"], atol=1e-3)
    assert "int8" not in open_network(done.path, precision="fp32").describe()
    half = export_model(small, tmp_path / "b.xml", replace(options, precision="fp16"), opener)
    assert half.eightbit is None


def test_a_file_without_ranges_has_no_int8(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(exported())
    with pytest.raises(BackendError, match="activation ranges: hrtrack export MODEL --calibrate"):
        open_network(tmp_path / "a.onnx", backend="openvino", precision="int8")


def test_weights_stored_in_8_bits_keep_their_values(small: Path, tmp_path: Path) -> None:
    done = export_model(small, tmp_path / "a.onnx", replace(ANY, store="int8"), opener)
    model = openvino_core().read_model(done.path)
    known = dict(eight_bit.weights_of(op.input_value(1).get_node()) for op in convolutions(model))
    for name, weights in small_network().named_parameters():
        if weights.ndim == 4 and not name.startswith("final"):
            step = np.abs(weights.detach().numpy()).max(axis=(1, 2, 3), keepdims=True) / 127
            assert (np.abs(known[name] - weights.detach().numpy()) <= 0.51 * step).all()


@pytest.mark.slow
def test_weights_stored_in_8_bits_are_wide_before_two_crops_share_them(
    bundled: Path, tmp_path: Path
) -> None:
    # Two inferences side by side that widen them themselves read what is not there yet.
    done = export_model(bundled, tmp_path / "a.onnx", replace(ANY, store="int8"), opener)
    model = openvino_core().read_model(done.path)
    before = dict(eight_bit.weights_of(op.input_value(1).get_node()) for op in convolutions(model))
    eight_bit.dequantize(model)
    for op in convolutions(model):
        weights = op.input_value(1).get_node()
        assert weights.get_type_name() == "Constant"
        np.testing.assert_array_equal(weights.get_data(), before[weights.get_friendly_name()])
    network = open_network(done.path, backend="openvino", precision="fp32", threads=2)
    for op in convolutions(network._graph()):
        assert op.input_value(1).get_node().get_type_name() == "Constant"
    crops = drawn_crops(network.input_hw, 2)
    alone = np.concatenate([network(crops[i : i + 1])["keypoints"] for i in range(2)])
    for _ in range(6):
        np.testing.assert_allclose(network(crops)["keypoints"], alone, atol=1e-3)


@pytest.mark.slow
def test_inherited_ranges_that_spoil_it_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crops = drawn_crops(INFO.input_hw, FEWEST)
    ranges = dict.fromkeys(pose_ranges(small_network(), INFO, crops), (0.0, 0.001))
    save_weights(small_network(), INFO, tmp_path / "small.safetensors", ranges=ranges)
    done = export_model(
        tmp_path / "small.safetensors", tmp_path / "a.onnx", ExportOptions(), opener
    )
    assert done.eightbit is None
    assert eight_bit.KEY not in read_onnx_metadata(done.path)
    (line,) = caplog.messages
    assert "will not compute with a.onnx in 8 bits" in line


def test_crops_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="at least 32"):
        pose_ranges(small_network(), INFO, drawn_crops(INFO.input_hw, 3))
    with pytest.raises(ModelError, match="expected uint8"):
        pose_ranges(small_network(), INFO, np.zeros((40, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(("kind", "inputs"), [("Mul", "vd"), ("Mul", "dv"), ("Sub", "vd")])
def test_weights_that_are_computed_are_left_alone(kind: str, inputs: str) -> None:
    helper, numpy_helper, floats = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    random = np.random.default_rng(1)
    values = {"v": random.random((4, 3, 3, 3)), "g": random.random((4, 1, 1, 1))}
    stored = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items()]
    nodes = [
        helper.make_node("ReduceL2", ["v"], ["n"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Div", ["g", "n"], ["d"]),  # weight normalisation, for one
        helper.make_node(kind, list(inputs), ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", floats, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", floats, None)
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model = openvino_core().read_model(data.SerializeToString())
    picture = random.random((1, 3, 8, 8)).astype(np.float32)
    before = openvino_core().compile_model(model, "CPU")(picture)[0]
    eight_bit.dequantize(model)
    np.testing.assert_allclose(openvino_core().compile_model(model, "CPU")(picture)[0], before)
