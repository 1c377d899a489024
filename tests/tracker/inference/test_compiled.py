"""Kept networks: the same answers with, without and in spite of the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack import Tracker
from hrtrack.models.runtimes import compiled
from hrtrack.poses import Poses
from hrtrack.tracker.inference.backends.openvino import OpenVinoNetwork
from hrtrack.tracker.inference.detectors.openvino import OpenVinoDetector
from hrtrack.tracker.inference.open import open_network

from ...clips import canvas, portrait
from .sharing import until_shared

FILES = 5
"""Of `look`: the facts of two models, the detector, the pose network for one and for several."""


def look() -> list[Poses]:
    with Tracker() as tracker:
        found = [tracker.image(image) for image in (canvas(100), crowd())]
        assert isinstance(tracker.network, OpenVinoNetwork)
        until_shared(tracker.network)
        return [*found, tracker.image(crowd())]


def crowd() -> NDArray[np.uint8]:
    half = canvas(0)[::2, ::2]
    return np.concatenate([np.concatenate([half, half], 1)] * 2)


def assert_equal(found: list[Poses], wanted: list[Poses]) -> None:
    for one, other in zip(found, wanted, strict=True):
        for column in ("keypoints", "scores", "boxes", "person_scores", "ids"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


@pytest.fixture(scope="module")
def uncached() -> list[Poses]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRTRACK_CACHE", __file__)  # no folder can be made in a file
        found = look()
    assert [len(poses) > size for poses, size in zip(found, (0, 1, 1), strict=True)] == [True] * 3
    return found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path))
    return tmp_path / "compiled"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, uncached: list[Poses]) -> Path:
    """The cache after a first run."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRTRACK_CACHE", str(folder))
        assert_equal(look(), uncached)
    assert len(list((folder / "compiled").iterdir())) == FILES
    return folder / "compiled"


def refuse(self: object) -> None:
    raise AssertionError("what was kept is read again")


def test_kept_networks_answer_alike_bit_for_bit(
    cache: Path, filled: Path, uncached: list[Poses], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(filled, cache)
    for kind in (OpenVinoNetwork, OpenVinoDetector):
        monkeypatch.setattr(kind, "_graph", refuse)
        monkeypatch.setattr(kind, "_find_facts", refuse)
    assert_equal(look(), uncached)
    assert len(list(cache.iterdir())) == FILES


def test_what_is_damaged_is_made_anew(cache: Path, filled: Path, uncached: list[Poses]) -> None:
    """Flipped bits, half a file, an empty one, and a whole one that OpenVINO refuses."""
    shutil.copytree(filled, cache)
    names = sorted(cache.iterdir())
    networks = sorted(cache.glob("*.network"))
    facts = sorted(cache.glob("*.facts"))
    content = b"written by another version"
    foreign = compiled.MARK + hashlib.sha256(content).digest() + content
    for path, harm in zip(networks, ("flip", "half", "foreign"), strict=True):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes({"flip": data, "half": data[: len(data) // 2], "foreign": foreign}[harm])
    facts[0].write_bytes(b"")
    assert_equal(look(), uncached)
    assert sorted(cache.iterdir()) == names
    assert all(compiled._read(path) not in (None, content) for path in names)


@pytest.mark.slow
def test_two_processes_may_start_at_once(cache: Path, uncached: list[Poses]) -> None:
    code = (
        "from hrtrack import Tracker; from tests.clips import canvas;"
        "print(Tracker().image(canvas(100)).keypoints.tobytes().hex())"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said == [uncached[0].keypoints.tobytes().hex()] * 2
    assert not list(cache.glob("*.part"))


def test_precisions_are_not_mixed_up(cache: Path) -> None:
    crops: NDArray[np.uint8] | None = None
    found: dict[str, list[NDArray[np.float32]]] = {"auto": [], "fp32": []}
    for _ in range(2):
        for precision, answers in found.items():
            network = open_network("body_fast", precision=precision)  # type: ignore[arg-type]
            if crops is None:
                height, width = network.input_hw
                crops = portrait()[None, :height, :width]
            answers.append(network(crops)["keypoints"])
            network.close()
    for first, again in found.values():
        np.testing.assert_array_equal(first, again)
    assert not np.array_equal(found["auto"][0], found["fp32"][0])


def test_what_was_not_used_for_longest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "LIMIT", 3500)
    for age, name in enumerate("cba", 1):
        compiled._write(tmp_path / name, bytes(1000))
        os.utime(tmp_path / name, (time.time() - 60 * age,) * 2)
    assert compiled._read(tmp_path / "a") == bytes(1000)
    compiled._write(tmp_path / "too large", bytes(3000))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}
    compiled._write(tmp_path / "d", bytes(1000))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c", "d"}
