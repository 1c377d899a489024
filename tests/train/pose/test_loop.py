"""The training as a whole: it learns, survives being killed, and splits over processes."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hrtrack.configs.pose_schema import TrainConfig, load_config
from hrtrack.errors import ConfigError, DataError, ModelError
from hrtrack.models.checkpoints import load_hrnet, load_weights
from hrtrack.models.runtimes import eight_bit
from hrtrack.train.pose.loop import train_pose

from ..asked import count_replays

ROOT = str(Path(__file__).resolve().parents[3])
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}
PROGRAM = """
import sys
from hrtrack.configs.pose_schema import load_config
from hrtrack.train.pose.loop import train_pose
folder, root, *overrides = sys.argv[1:]
config = load_config("tiny", [f"data.root={root}", *overrides])
train_pose(config, folder, device="cpu", quiet=True, log_every=1)
"""
STATED_OKS = 0.85


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_tiny_reaches_its_stated_accuracy(sticks: Path, tmp_path: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}", "fit.steps=40", "fit.val_every=100"])
    path = train_pose(config, tmp_path, device="cpu", quiet=True, log_every=5)
    assert float(_rows(tmp_path / "val.csv")[-1]["oks"]) > STATED_OKS
    losses = [float(row["loss"]) for row in _rows(tmp_path / "train.csv")]
    assert len(losses) == 8
    assert losses[-1] < losses[0] - 1
    network, described = load_hrnet(path)
    assert described.skeleton.joints[0] == "head"
    assert described.input_hw == (64, 64)
    assert network.config.heatmaps == "softmax"
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    for file in (path, tmp_path / "best.safetensors"):
        # What lets CPUs compute in 8 bits: all but the last layer.
        assert len(eight_bit.from_metadata(load_weights(file)[1], file)) == len(convolutions) - 1
    for name in ("best.safetensors", "state.pt", "curves.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert list((tmp_path / "batches").glob("*.png"))
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(sticks: Path, tmp_path: Path) -> None:
    # Saved after each step, and long enough that the kill falls into the middle of it.
    settings = ["fit.steps=10", "fit.save_minutes=0", "fit.val_every=100", "fit.batch=8"]

    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "killed"), str(sticks)]
    killed = subprocess.Popen([*command, *settings], env=ENVIRONMENT)
    log = tmp_path / "killed" / "train.csv"
    deadline = time.monotonic() + 200
    while not (log.is_file() and len(log.read_text().splitlines()) > 3):
        assert killed.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=60)
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    config = load_config("tiny", [f"data.root={sticks}", *settings])
    for folder, resume in (("killed", True), ("whole", False)):
        train_pose(config, tmp_path / folder, resume=resume, device="cpu", quiet=True, log_every=1)
    whole, said = load_weights(tmp_path / "whole" / "weights.safetensors")
    again, also = load_weights(tmp_path / "killed" / "weights.safetensors")
    assert also[eight_bit.KEY] == said[eight_bit.KEY]
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    steps = [int(row["step"]) for row in _rows(log)]
    assert steps == list(range(1, 11))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_training(sticks: Path, tmp_path: Path) -> None:
    mark = f"HRTRACK_TEST_MARK={tmp_path.name}-{os.getpid()}"
    name, value = mark.split("=")
    settings = ["fit.steps=100000", "fit.batch=4", "data.workers=2"]
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run"), str(sticks)]
    killed = subprocess.Popen([*command, *settings], env={**ENVIRONMENT, name: value})

    def marked() -> list[str]:
        found = []
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark.encode() in place.read_bytes():
                    found.append(place.parent.name)
        return found

    deadline = time.monotonic() + 200
    log = tmp_path / "run" / "train.csv"
    while not (log.is_file() and len(log.read_text().splitlines()) > 1):
        assert killed.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(marked()) >= 3  # training, process of origin and a worker or two, as cores allow
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=60)
    while marked():
        assert time.monotonic() < deadline, marked()
        time.sleep(0.1)


@pytest.mark.slow
def test_two_processes_give_the_loss_of_one(sticks: Path, tmp_path: Path) -> None:
    settings = [
        "fit.steps=3", "fit.batch=8", "fit.val_every=100", "model.norm=none", "model.init=fixup",
        "fit.lr=0.0005", "data.val=null",
    ]  # fmt: skip
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    port = ["--master-addr=127.0.0.1", f"--master-port={_free_port()}"]
    tail = [str(tmp_path / "two"), str(sticks), *settings]
    subprocess.run(
        [*torchrun, *port, str(program), *tail], env=ENVIRONMENT, check=True, timeout=300
    )
    for name, more in (("one", []), ("parts", ["fit.accumulate=2"])):
        config = load_config("tiny", [f"data.root={sticks}", *settings, *more])
        train_pose(config, tmp_path / name, device="cpu", quiet=True, log_every=1)
    one, two, part = (
        np.array([float(row["loss"]) for row in _rows(tmp_path / name / "train.csv")])
        for name in ("one", "two", "parts")
    )
    assert len(one) == 3
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=0)
    np.testing.assert_allclose(part, one, atol=1e-5, rtol=0)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_init_keeps_the_trunk_and_renews_another_head(sticks: Path, tmp_path: Path) -> None:
    from hrtrack.models.checkpoints import save_weights
    from hrtrack.models.info import PoseInfo
    from hrtrack.models.pose.hrnet import HRNet
    from hrtrack.skeleton import COCO17
    from hrtrack.train.pose.data.pseudo_labels import open_people
    from hrtrack.train.pose.network import network_config, new_network

    config = load_config("tiny", [f"data.root={sticks}"])
    skeleton = open_people(config.data, config.data.train).skeleton
    donor = HRNet(network_config(config, COCO17))
    save_weights(donor, PoseInfo(COCO17, (64, 64)), tmp_path / "coco.safetensors")
    network = new_network(config, skeleton, tmp_path / "coco.safetensors")
    assert torch.equal(network.layer1[0].conv1.weight, donor.layer1[0].conv1.weight)
    assert network.final_layer.weight.shape[0] == 5
    same = new_network(config, COCO17, tmp_path / "coco.safetensors")
    assert torch.equal(same.final_layer.weight, donor.final_layer.weight)
    wider = load_config("tiny", [f"data.root={sticks}", "model.width=16"])
    with pytest.raises(ModelError, match=r"does not fit the configured network.*model\.width"):
        new_network(wider, skeleton, tmp_path / "coco.safetensors")


def test_init_from_a_classifier(sticks: Path, tmp_path: Path) -> None:
    """An ImageNet backbone has parts of its own and no heatmap layer."""
    from hrtrack.train.pose.data.pseudo_labels import open_people
    from hrtrack.train.pose.network import new_network

    config = load_config("tiny", [f"data.root={sticks}"])
    skeleton = open_people(config.data, config.data.train).skeleton
    weights = new_network(config, skeleton, None).state_dict()
    backbone = {name: value for name, value in weights.items() if not name.startswith("final")}
    classifier = {
        "classifier.weight": torch.zeros(1000, 16),
        "incre_modules.0.0.conv1.weight": torch.ones(3),
    }
    torch.save({**backbone, **classifier}, tmp_path / "imagenet.pth")
    network = new_network(config, skeleton, tmp_path / "imagenet.pth")
    assert torch.equal(network.conv1.weight, weights["conv1.weight"])
    assert network.final_layer.weight.shape[0] == 5


def of_one_step(sticks: Path, *changes: str) -> TrainConfig:
    settings = ["fit.steps=1", "fit.batch=2", "data.val=null"]
    return load_config("tiny", [f"data.root={sticks}", *settings, *changes])


def test_crops_that_bfloat16_gets_wrong_are_refused(sticks: Path, tmp_path: Path) -> None:
    narrow = of_one_step(sticks, "input.size=[64, 32]", "fit.precision=bf16")
    with pytest.raises(ConfigError, match=r"miscomputes crops of 64x32.*fp32"):
        train_pose(narrow, tmp_path / "narrow", device="cpu", quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["input.size=[64, 32]", "fit.precision=bf16"])
def test_narrow_crops_and_bfloat16_are_trained_with_each_by_itself(
    sticks: Path, tmp_path: Path, change: str
) -> None:
    config = of_one_step(sticks, change)
    assert train_pose(config, tmp_path / "run", device="cpu", quiet=True).is_file()


def test_weights_say_where_they_come_from(sticks: Path, tmp_path: Path) -> None:
    import subprocess

    from hrtrack.models import info as provenance

    path = train_pose(of_one_step(sticks, "fit.seed=7"), tmp_path / "run", device="cpu", quiet=True)
    notes = load_hrnet(path)[1].notes
    assert (notes["training"], notes["seed"]) == ("tiny", "7")
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert head.stdout.startswith(notes["commit"].removesuffix("-dirty"))
    assert provenance.commit_of(tmp_path) is None


def test_too_many_unreadable_photos_end_the_run(sticks: Path, tmp_path: Path) -> None:
    from ..sticks import write_set

    write_set(tmp_path, "train", 8, seed=3)
    for number in range(5):
        (tmp_path / "images" / f"train_{number:03d}.png").write_bytes(b"not a picture")
    settings = [f"data.root={tmp_path}", "data.val=null", "fit.batch=4", "fit.steps=2"]
    config = load_config("tiny", [*settings, "data.max_unreadable=2"])
    with pytest.raises(DataError, match=r"could not be read, the last train_00\d\.png"):
        train_pose(config, tmp_path / "run", device="cpu", quiet=True)
    config = load_config("tiny", settings)
    assert train_pose(config, tmp_path / "run", device="cpu", quiet=True).is_file()


def test_training_by_the_clock_grows_its_crops(
    sticks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tenth of a second passes each time someone looks, however busy the machine is.
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.1 * next(ticks))
    monkeypatch.setattr("hrtrack.trainer.schedule.time", clock)
    small = "{begin: 0, size: [32, 32], batch: 8, sigma: 1}"
    large = "{begin: 0.5, size: [64, 64], batch: 4, sigma: 1.5}"
    settings = ["fit.minutes=0.1", f"fit.stages=[{small}, {large}]"]
    config = load_config("tiny", [f"data.root={sticks}", "fit.val_every=1000", *settings])
    train_pose(config, tmp_path, device="cpu", quiet=True, log_every=1)
    rows = _rows(tmp_path / "train.csv")
    grown = np.diff([0, *(int(row["seen"]) for row in rows)])
    assert grown[0] == 8
    assert grown[-1] == 4
    assert float(rows[-1]["lr"]) < 0.3 * max(float(row["lr"]) for row in rows)
    assert len(_rows(tmp_path / "val.csv")) == 1
    assert (tmp_path / "state.pt").is_file()


@pytest.mark.slow
def test_resident_training_learns(sticks: Path, tmp_path: Path) -> None:
    settings = ["data.resident=true", "data.resident_side=96", "fit.steps=30", "fit.batch=8"]
    config = load_config("tiny", [f"data.root={sticks}", "data.val=null", *settings])
    train_pose(config, tmp_path, device="cpu", quiet=True, log_every=5)
    losses = [float(row["loss"]) for row in _rows(tmp_path / "train.csv")]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["gaussian", "unbiased", "distribution"])
def test_a_resident_training_on_a_gpu_is_recorded(
    sticks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    replays = count_replays(monkeypatch)
    heatmaps = "softmax" if kind == "distribution" else "linear"
    settings = [f"target.kind={kind}", f"model.heatmaps={heatmaps}", "data.resident=true"]
    words = [f"data.root={sticks}", *settings, "fit.steps=6", "fit.val_every=100"]
    config = load_config("tiny", words)
    train_pose(config, tmp_path, device="cuda", quiet=True)
    assert len(replays) == 6


@pytest.mark.gpu
@pytest.mark.parametrize("resident", ["true", "false"])
def test_training_on_a_gpu(sticks: Path, tmp_path: Path, resident: str) -> None:
    settings = [f"data.resident={resident}", "fit.steps=40", "fit.precision=bf16"]
    config = load_config("tiny", [f"data.root={sticks}", "fit.val_every=100", *settings])
    train_pose(config, tmp_path, device="cuda", quiet=True)
    assert float(_rows(tmp_path / "val.csv")[-1]["oks"]) > STATED_OKS
