"""Packs, and the training from them on a machine that lacks most packages."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hrtrack.cli import main
from hrtrack.configs.pose_schema import TrainConfig, load_config
from hrtrack.datasets.people import People
from hrtrack.errors import ConfigError, DataError, UsageError
from hrtrack.models.checkpoints import load_hrnet, load_weights
from hrtrack.models.detector.network import onnx_input_hw
from hrtrack.train.pose.data.crop_cache import cache_crops
from hrtrack.train.pose.data.loader import Batch, batches
from hrtrack.train.pose.data.plan import Plan
from hrtrack.train.pose.data.pseudo_labels import (
    training_people,
    validation_people,
    write_pseudo_labels,
)
from hrtrack.train.pose.data.shards import device_crops, packed_crops, read_shards, write_shards
from hrtrack.train.pose.loop import train_pose
from hrtrack.train.pose.pack import pack_people
from hrtrack.train.pose.throughput import measure_throughput
from hrtrack.train.pose.validate import validate
from tests.train.asked import count_replays
from tests.train.detector.test_fit import config as detector_config
from tests.train.detector.test_fit import make_set

CPU = torch.device("cpu")
LACKING = ("av", "openvino", "pycocotools", "pooch", "tensorboard")
"""Of what `hrtrack` imports when it trains a detector, what a rented machine does not have."""
BARE = (*LACKING, "matplotlib", "scipy", "PIL", "onnxscript", "onnxruntime", "platformdirs")
"""The same of a pose training; docs/gpu_training.md names what is there."""
LOSSLESS = 101


def _run(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _without(folder: Path, packages: tuple[str, ...]) -> Path:
    """The command line as a script, for which ``packages`` are not installed."""
    script = folder / "bare.py"
    start = f"for name in {packages}: sys.modules[name] = None\n"
    script.write_text(f"import sys\n{start}from hrtrack.cli import main\nmain()\n")
    return script


def _people(sticks: Path) -> People:
    return training_people(load_config("tiny", [f"data.root={sticks}"]).data)


def test_packs_keep_people_and_their_limit(sticks: Path, tmp_path: Path) -> None:
    people = _people(sticks)
    paths = write_shards(people, tmp_path, "train", side=64, padding=1.25, megabytes=0.1)
    assert len(paths) > 1
    assert max(path.stat().st_size for path in paths) <= 100_000
    packed = read_shards(tmp_path, "train")
    assert packed.skeleton == people.skeleton
    cached = packed_crops(packed, CPU)
    assert len(cached.crops) == len(packed.repeats) == len(people)
    wanted = cache_crops(people, 64, 1.25, CPU)
    for name in ("boxes", "points", "weights"):
        assert torch.equal(getattr(cached, name), getattr(wanted, name))
    assert (cached.crops.float() - wanted.crops.float()).abs().mean() < 6
    # A person's area is to the box's as in the photo.
    sides = packed.boxes[:, 2:] - packed.boxes[:, :2]
    photo = people.boxes[:, 2:] - people.boxes[:, :2]
    np.testing.assert_allclose(
        packed.areas / sides.prod(axis=1), people.areas / photo.prod(axis=1), rtol=1e-3
    )


def test_what_is_no_pack_is_named(sticks: Path, tmp_path: Path) -> None:
    people = _people(sticks)
    with pytest.raises(DataError, match=r"there are no shards train_NN.npz in .*hrtrack data pack"):
        read_shards(tmp_path, "train")
    (path,) = write_shards(people, tmp_path, "train", side=64, padding=1.25)
    few = people.chosen(np.arange(4))
    write_shards(few, tmp_path, "train_1", side=32, padding=1.25)
    with pytest.raises(
        DataError, match=r"train_1_00.npz was packed with a side of 32 pixels, .*64"
    ):
        packed_crops(read_shards(tmp_path, "train"), CPU)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"cannot read the shard .*train_00"):
        read_shards(tmp_path, "train")
    with pytest.raises(ConfigError, match=r"unknown key 'data\.shard'"):
        load_config("tiny", ["data.shard=packs"])
    with pytest.raises(ConfigError, match=r"data: give at least one set under train, or shards"):
        load_config("tiny", ["data.train=[]"])
    packed = load_config("tiny", ["data.shards=packs", "data.train=[]"])
    with pytest.raises(ConfigError, match=r"data\.shards: these people are packed already"):
        list(pack_people(packed, tmp_path))
    with pytest.raises(ConfigError, match=r"data\.shards: judge the labels of the photos"):
        list(write_pseudo_labels(packed, None, tmp_path, quiet=True))  # type: ignore[arg-type]


def test_a_damaged_square_is_an_unreadable_photo(sticks: Path, tmp_path: Path) -> None:
    few = _people(sticks).chosen(np.arange(4))
    (path,) = write_shards(few, tmp_path, "train", side=64, padding=1.25)
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}
    columns["pictures"][columns["ends"][0] : columns["ends"][1]] = 0
    np.savez(path, **columns)
    cached = packed_crops(read_shards(tmp_path, "train"), CPU)
    assert cached.unreadable == {1}
    assert not cached.weights[1].any()
    assert cached.weights[2].any()


def _batches(config: TrainConfig, count: int) -> list[Batch]:
    """The first batches of a training of these people."""
    people = training_people(config.data)
    draws = Plan(config, people.repeats).parts(0, 0)
    parts = [next(draws) for _ in range(count)]
    if config.data.resident:
        return list(device_crops(people, config, CPU).batches(parts))
    return list(batches(people, config, parts))


def _packed(sticks: Path, folder: Path, *more: str) -> tuple[TrainConfig, TrainConfig]:
    """A training of photos, and the same of lossless packs of them, which are small."""
    settings = ["fit.batch=32", "data.resident_side=96", *more]
    photos = load_config("tiny", [f"data.root={sticks}", *settings])
    for name, people in (
        ("train", training_people(photos.data)), ("val", validation_people(photos.data))
    ):  # fmt: skip
        assert people is not None
        write_shards(
            people, folder, name, side=96, padding=photos.input.padding, quality=LOSSLESS,
            kind="webp", megabytes=0.5,
        )  # fmt: skip
    # Neither photos nor labels are looked for.
    where = [f"data.root={folder.parent}", f"data.shards={folder.name}"]
    return photos, load_config("tiny", [*where, *settings])


def test_packs_give_the_batches_of_the_photos(sticks: Path, tmp_path: Path) -> None:
    resident = _packed(sticks, tmp_path, "data.resident=true")
    for one, other in zip(*(_batches(config, 4) for config in resident), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))
    # A loader cuts packed people a second time, so that their crops are a little softer.
    loaded = [
        config.model_copy(update={"data": config.data.model_copy(update={"resident": False})})
        for config in resident
    ]
    for one, other in zip(*(_batches(config, 4) for config in loaded), strict=True):
        labelled = one.weights > 0
        torch.testing.assert_close(one.points[labelled], other.points[labelled], atol=0.02, rtol=0)
        assert torch.equal(one.weights, other.weights)
        assert (one.outside == other.outside).float().mean() > 0.99
        assert (one.crops.float() - other.crops.float()).abs().mean() < 8


def test_webp_needs_less_room(sticks: Path, tmp_path: Path) -> None:
    people = _people(sticks)
    sizes, crops = [], []
    for kind in ("jpg", "webp"):
        (path,) = write_shards(people, tmp_path, kind, side=64, padding=1.25, quality=75, kind=kind)
        sizes.append(path.stat().st_size)
        crops.append(packed_crops(read_shards(tmp_path, kind), CPU).crops.float())
    assert sizes[1] < 0.9 * sizes[0]
    assert (crops[0] - crops[1]).abs().mean() < 8


def test_a_teacher_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", "pack", "tiny", str(tmp_path), "teacher.model=net.onnx"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "hrtrack: teacher.model: no file net.onnx\n"


@pytest.fixture(scope="module")
def teacher(sticks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for the joints of the sticks as public exports are."""
    pytest.importorskip("onnx")
    from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise

    network = HRNet(HRNetConfig(len(_people(sticks).skeleton), 8, (1, 1, 1), 1))
    torch.manual_seed(0)
    initialise(network, "he")
    torch.nn.init.normal_(network.final_layer.weight, std=0.1)
    file = tmp_path_factory.mktemp("teacher") / "net.onnx"
    torch.onnx.export(network.eval(), (torch.zeros(1, 3, 96, 64),), str(file), dynamo=False)
    return file


