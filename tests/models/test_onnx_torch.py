"""ONNX graphs computed by PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from hrtrack.errors import ModelError  # noqa: E402
from hrtrack.models.runtimes.onnx_torch import OnnxNetwork  # noqa: E402


def small_graph(path: Path, last: str = "Sigmoid") -> None:
    """Every kind of layer once, and a layer of kind ``last`` at the end."""
    rng = np.random.default_rng(3)
    kept = {
        "w": rng.normal(size=(6, 3, 3, 3)),
        "b": rng.normal(size=6),
        "each": rng.normal(size=(6, 1, 3, 3)),
        "half": np.float32(0.5),
    }
    whole = {"starts": [0, 1], "ends": [10**6, 10**6], "axes": [2, 3], "steps": [2, 1]}
    initial = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in kept.items()]
    initial += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in whole.items()]
    scales = helper.make_tensor("s", TensorProto.FLOAT, [4], [1, 1, 2, 2])
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["c.0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c.0"], ["r"]),
        node("Conv", ["r", "each"], ["d"], group=6, pads=[2, 2, 2, 2], dilations=[2, 2]),
        node("MaxPool", ["d"], ["p"], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]),
        node("Constant", [], ["scales"], value=scales),
        node("Resize", ["p", "", "scales"], ["u"], mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Mul", ["u", "half"], ["m"]),
        node("Slice", ["x", "starts", "ends", "axes", "steps"], ["cut"]),
        node("Add", ["d", "r"], ["a"]),
        node("Concat", ["a", "p"], ["joined"], axis=1),
        node(last, ["joined"], ["y"]),
    ]  # fmt: skip
    outputs = ("y", "m", "cut")
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, None, None])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initial,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def test_layers_give_what_onnx_runtime_gives(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    small_graph(tmp_path / "net.onnx")
    names = ["y", "m", "cut", "c.0"]
    network = OnnxNetwork(tmp_path / "net.onnx", names)
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 8, 12), (3, 3, 16, 16)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        found = dict(zip(names, network(torch.from_numpy(x)), strict=True))
        for name, expected in zip(names[:3], session.run(names[:3], {"x": x}), strict=True):
            np.testing.assert_allclose(found[name].numpy(), expected, atol=1e-5, err_msg=name)
        assert found["c.0"].shape == (shape[0], 6, shape[2] // 2, shape[3] // 2)
    # What is computed with moves along with the module; what slices are told stays.
    assert {v.dtype for v in network.half().state_dict().values()} == {torch.float16}


def test_a_graph_written_for_one_picture_takes_many(tmp_path: Path) -> None:
    """Half of the channels, shuffled, at another size: shapes are computed or fixed in the file."""
    ort = pytest.importorskip("onnxruntime")
    numbers = {"one": [1], "zero": [0], "two": [2], "apart": [1, 2, 3, 24], "flat": [1, 6, 4, 6]}
    numbers["sides"] = [1, 6, 7, 9]
    initial = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["channels"], axis=0),
        node("Div", ["channels", "two"], ["half"]),
        node("Slice", ["x", "zero", "half", "one"], ["cut"]),
        node("Reshape", ["cut", "apart"], ["groups"]),
        node("Transpose", ["groups"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "flat"], ["shuffled"]),
        node("Identity", ["shuffled"], ["same"]),
        node("Resize", ["same", "", "", "sides"], ["y"], mode="linear",
             coordinate_transformation_mode="align_corners"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 12, 4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initial,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    x = np.random.default_rng(1).normal(size=(3, 12, 4, 6)).astype(np.float32)
    (found,) = OnnxNetwork(tmp_path / "net.onnx", ["y"])(torch.from_numpy(x))
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(["y"], {"x": x[i : i + 1]})[0] for i in range(3)])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_only_what_is_wanted_must_be_known(tmp_path: Path) -> None:
    small_graph(tmp_path / "net.onnx", last="Erf")
    OnnxNetwork(tmp_path / "net.onnx", ["joined"])
    with pytest.raises(ModelError, match="needs a Erf layer"):
        OnnxNetwork(tmp_path / "net.onnx", ["y"])
    with pytest.raises(ModelError, match="no tensor 'z'"):
        OnnxNetwork(tmp_path / "net.onnx", ["z"])
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        OnnxNetwork(tmp_path / "text.onnx", ["y"])
