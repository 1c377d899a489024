"""The action network and its ONNX file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hrtrack.actions.info import ActionInfo, Window, action_info  # noqa: E402
from hrtrack.actions.network import PARENTS, ActionNet, streams  # noqa: E402
from hrtrack.actions.tagger import open_action_network  # noqa: E402
from hrtrack.errors import ModelError  # noqa: E402
from hrtrack.export.action import export_action  # noqa: E402
from hrtrack.models.info import read_onnx_metadata  # noqa: E402
from hrtrack.skeleton import ACTION13  # noqa: E402

INFO = ActionInfo(("a", "b"), Window(2.0, 32), 1.5, 0.4, {"licence": "Apache-2.0"})


@pytest.fixture(scope="module")
def net() -> ActionNet:
    torch.manual_seed(0)
    net = ActionNet(3, (16, 32), (1, 2)).eval()
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return net


def test_every_bone_is_a_limb() -> None:
    limbs = {frozenset(limb) for limb in ACTION13.limbs}
    assert all(frozenset((j, p)) in limbs for j, p in enumerate(PARENTS))


def test_streams_of_unseen_joints_are_zero() -> None:
    joints = torch.randn(1, 3, 6, 13)
    joints[:, 2] = 1
    joints[:, :, 3, 5] = 0
    out = streams(joints)
    assert not out[0, :3, 3, 5].any()
    assert not out[0, 3:6, 3, 5].any(), "the bone to a joint that was not seen"
    assert not out[0, 6:9, 3:5, 5].any(), "motion to and from the moment it was not seen"
    bone = joints[0, :2, 2, 5] - joints[0, :2, 2, PARENTS[5]]
    torch.testing.assert_close(out[0, 3:5, 2, 5], bone)
    torch.testing.assert_close(out[0, 6:8, 2, 5], joints[0, :2, 2, 5] - joints[0, :2, 1, 5])


def test_the_graph_step_mixes_as_the_graphs_say(net: ActionNet) -> None:
    step = net.steps[0]
    x = torch.randn(2, 16, 4, 13)
    mixed = step.mix(x).unflatten(1, (3, 16))
    wanted = torch.einsum("nkctv,kvw->nctw", mixed, step.graphs)
    wanted = torch.relu(step.norm(wanted) + x)
    torch.testing.assert_close(step(x), wanted, rtol=1e-4, atol=1e-5)


def test_the_bundled_size_is_small() -> None:
    from hrtrack.configs.action_schema import load_action_config

    model = load_action_config().model
    net = ActionNet(16, model.widths, model.strides)
    assert sum(p.numel() for p in net.parameters()) <= 2_000_000


def test_every_runtime_agrees(net: ActionNet, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    path = tmp_path / "action.onnx"
    export_action(net, INFO, path)
    assert action_info(read_onnx_metadata(path), path) == INFO
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    openvino, info = open_action_network(path, threads=1)
    assert info == INFO
    rng = np.random.default_rng(0)
    for people in (1, 5, 2):
        joints = rng.standard_normal((people, 3, 32, 13)).astype(np.float32)
        with torch.inference_mode():
            wanted = net(torch.from_numpy(joints)).numpy()
        (by_ort,) = session.run(None, {"joints": joints})
        np.testing.assert_allclose(by_ort, wanted, atol=1e-4)
        np.testing.assert_allclose(openvino(joints), wanted, atol=1e-4)


def test_another_window_than_the_files_own_is_refused(net: ActionNet, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "action.onnx"
    export_action(net, INFO, path)
    model = onnx.load(path)
    del model.metadata_props[:]
    for key, value in replace(INFO, window=Window(2.0, 16)).metadata().items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"any number, 3, 16, 13\) was expected"):
        open_action_network(path, threads=1)


def test_another_model_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    value = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(ModelError, match="not an hrtrack action model"):
        open_action_network(path)