def _same_weights(a: Path, b: Path) -> bool:
    one, other = load_weights(a)[0], load_weights(b)[0]
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_training_from_packs_with_a_teacher_is_stopped_and_goes_on(
    sticks: Path, teacher: Path, tmp_path: Path
) -> None:
    """Time that is up ends one call of a training and leaves the outcome alone."""
    (tmp_path / "packs").mkdir()
    more = [f"teacher.model={teacher}", "fit.steps=3", "fit.batch=8", "data.resident=true"]
    photos, packed = _packed(sticks, tmp_path / "packs", *more)

    def trained(config: TrainConfig, name: str, until: float = math.inf) -> Path:
        resume = (tmp_path / name).exists()
        return train_pose(
            config, tmp_path / name, device="cpu", quiet=True, until=until, resume=resume
        )

    whole = trained(packed, "whole")
    for step in range(1, 3):
        halves = trained(packed, "halves", time.monotonic())
        saved = torch.load(tmp_path / "halves/state.pt", weights_only=True)
        assert saved["step"] == step
        assert not _same_weights(whole, halves)
    assert _same_weights(whole, trained(packed, "halves"))
    assert saved["head"]["deviation"].all()
    assert saved["head"]["levels.0.weight"].any()
    # Photos give the same, and nothing of the teacher another.
    assert _same_weights(whole, trained(photos, "photos"))
    alone = packed.model_copy(update={"teacher": None})
    assert not _same_weights(whole, trained(alone, "alone"))


