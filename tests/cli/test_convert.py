"""A checkpoint is converted at its first use; later uses need no PyTorch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from hrtrack.cli import main
from hrtrack.cli.export import convert
from hrtrack.errors import BackendError, ModelError
from hrtrack.models import zoo
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.skeleton import COCO17, MPII16, Skeleton, by_name
from hrtrack.tracker.inference.open import open_network


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def openmmlab(path: Path, config: HRNetConfig, head: str = "keypoint_head.") -> Path:
    """A random checkpoint in OpenMMLab's layout: a backbone and a head, beside a meta entry."""
    torch.manual_seed(0)
    network = HRNet(config)
    initialise(network, "he")
    state = {
        (head if name.startswith("final_layer.") else "backbone.") + name: value
        for name, value in network.state_dict().items()
    }
    torch.save({"meta": {"epoch": 210}, "state_dict": state}, path)
    return path


SMALL = HRNetConfig(width=16, modules=(1, 1, 1), blocks=1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return openmmlab(tmp_path / "td-hm_hrnet_udp_coco-64x64.pth", SMALL)


def never(checkpoint: Path, onnx: Path, skeleton: Skeleton | None) -> None:
    raise AssertionError("converted again")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
import numpy as np
from hrtrack.tracker.inference.open import open_network
network = open_network({model!r}, precision="fp32")
crops = np.load({crops!r})
np.save({found!r}, network(crops)["keypoints"])
print(network.describe())
"""


HAND = "hrnetv2_w18_onehand10k_256x256"


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        # Of 2021, as the published files are, and as OpenMMLab has called the parts since 1.0.
        (HAND, "keypoint_head.final_layer.", "keypoint_head.final_layer.3."),
        pytest.param(
            HAND + "_udp", "head.conv_layers.", "head.final_layer.", marks=pytest.mark.slow
        ),
    ],
)
def test_a_hand_network_reads_all_four_resolutions(
    name: str, first: str, last: str, tmp_path: Path
) -> None:
    """The exact names and shapes of HRNetV2-W18 with its fused head."""
    entry = next(entry for entry in zoo.PUBLIC if entry.name == name)
    torch.manual_seed(0)
    network = HRNet(HRNetConfig(joints=21, width=18, fused=True)).eval()
    initialise(network, "he")
    assert entry.params == pytest.approx(
        sum(value.numel() for value in network.parameters()) / 1e6, abs=0.1
    )
    own = network.state_dict()
    assert own["stage4.2.fuse_layers.3.0.0.0.weight"].shape == (18, 18, 3, 3)
    assert own["final_layer.0.weight"].shape == (270, 270, 1, 1)
    assert own["final_layer.3.weight"].shape == (21, 270, 1, 1)
    state = {}
    for key, value in own.items():
        if key.startswith("final_layer.3."):
            state[last + key.removeprefix("final_layer.3.")] = value
        elif key.startswith("final_layer."):
            state[first + key.removeprefix("final_layer.")] = value
        else:
            state["backbone." + key] = value
    path = tmp_path / str(entry.url).rsplit("/", 1)[1]
    torch.save({"meta": {}, "state_dict": state}, path)
    loaded, info = load_hrnet(path)
    assert loaded.config == network.config
    assert info.skeleton.name == entry.skeleton == "onehand21"
    assert info.input_hw == entry.input_hw
    assert info.unbiased == ("udp" in name)
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        maps, expected = loaded(image), by_the_paper(network, image)
    assert (maps - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.slow
def test_a_small_hand_network_is_converted(tmp_path: Path) -> None:
    config = replace(SMALL, joints=21, fused=True)
    path = openmmlab(tmp_path / "hrnetv2_w16_onehand10k_64x64.pth", config)
    crops = drawn_crops((64, 64), 2)
    by_torch = open_network(path, device="cpu", backend="torch")(crops)["keypoints"]
    answers = open_network(path, precision="fp32", convert=convert)(crops)["keypoints"]
    assert answers.shape == (2, 21, 3)
    assert np.allclose(answers, by_torch, atol=0.01, rtol=1e-3)


def by_the_paper(network: HRNet, image: torch.Tensor) -> torch.Tensor:
    """HRNetV2's head on the four outputs of the last stage, resized by a method of its own: the
    mean of the four nearest samples, weighted by their distances."""
    outputs: list[torch.Tensor] = []
    hook = network.stage4.register_forward_hook(lambda _, __, found: outputs.extend(found))
    network.features(image)
    hook.remove()
    size = outputs[0].shape[2:]
    grown = []
    for one in outputs:
        for axis, side in enumerate(size, 2):
            at = (torch.arange(side) + 0.5) * one.shape[axis] / side - 0.5
            at = at.clamp(0, one.shape[axis] - 1)
            low = at.floor().long()
            high = (low + 1).clamp(max=one.shape[axis] - 1)
            part = (at - low).reshape((-1, 1) if axis == 2 else (1, -1))
            one = one.index_select(axis, low) * (1 - part) + one.index_select(axis, high) * part
        grown.append(one)
    maps: torch.Tensor = network.final_layer(torch.cat(grown, dim=1))
    return maps


def test_once_and_then_without_torch(checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    crops = drawn_crops((64, 64), 3)
    by_torch = open_network(checkpoint, device="cpu", backend="torch")(crops)["keypoints"]
    first = open_network(checkpoint, precision="fp32", convert=convert)
    assert "OpenVINO" in first.describe()
    assert first.info.unbiased
    assert first.skeleton == COCO17
    near = np.abs(first(crops)["keypoints"] - by_torch)[..., :2].max(axis=2) < 0.5
    assert near.mean() > 0.95
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    kept = cache / "converted" / digest[:16] / f"{checkpoint.stem}.onnx"
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert [path for path in files if path.parent.name != "compiled"] == [kept]

    open_network(checkpoint, convert=never).close()
    assert "OpenVINO" in open_network(checkpoint).describe()
    np.save(tmp_path / "crops.npy", crops)
    code = WITHOUT_TORCH.format(
        model=str(checkpoint), crops=str(tmp_path / "crops.npy"), found=str(tmp_path / "found.npy")
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "64x64 coco17 on OpenVINO" in run.stdout
    np.testing.assert_allclose(
        np.load(tmp_path / "found.npy"), first(crops)["keypoints"], atol=1e-3
    )


@pytest.mark.slow
def test_another_file_of_that_name_is_converted_anew(checkpoint: Path, cache: Path) -> None:
    open_network(checkpoint, convert=convert).close()
    openmmlab(checkpoint, HRNetConfig(width=16, modules=(1, 1, 1), blocks=1, joints=16), "head.")
    assert open_network(checkpoint, convert=convert).skeleton == MPII16
    assert len(list(cache.rglob("*.onnx"))) == 2


def test_joints_that_only_the_user_knows(tmp_path: Path, cache: Path) -> None:
    eleven = Skeleton("mine", tuple(f"j{i}" for i in range(11)), ((0, 1),), (), (0.05,) * 11)
    path = openmmlab(tmp_path / "mine-64x64.pth", replace(SMALL, joints=11))
    with pytest.raises(ModelError, match="predicts 11 joints"):
        open_network(path, convert=convert)
    assert open_network(path, convert=convert, skeleton=eleven).skeleton == eleven
    assert open_network(path, convert=never, skeleton=eleven).skeleton == eleven
    with pytest.raises(ModelError, match="predicts 11 joints"):
        open_network(path, convert=convert)


def test_without_a_converter_torch_runs_it(checkpoint: Path, cache: Path) -> None:
    assert "PyTorch" in open_network(checkpoint, device="cpu").describe()
    assert not cache.exists()


def test_what_cannot_be_converted_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint"):
        open_network(broken, convert=convert)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="HRTRACK_CACHE moves the cache"):
        convert(broken, tmp_path / "file" / "below" / "broken.onnx")


def test_the_first_use_without_torch_says_what_to_install(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match=r"its first use, which converts it, needs PyTorch"):
        open_network(checkpoint, convert=never)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
def test_a_name_is_downloaded_checked_converted_and_tracked(
    checkpoint: Path,
    served: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digits = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    file = checkpoint.rename(tmp_path / f"hrnet_coco_64x64-{digits}_20200708.pth").name
    known = zoo.Entry("some-hrnet", "pose", served + file, digits, "none", "test")
    monkeypatch.setattr(zoo, "PUBLIC", (known,))
    picture = tmp_path / "black.png"
    import cv2

    cv2.imwrite(str(picture), np.zeros((90, 160, 3), np.uint8))
    for out in ("one.jsonl", "two.jsonl"):
        with pytest.raises(SystemExit) as ended:
            main([str(picture), "--model", "some-hrnet", "--save", str(tmp_path / out)])
        assert ended.value.code == 0
        assert json.loads((tmp_path / out).read_text())["skeleton"] == "coco17"
        assert "64x64 coco17 on OpenVINO" in capsys.readouterr().err
        (tmp_path / file).unlink(missing_ok=True)  # the second run downloads nothing
    assert len(list(cache.rglob("*.onnx"))) == 1


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("hrnet_w32_coco_256x192", "keypoint_head."),
        ("td-hm_hrnet-w48_udp-8xb32-210e_coco-384x288", "head."),
        *(
            pytest.param(name, "keypoint_head.", marks=pytest.mark.slow)
            for name in (
                "hrnet_w48_mpii_256x256",
                "hrnet_w32_coco_wholebody_384x288",
                "hrnet_w32_aic_256x192",
                "hrnet_w32_crowdpose_256x192",
                "hrnet_w32_ap10k_256x256",
            )
        ),
    ],
)
def test_openmmlab_files_have_the_entry_s_facts(
    name: str, head: str, shared: Path, tmp_path: Path
) -> None:
    """State dicts of the official names and shapes, with the entry's number of joints."""
    entry = next(entry for entry in zoo.PUBLIC if entry.name == name)
    width = "w32" if "w32" in name else "w48"
    shapes = json.loads((shared / f"golden/hrnet_{width}_coco_state_dict.json").read_text())
    joints = len(by_name(entry.skeleton))
    state = {}
    for key, shape in shapes.items():
        final = key.startswith("final_layer.")
        # One zero for all places, so that the file is small.
        value = torch.zeros(()).expand([joints, *shape[1:]] if final else shape)
        state[(head if final else "backbone.") + key] = value
    path = tmp_path / str(entry.url).rsplit("/", 1)[1]
    torch.save({"meta": {}, "state_dict": state}, path)
    network, info = load_hrnet(path)
    assert info.skeleton.name == entry.skeleton
    assert info.input_hw == entry.input_hw
    assert info.unbiased == ("udp" in name)
    assert info.sigma == (3.0 if entry.input_hw == (384, 288) else 2.0)
    millions = sum(value.numel() for value in network.parameters()) / 1e6
    assert entry.params == pytest.approx(millions, abs=0.1)
