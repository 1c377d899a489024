"""Packs, and the training from them on a machine that lacks most packages."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hrtrack.configs.pose_schema import load_config
from hrtrack.errors import DataError
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.detector.network import onnx_input_hw
from hrtrack.train.pose.data.crop_cache import cache_crops
from hrtrack.train.pose.data.pseudo_labels import open_people
from hrtrack.train.pose.data.shards import read_shards, write_shards
from tests.train.detector.test_fit import config, make_set

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
ABSENT = ("pydantic", "av", "openvino", "pycocotools", "pooch", "click", "tensorboard", "onnx")
LACKING = ("av", "openvino", "pycocotools", "pooch", "tensorboard")
BARE = f"""
import runpy, sys
for name in {ABSENT}:
    sys.modules[name] = None
import torch
torch.set_num_threads(1)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _run(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_packs_keep_people_and_their_limit(sticks: Path, tmp_path: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}"])
    people = open_people(config.data, config.data.train)
    paths = write_shards(people, tmp_path, "train", side=64, padding=1.25, megabytes=0.1)
    assert len(paths) > 1
    assert max(path.stat().st_size for path in paths) <= 100_000
    cached, labels = read_shards(paths, CPU)
    assert len(cached.crops) == len(labels.repeats) == len(people)
    wanted = cache_crops(people, 64, 1.25, CPU)
    for name in ("boxes", "points", "weights"):
        torch.testing.assert_close(getattr(cached, name), getattr(wanted, name))
    assert (cached.crops.float() - wanted.crops.float()).abs().mean() < 6
    # A person's area is to the box's as in the photo.
    sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
    photo = people.boxes[:, 2:] - people.boxes[:, :2]
    np.testing.assert_allclose(
        labels.areas / sides.prod(axis=1), people.areas / photo.prod(axis=1), rtol=1e-3
    )
    paths[0].write_bytes(paths[0].read_bytes()[:500])
    with pytest.raises(DataError, match=r"cannot read the shard .*train_00"):
        read_shards(paths, CPU)
    with pytest.raises(DataError, match="no shards"):
        read_shards([], CPU)


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    words = ["-m", "hrtrack", "data", "pack", "tiny", tmp_path, "teacher.model=net.onnx"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "hrtrack: teacher.model: no file net.onnx\n"


def test_webp_needs_less_room(sticks: Path, tmp_path: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}"])
    people = open_people(config.data, config.data.train)
    sizes, crops = [], []
    for kind in ("jpg", "webp"):
        (path,) = write_shards(people, tmp_path, kind, side=64, padding=1.25, quality=75, kind=kind)
        sizes.append(path.stat().st_size)
        crops.append(read_shards([path], CPU)[0].crops.float())
    assert sizes[1] < 0.9 * sizes[0]
    assert (crops[0] - crops[1]).abs().mean() < 8


@pytest.mark.slow
def test_a_teacher_travels_with_the_packs(sticks: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise

    people = open_people((data := load_config("tiny", [f"data.root={sticks}"]).data), data.train)
    teacher = HRNet(HRNetConfig(len(people.skeleton), 8, (1, 1, 1), 1))
    initialise(teacher, "he")
    file = tmp_path / "net.onnx"
    torch.onnx.export(teacher.eval(), (torch.zeros(1, 3, 96, 64),), str(file), dynamo=False)
    packs, out = tmp_path / "packs", tmp_path / "out"
    words = [f"data.root={sticks}", "fit.batch=16", f"teacher.model={file}"]
    _run("-m", "hrtrack", "data", "pack", "tiny", packs, "--side", 96, *words)
    train = [ROOT / "scripts/gpu_train.py", "--packs", packs, "--device", "cpu"]
    state = ["--state", tmp_path / "state.pt", "--output", out]
    _run(*train, "--steps", 8, "--part", 0, 0.5, *state)
    _run(*train, "--steps", 8, "--part", 0.5, 1, *state)
    _, described = load_hrnet(out / "weights.safetensors")
    assert described.input_hw == (64, 64)
    # What the student guesses of the teacher's features is learnt on and not begun anew.
    learner = torch.load(tmp_path / "state.pt", weights_only=True)["learner"]
    assert learner["guess.deviation"].all()
    assert learner["guess.levels.0.weight"].abs().sum() > 0


@pytest.mark.slow
def test_from_packed_photos_to_a_detector(tmp_path: Path) -> None:
    """What a borrowed GPU lacks, pydantic aside, is not needed there."""
    make_set(tmp_path / "set", 12)
    tiny = config(tmp_path / "set", steps=3, precision="fp32").model_dump(mode="json")
    del tiny["fit"]["minutes"], tiny["teacher"]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    words = ["-m", "hrtrack", "data", "pack", tmp_path / "tiny.yaml", tmp_path / "packs"]
    said = _run(*words, "--side", 80, "--megabytes", 0.01)
    parts = sorted((tmp_path / "packs").glob("part_*.zip"))
    assert f"{len(parts)} parts" in said
    assert len(parts) > 2
    assert all(part.stat().st_size <= 10_000 for part in parts)
    for part in parts:
        zipfile.ZipFile(part).extractall(tmp_path / "there")
    boxes = json.loads((tmp_path / "there/set_0/boxes.json").read_text())
    before = json.loads((tmp_path / "set/people.json").read_text())
    assert len(boxes["images"]) == 12
    for now, then in zip(boxes["annotations"], before["annotations"], strict=True):
        np.testing.assert_allclose(now["bbox"], np.array(then["bbox"]) * 0.8, atol=0.01)
    bare = tmp_path / "bare.py"
    start = "for name in {}: sys.modules[name] = None\nfrom hrtrack.cli import main\nmain()\n"
    bare.write_text("import sys\n" + start.format(LACKING))
    words = ["train", tmp_path / "there/config.yaml"]
    there = f"data.root={tmp_path / 'there'}"
    said = _run(bare, *words, there, "--quiet", "--output", tmp_path / "out")
    assert onnx_input_hw(Path(said.strip())) == (64, 96)


@pytest.mark.slow
def test_from_packs_to_weights_without_most_packages(sticks: Path, tmp_path: Path) -> None:
    packs, out, bare = tmp_path / "packs", tmp_path / "out", tmp_path / "bare.py"
    bare.write_text(BARE)
    settings = [f"data.root={sticks}", "fit.batch=16", "fit.ema=0.9"]
    said = _run("-m", "hrtrack", "data", "pack", "tiny", packs, "--side", 96, *settings)
    assert "train: 96 people, 1 packs" in said
    train = [bare, ROOT / "scripts/gpu_train.py", "--packs", packs, "--device", "cpu"]
    state = ["--state", tmp_path / "state.pt"]
    _run(*train, "--steps", 12, "--part", 0, 0.6, *state, "--output", out / "a")
    _run(*train, "--minutes", 0.1, "--part", 0.6, 1, *state, "--output", out / "b")
    network, described = load_hrnet(out / "b" / "weights.safetensors")
    assert described.input_hw == (64, 64)
    assert described.skeleton.joints[0] == "head"
    assert network.config.width == 8
    assert (out / "b" / "weights.safetensors").stat().st_size < 1.5e6
    # Where the machine was given back, the weights that came back are the start.
    weights = out / "a" / "weights.safetensors"
    said = _run(*train, "--steps", 1, "--output", out / "c", "--init", weights)
    assert "PCKh@0.5 oks 0." in said
    a, b, c = (list(csv.DictReader((out / part / "log.csv").open())) for part in "abc")
    # The second call goes on where the first one ended, in steps and in the schedule.
    assert int(a[-1]["step"]) == 12
    assert int(b[0]["step"]) > 12
    assert 0.5 < float(a[-1]["share"]) < 0.6 <= float(b[0]["share"])
    assert float(c[0]["loss"]) < float(a[0]["loss"])


@pytest.mark.slow
def test_a_packed_validation_agrees_with_the_trainings_own(sticks: Path, tmp_path: Path) -> None:
    from hrtrack.geometry import transform
    from hrtrack.models.info import PoseInfo
    from hrtrack.train.pose.data.shards import ShardedPeople
    from hrtrack.train.pose.loop import train_pose
    from hrtrack.train.pose.validate import upright_crops, validate

    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import gpu_train
    finally:
        sys.path.pop(0)
    settings = [f"data.root={sticks}", "fit.steps=25", "fit.val_every=100"]
    config = load_config("tiny", settings)
    path = train_pose(config, tmp_path / "run", device="cpu", quiet=True)
    network, described = load_hrnet(path)
    assert config.data.val is not None
    people = open_people(config.data, [config.data.val])
    paths = write_shards(people, tmp_path, "val", side=160, padding=1.25, quality=95)
    given = gpu_train.namespace(config.model_dump(mode="json"))
    info = PoseInfo(people.skeleton, described.input_hw, described.sigma)
    packed = ShardedPeople(*read_shards(paths, CPU), info, given)
    rows, crops, affines = next(upright_crops(people, described.input_hw, config.input.padding))
    seen = torch.cat([batch.crops for batch in packed.batches]).numpy()
    assert np.abs(seen.astype(float) - crops).mean() < 8
    np.testing.assert_allclose(
        packed.people.keypoints, transform(people.keypoints[rows], affines), atol=0.01
    )
    direct = validate(network, people, described, config, CPU)
    # Cut twice and compressed, the crops are a little softer.
    assert packed(network)[1] == pytest.approx(direct.oks, abs=0.06)