@pytest.mark.slow
def test_a_teacher_sees_crops_on_the_device_as_in_the_loader(
    sticks: Path, teacher: Path, tmp_path: Path
) -> None:
    """Cached crops and the loader's differ in what happens to them and not in who looks."""
    calm = "augment={flip: 0}"
    settings = [f"data.root={sticks}", f"teacher.model={teacher}", "fit.steps=3", "fit.batch=8"]
    losses = {}
    for resident in ("false", "true"):
        told = load_config("tiny", [*settings, calm, "data.val=null", f"data.resident={resident}"])
        folder = tmp_path / resident
        train_pose(told, folder, device="cpu", quiet=True, log_every=1)
        with (folder / "train.csv").open(newline="") as file:
            losses[resident] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses["true"] == pytest.approx(losses["false"], rel=0.02)
    found = measure_throughput(told, device="cpu", seconds=0.1)
    assert found.real > 0


@pytest.mark.gpu
def test_a_teacher_is_part_of_a_recorded_step(
    sticks: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays = count_replays(monkeypatch)
    settings = [f"data.root={sticks}", f"teacher.model={teacher}", "data.val=null", "fit.steps=6"]
    config = load_config("tiny", [*settings, "data.resident=true"])
    train_pose(config, tmp_path, device="cuda", quiet=True)
    assert len(replays) == 6


def test_several_processes_have_no_common_clock() -> None:
    from hrtrack.trainer.loop import Trainer
    from hrtrack.trainer.processes import Team

    with pytest.raises(UsageError, match="a time limit follows one clock"):
        Trainer(None, None, Team(0, 2, CPU), until=1.0)  # type: ignore[arg-type]


@pytest.mark.slow
def test_from_packed_photos_to_a_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a rented GPU lacks is not needed there."""
    make_set(tmp_path / "set", 12)
    tiny = detector_config(tmp_path / "set", steps=3, precision="fp32").model_dump(mode="json")
    del tiny["fit"]["minutes"], tiny["teacher"]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    words = ["data", "pack", str(tmp_path / "tiny.yaml"), str(tmp_path / "packs")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--side", "80", "--megabytes", "0.01"])
    assert not ended.value.code
    said = capsys.readouterr().out
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
    bare = _without(tmp_path, LACKING)
    words = ["train", tmp_path / "there/config.yaml"]
    there = f"data.root={tmp_path / 'there'}"
    said = _run(bare, *words, there, "--quiet", "--output", tmp_path / "out")
    assert onnx_input_hw(Path(said.strip())) == (64, 96)


@pytest.mark.slow
def test_from_packs_to_weights_without_most_packages(
    sticks: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packs, bare = tmp_path / "packs", _without(tmp_path, BARE)
    settings = [f"data.root={sticks}", "fit.batch=16", "fit.ema=0.9", "data.resident=true"]
    settings += [f"teacher.model={teacher}", "fit.store=fp16"]
    with pytest.raises(SystemExit) as ended:
        main(["data", "pack", "tiny", str(packs), "--side", "96", *settings])
    assert not ended.value.code
    assert "train: 96 people, 1 packs" in capsys.readouterr().out
    train = [bare, "train", packs / "config.yaml", f"data.root={packs}", "--quiet"]
    train += [f"teacher.model={packs / 'teacher.onnx'}", "--output", tmp_path / "out"]
    _run(*train, "fit.steps=12", "--time-limit", 0.1)
    said = _run(*train, "fit.steps=12", "--resume")
    weights = Path(said.strip())
    network, described = load_hrnet(weights)
    assert described.input_hw == (64, 64)
    assert described.skeleton.joints[0] == "head"
    assert network.config.width == 8
    assert weights.stat().st_size < 1.5e6
    rows = list(csv.DictReader((tmp_path / "out/train.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 12]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    # Where the machine was given back, the weights that came back are the start.
    words = [*train[:-1], tmp_path / "again", "fit.steps=1", "teacher=null"]
    _run(*words, "--init", weights)
    begun = next(csv.DictReader((tmp_path / "again/train.csv").open()))
    afresh = ["fit.steps=1", "teacher=null", f"data.root={packs}"]
    train_pose(
        load_config(packs / "config.yaml", afresh), tmp_path / "afresh", device="cpu", quiet=True
    )
    afresh = next(csv.DictReader((tmp_path / "afresh/train.csv").open()))
    assert float(begun["loss"]) < float(afresh["loss"])


@pytest.mark.slow
def test_a_packed_validation_agrees_with_the_trainings_own(sticks: Path, tmp_path: Path) -> None:
    settings = [f"data.root={sticks}", "fit.steps=25", "fit.val_every=100"]
    config = load_config("tiny", settings)
    path = train_pose(config, tmp_path / "run", device="cpu", quiet=True)
    network, described = load_hrnet(path)
    people = validation_people(config.data)
    assert people is not None
    write_shards(people, tmp_path, "val", side=160, padding=1.25, quality=95)
    packed = read_shards(tmp_path, "val")
    direct, again = (validate(network, p, described, config, CPU) for p in (people, packed))
    assert np.abs(again.crops.astype(float) - direct.crops).mean() < 8
    np.testing.assert_allclose(again.labelled[..., :2], direct.labelled[..., :2], atol=0.01)
    # Cut twice and compressed, the crops are a little softer.
    assert again.oks == pytest.approx(direct.oks, abs=0.06)
