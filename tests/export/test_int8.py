"""8-bit ONNX for TensorRT: what it takes, and what the bundled model loses by it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from hrtrack.errors import BackendError, ModelError
from hrtrack.export import int8, tensorrt
from hrtrack.export.onnx import to_onnx
from hrtrack.export.session import reference_answers
from hrtrack.models.agreement import TOLERANCES, compare, drawn_crops
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.info import PoseInfo
from hrtrack.models.pose.hrnet import HRNet
from hrtrack.models.runtimes import tensorrt as engines
from hrtrack.models.runtimes.eight_bit import FEWEST
from hrtrack.models.zoo import resolve

from .networks import INFO, small_network

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Bundled = tuple[HRNet, PoseInfo, Any]


@pytest.fixture(scope="module")
def bundled() -> Bundled:
    """The bundled model with explicit quantisation, calibrated on drawn crops."""
    pytest.importorskip("nncf")
    network, described = load_hrnet(resolve("body_fast"))
    folded = to_onnx(network, described, folded=True)
    crops = drawn_crops(described.input_hw, FEWEST)
    return network, described, int8.quantise_for_tensorrt(folded, described, crops)


@pytest.mark.slow
def test_standard_output_and_a_program_s_own_handlers_are_left_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Scripts read the export's path from standard output."""
    pytest.importorskip("nncf")
    logger, own = logging.getLogger("nncf"), logging.NullHandler(logging.DEBUG)
    logger.addHandler(own)
    try:
        crops = drawn_crops(INFO.input_hw, FEWEST)
        int8.quantise_for_tensorrt(to_onnx(small_network(), INFO, folded=True), INFO, crops)
    finally:
        logger.removeHandler(own)
    assert capfd.readouterr().out == ""
    assert own.level == logging.DEBUG


@pytest.mark.slow
def test_quantisation_is_explicit_signed_and_symmetric(bundled: Bundled) -> None:
    _, _, model = bundled
    onnx.checker.check_model(model, full_check=True)
    stored = {item.name: item for item in model.graph.initializer}
    kinds = ("QuantizeLinear", "DequantizeLinear")
    pairs = [node for node in model.graph.node if node.op_type in kinds]
    assert len(pairs) > 100
    for node in pairs:
        zero = stored[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    quantised = [node for node in convolutions if made.get(node.input[0]) == "DequantizeLinear"]
    # All but the last layer, before which the values stay as they are.
    assert len(quantised) == len(convolutions) - 1


@pytest.mark.slow
def test_keypoints_stay_where_float32_has_them(bundled: Bundled) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network, described, model = bundled
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    crops = drawn_crops(described.input_hw, 8)
    found = session.run(["keypoints"], {"crops": crops})[0]
    expected = reference_answers(network, described, crops).keypoints
    agreement = compare(expected, found, described.skeleton, described.input_hw)
    assert agreement.decided > 100
    assert agreement.within(TOLERANCES["int8"]), str(agreement)


@pytest.mark.slow
def test_rtx_builds_an_engine_of_it(bundled: Bundled) -> None:
    try:
        engines.load_package("tensorrt-rtx")
    except BackendError:
        pytest.skip("TensorRT-RTX is not installed")
    _, described, model = bundled
    plan = tensorrt.build_plan(
        model.SerializeToString(), described.input_hw, "tensorrt-rtx", tensorrt.BuildOptions()
    )
    assert len(plan) > 1_000_000


def pair(zero: np.ndarray) -> Any:
    """A graph that quantises and widens again, with scale 0.5 and this zero point."""
    names = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *names], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *names], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    constants = [
        numpy_helper.from_array(np.float32(0.5), "scale"),
        numpy_helper.from_array(zero, "zero"),
    ]
    graph = helper.make_graph(nodes, "pair", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_unsigned_steps_become_signed_ones_of_the_same_range() -> None:
    model = pair(np.uint8(0))
    int8._make_signed(model)
    onnx.checker.check_model(model, full_check=True)
    scale, zero = (numpy_helper.to_array(item) for item in model.graph.initializer)
    assert zero.dtype == np.int8
    assert scale * 127 == pytest.approx(0.5 * 255)
    signed = pair(np.int8(0))
    int8._make_signed(signed)
    assert numpy_helper.to_array(signed.graph.initializer[0]) == np.float32(0.5)
    with pytest.raises(ModelError, match="not symmetric"):
        int8._make_signed(pair(np.uint8(7)))


def test_crops_that_do_not_fit() -> None:
    pytest.importorskip("nncf")
    described = PoseInfo(load_hrnet(resolve("body_fast"))[1].skeleton, (64, 64))
    model = pair(np.int8(0))
    with pytest.raises(ModelError, match="at least 32"):
        int8.quantise_for_tensorrt(model, described, np.zeros((3, 64, 64, 3), np.uint8))
    with pytest.raises(ModelError, match="expected uint8"):
        int8.quantise_for_tensorrt(model, described, np.zeros((40, 64, 48, 3), np.uint8))
