"""Official names, official numbers, and files that must be refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hrtrack.errors import ModelError
from hrtrack.models import checkpoints, info
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig
from hrtrack.skeleton import COCO17, MPII16

SMALL = HRNetConfig(width=16, modules=(1, 1, 1), blocks=1, heatmaps="softmax")


@pytest.fixture(scope="module")
def small() -> HRNet:
    torch.manual_seed(0)
    return HRNet(SMALL).eval()


def fill_by_rule(network: HRNet) -> None:
    """Weights by the rule that the golden outputs were made with."""
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        r, shape = np.random.default_rng(zlib.crc32(name.encode())), tuple(value.shape)
        if name.endswith("running_mean") or name.endswith("bias"):
            array = 0.1 * r.standard_normal(shape)
        elif name.endswith("running_var"):
            array = r.uniform(0.5, 1.5, shape)
        elif value.ndim == 4:
            array = r.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
        else:
            array = r.uniform(0.5, 1.0, shape)
        state[name] = torch.from_numpy(array.astype(np.float32))
    network.load_state_dict(state)


@pytest.mark.shared
@pytest.mark.parametrize("width", [32, 48])
def test_names_and_shapes_are_the_official_ones(shared: Path, width: int) -> None:
    golden = json.loads((shared / f"golden/hrnet_w{width}_coco_state_dict.json").read_text())
    state = HRNet(HRNetConfig(width=width)).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == golden
    assert checkpoints.infer_config(state) == HRNetConfig(width=width)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("key", "joints", "hw"),
    [
        ("coco_w32_256x192", 17, (256, 192)),
        pytest.param("mpii_w32_256x256", 16, (256, 256), marks=pytest.mark.slow),
    ],
)
def test_forward_equals_the_official_one(
    shared: Path, key: str, joints: int, hw: tuple[int, int]
) -> None:
    network = HRNet(HRNetConfig(joints=joints)).eval()
    fill_by_rule(network)
    images = np.random.default_rng(0).standard_normal((1, 3, *hw)).astype(np.float32)
    with torch.inference_mode():
        maps = network(torch.from_numpy(images)).numpy()
    golden = np.load(shared / "golden/forward.npz")[key]
    assert np.abs(maps - golden).max() < 1e-4 * np.abs(golden).max()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"module." + k: v for k, v in s.items()},
        lambda s: {"epoch": 3, "state_dict": s},
        lambda s: {
            "meta": {"epoch": 1},
            "state_dict": {
                ("keypoint_head." if k.startswith("final_layer") else "backbone.") + k: v
                for k, v in s.items()
            },
        },
        lambda s: {
            "state_dict": {
                **{
                    ("head." if k.startswith("final_layer") else "backbone.") + k: v
                    for k, v in s.items()
                    if not k.endswith("num_batches_tracked")
                },
                "data_preprocessor.mean": torch.zeros(3, 1, 1),
            }
        },
    ],
    ids=["bare", "data parallel", "nested", "OpenMMLab 0", "OpenMMLab 1"],
)
def test_reads_every_layout(tmp_path: Path, small: HRNet, wrap) -> None:
    torch.save(wrap(small.state_dict()), tmp_path / "a.pth")
    loaded, described = checkpoints.load_hrnet(tmp_path / "a.pth")
    assert loaded.config == HRNetConfig(width=16, modules=(1, 1, 1), blocks=1)
    assert described.skeleton == COCO17
    for name, value in small.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("half", [False, True])
def test_safetensors_round_trip(tmp_path: Path, small: HRNet, half: bool) -> None:
    said = info.PoseInfo(COCO17, (128, 96), 1.5, notes={"licence": "Apache-2.0"})
    checkpoints.save_weights(small, said, tmp_path / "a.safetensors", half=half)
    loaded, described = checkpoints.load_hrnet(tmp_path / "a.safetensors")
    assert loaded.config == SMALL
    assert (described.input_hw, described.sigma, described.notes) == (
        (128, 96), 1.5, {"licence": "Apache-2.0"},
    )  # fmt: skip
    name = "stage4.0.branches.3.0.conv2.weight"
    difference = (loaded.state_dict()[name] - small.state_dict()[name]).abs().max()
    assert difference == 0 if not half else 0 < difference < 1e-3


def test_a_checkpoint_may_carry_metadata(tmp_path: Path, small: HRNet) -> None:
    said = info.PoseInfo(COCO17, (128, 96), config={"heatmaps": "softmax"})
    torch.save({"state_dict": small.state_dict(), **said.metadata()}, tmp_path / "a.pth")
    loaded, described = checkpoints.load_hrnet(tmp_path / "a.pth")
    assert (loaded.config, described.input_hw) == (SMALL, (128, 96))


@pytest.mark.parametrize("scope", ["stem", "blocks", "all"])
def test_missing_norms_are_seen(scope) -> None:
    config = HRNetConfig(width=16, modules=(1, 1, 1), blocks=1, norm="none", scope=scope)
    assert checkpoints.infer_config(HRNet(config).state_dict()) == config


def test_new_head_for_other_joints(tmp_path: Path, small: HRNet) -> None:
    torch.save({**small.state_dict(), "classifier.weight": torch.zeros(1)}, tmp_path / "a.pth")
    config = HRNetConfig(joints=16, width=16, modules=(1, 1, 1), blocks=1)
    with pytest.raises(ModelError, match=r"final_layer.weight is \(17, 16, 1, 1\), expected"):
        checkpoints.load_hrnet(tmp_path / "a.pth", config)
    loaded, described = checkpoints.load_hrnet(tmp_path / "a.pth", config, new_head=True)
    assert loaded.final_layer.weight.shape[0] == 16
    assert torch.equal(loaded.conv1.weight, small.conv1.weight)
    assert described.skeleton == MPII16


def test_a_misfit_names_the_first_differences(tmp_path: Path, small: HRNet) -> None:
    state = small.state_dict()
    del state["conv1.weight"], state["bn1.weight"]
    state["conv2.weight"] = torch.zeros(64, 64, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelError) as caught:
        checkpoints.load_hrnet(tmp_path / "a.pth", SMALL)
    message = str(caught.value)
    assert "conv2.weight is (64, 64, 1, 1), expected (64, 64, 3, 3)" in message
    assert "conv1.weight is missing" in message
    assert "\n" not in message


class Hostile:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none.pth", None, "no such model file"),
        ("empty.pth", b"", "not a PyTorch checkpoint"),
        ("text.pth", b"hello", "refused|not a PyTorch"),
        ("hostile.pth", pickle.dumps(Hostile()), "refused|not a PyTorch"),
        ("text.safetensors", b"hello there, this is no tensor", "not a safetensors file"),
        ("text.onnx", b"\xff\xff\xff", "not an ONNX file"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content, expected: str, capsys) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=expected) as caught:
        checkpoints.load_hrnet(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_hostile_zip_checkpoint_names_what_it_wanted(tmp_path: Path, capsys) -> None:
    torch.save({"state_dict": Hostile()}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"refused .*asks to run 'print'"):
        checkpoints.load_hrnet(tmp_path / "a.pth")
    assert capsys.readouterr().out == ""


def test_modules_that_pytorch_blocks_are_named_too(tmp_path: Path) -> None:
    class Worse:
        def __reduce__(self):
            return (os.system, ("true",))

    torch.save({"state_dict": Worse()}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"refused .*asks to run '(posix|nt)\.system'"):
        checkpoints.load_hrnet(tmp_path / "a.pth")


def test_tensors_of_something_else(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="no HRNet parameters"):
        checkpoints.load_hrnet(tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "b.pth")
    with pytest.raises(ModelError, match="holds a list"):
        checkpoints.load_hrnet(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("name", "joints", "input_hw", "sigma"),
    [
        ("pose_hrnet_w32_256x192.pth", 17, (256, 192), 2.0),
        ("pose_hrnet_w48_384x288.pth", 17, (384, 288), 3.0),
        ("td-hm_hrnet-w32_udp-8xb64-210e_coco-384x288-9a3f7c85_20220914.pth", 17, (384, 288), 3.0),
        ("hrnet_w32_mpii_256x256-6c4f923f_20200812.pth", 16, (256, 256), 2.0),
        ("model_best.pth", 16, (256, 256), 2.0),
        ("model_best.pth", 17, (256, 192), 2.0),
    ],
)
def test_bare_weights_get_the_official_input(
    tmp_path: Path, name: str, joints: int, input_hw: tuple[int, int], sigma: float
) -> None:
    network = HRNet(HRNetConfig(joints=joints, width=8, modules=(1, 1, 1), blocks=1))
    torch.save(network.state_dict(), tmp_path / name)
    _, said = checkpoints.load_hrnet(tmp_path / name)
    assert (said.input_hw, said.sigma, len(said.skeleton)) == (input_hw, sigma, joints)
    assert said.unbiased == ("udp" in name)
    again = info.from_metadata(said.metadata(), name)
    assert again is not None
    assert again.unbiased == said.unbiased
