"""Going on with a training: only with what it began with."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hrtrack.configs.pose_schema import TrainConfig, load_config
from hrtrack.errors import ModelError
from hrtrack.train.pose import settle
from hrtrack.train.pose.loop import train_pose
from hrtrack.trainer.state import RunState, kept_choice

from ..sticks import write_set


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training of one step on a set of its own, and an untouched copy of that folder."""
    folder = tmp_path_factory.mktemp("trained")
    write_set(folder / "begun", "train", 8, seed=0)
    write_set(folder / "begun", "val", 4, seed=1)
    begun = folder / "begun"
    train_pose(config(begun), begun / "run", device="cpu", quiet=True)
    return begun, shutil.copytree(begun, folder / "untouched")


@pytest.fixture
def begun(trained: tuple[Path, Path]) -> Path:
    """The training as it was, in the same place, for its settings name that."""
    folder, untouched = trained
    shutil.rmtree(folder)
    return shutil.copytree(untouched, folder)


def config(folder: Path, *more: str, steps: int = 1) -> TrainConfig:
    return load_config("tiny", [f"data.root={folder}", f"fit.steps={steps}", "fit.batch=4", *more])


def go_on(folder: Path, *more: str) -> None:
    train_pose(
        config(folder, *more, steps=2), folder / "run", resume=True, device="cpu", quiet=True
    )


def test_other_settings_are_refused_and_empty_folders(begun: Path) -> None:
    with pytest.raises(ModelError, match="nothing to resume"):
        train_pose(config(begun), begun / "none", resume=True, device="cpu", quiet=True)
    for changed, said in (
        ("input.size=[32, 64]", r"input.size was \[64, 64\], is \[32, 64\]"),
        ("fit.optimizer=adam", "fit.optimizer was adamw, is adam"),
        ("fit.ema=0", "fit.ema was 0.95, is 0"),
        ("model.norm=none", "model.norm was batch, is none"),
    ):
        with pytest.raises(ModelError, match=f"other settings: {said}") as caught:
            go_on(begun, changed)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (["head", "tail"], "made for 5 joints, the data have 2"),
        (["head", "right_hand", "left_hand", "left_foot", "right_foot"], "for the joints head, l"),
    ],
)
def test_other_joints_are_refused(begun: Path, joints: list[str], message: str) -> None:
    for name in ("train", "val"):
        content = json.loads((begun / f"{name}.json").read_text())
        content["categories"][0] |= {
            "keypoints": joints, "skeleton": None, "sigmas": [0.1] * len(joints)
        }  # fmt: skip
        for entry in content["annotations"]:
            entry["keypoints"] = entry["keypoints"][: 3 * len(joints)]
        (begun / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message) as caught:
        go_on(begun)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"hello\n" * 9, b"", b"PK\3\4 cut off"])
def test_what_is_no_state_is_refused(begun: Path, content: bytes) -> None:
    (begun / "run" / "state.pt").write_bytes(content)
    with pytest.raises(ModelError, match="not the state of a training") as caught:
        go_on(begun)
    assert "\n" not in str(caught.value)
    torch.save({"step": 3}, begun / "run" / "state.pt")
    with pytest.raises(ModelError, match="not the state of a training"):
        go_on(begun)


@pytest.mark.slow
def test_what_changed_is_named(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hrtrack.trainer.state"):
        go_on(begun)
        assert caplog.text == ""
        go_on(begun, "fit.seed=9", "fit.lr=0.001", "data.train.0.repeat=2")
    for key in ("fit.seed was 0, is 9", "fit.lr was 0.003", "data.train.0.repeat was 1"):
        assert key in caplog.text
    assert "fit.steps" not in caplog.text


@pytest.mark.slow
def test_a_resumed_run_keeps_what_the_machine_chose(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> dict[str, Any]:
        return dict(torch.load(begun / "run" / "state.pt", weights_only=True))

    assert state()["choice"] == {"precision": "fp32", "accumulate": 1}
    tried: list[str] = []

    def trial(step: Any) -> str:
        step("bf16")
        tried.append("bf16")
        return "bf16"

    monkeypatch.setattr(settle, "to_be_tried", lambda precision, device: precision == "auto")
    monkeypatch.setattr(settle, "quicker", trial)
    fresh = config(begun, "fit.precision=auto")
    train_pose(fresh, begun / "auto", device="cpu", quiet=True)
    assert tried == ["bf16"]
    (begun / "run" / "state.pt").write_bytes((begun / "auto" / "state.pt").read_bytes())
    assert state()["config"]["fit"]["precision"] == "auto"
    go_on(begun, "fit.precision=auto")
    assert tried == ["bf16"]  # not once more
    assert state()["choice"]["precision"] == "bf16"
    assert state()["step"] == 2


def test_a_user_s_own_setting_outdoes_the_machine_s(begun: Path) -> None:
    saved = {"fit": {"precision": "auto", "accumulate": 1}}
    state = RunState({}, {}, {}, saved, choice={"precision": "bf16", "accumulate": 2})
    assert kept_choice(state, saved) == {"precision": "bf16", "accumulate": 2}
    said = {"fit": {"precision": "fp32", "accumulate": 1}}
    assert kept_choice(state, said) == {"accumulate": 2}
