"""The pose network loads beside the command's imports: the same network, and the same faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrtrack.cli import main
from hrtrack.cli.ahead import Ahead
from hrtrack.errors import ModelError
from hrtrack.models import zoo
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.inference import open as opening
from hrtrack.tracker.options import TrackerOptions

from ..clips import moving_portrait


def test_the_network_is_the_one_that_a_tracker_opens() -> None:
    options = TrackerOptions(threads=1)
    network = Ahead(options).network()
    assert network is not None
    with Tracker.of(options) as own, Tracker.of(options, network) as given:
        assert given.network is network
        assert network.describe() == own.network.describe()


@pytest.mark.parametrize(
    "options",
    [
        TrackerOptions(backend="torch"),
        TrackerOptions("nobody.pth"),
        TrackerOptions("a.safetensors"),
    ],
)
def test_what_takes_pytorch_is_not_begun(options: TrackerOptions) -> None:
    assert Ahead(options).network() is None


def test_nothing_is_begun_where_a_gpu_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "nvidia_driver_present", lambda: True)
    assert Ahead(TrackerOptions()).network() is None


def test_a_public_model_is_neither_downloaded_nor_opened_unconverted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRTRACK_CACHE", str(tmp_path))
    options = TrackerOptions("hrnet_w32_coco_256x192")
    assert Ahead(options).network() is None
    entry = next(one for one in zoo.entries() if one.name == options.model)
    zoo.file_of(entry, tmp_path).write_bytes(b"a checkpoint")
    assert Ahead(options).network() is None


def test_a_fault_of_the_model_is_raised_when_it_is_wanted(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model at all")
    ahead = Ahead(TrackerOptions(broken))
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        ahead.network()


def test_a_wrong_source_is_told_before_a_wrong_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", 2)
    for source, told in (("nowhere.mp4", "nowhere.mp4"), (str(clip), "no_such_model")):
        with pytest.raises(SystemExit) as stop:
            main([source, "--model", "no_such_model", "--save", str(tmp_path / "out.jsonl")])
        assert stop.value.code not in (0, None)
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert told in line
