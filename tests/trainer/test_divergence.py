"""A training whose numbers are none any more ends with one line and keeps its last good state."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hrtrack.actions.training import fit as action_fit
from hrtrack.configs.pose_schema import load_config
from hrtrack.models.finite import Diverged, require_numbers, require_sound_state
from hrtrack.train.detector import fit as detector_fit
from hrtrack.train.pose.loop import PoseTask, train_pose
from hrtrack.trainer.loop import Trainer

from ..train.detector.test_fit import config as detector_config
from ..train.detector.test_fit import make_set


@pytest.mark.parametrize(
    ("loss", "gradient", "said"),
    [
        (float("nan"), 1.0, "the loss became nan"),
        (float("inf"), 1.0, "the loss became inf"),
        (1.0, float("inf"), "the gradient became inf"),
    ],
)
def test_a_step_s_numbers(tmp_path: Path, loss: float, gradient: float, said: str) -> None:
    saved = tmp_path / "state.pt"
    with pytest.raises(Diverged, match=f"{said} at step 7: .*; nothing was saved"):
        require_numbers(7, loss, gradient, saved)
    saved.touch()
    with pytest.raises(Diverged, match=r"state\.pt holds the last good state"):
        require_numbers(7, loss, gradient, saved)
    require_numbers(7, 1e30, 0.0, saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0.weight", r"a weight \(0.weight\)"),
        ("1.running_var", r"the statistics of a norm \(1.running_var\)"),
    ],
)
def test_a_state_s_numbers(name: str, said: str, value: float) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    good = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    good["0.weight"].fill_(3e38)  # large is no fault
    require_sound_state(3, good, good)
    bad = {key: tensor.clone() for key, tensor in good.items()}
    bad[name].view(-1)[-1] = value
    with pytest.raises(Diverged, match=rf"^{said} became NaN or infinite at step 3"):
        require_sound_state(3, bad, good)
    with pytest.raises(Diverged, match=rf"^the running average of {said} became NaN or infinite"):
        require_sound_state(3, good, bad)


def spoil_weights(run: Any) -> None:
    with torch.no_grad():
        run.task.raw.layer1[0].conv1.weight.view(-1)[0] = float("nan")


def spoil_statistics(run: Any) -> None:
    run.task.raw.bn1.running_var[0] = float("inf")


def spoil_average(run: Any) -> None:
    run.ema.state["final_layer.bias"][0] = float("nan")


def spoil_gradient(run: Any) -> None:
    run.task.raw.final_layer.bias.register_hook(lambda gradient: gradient * float("inf"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_weights, "the loss became nan at step 3"),
        (spoil_statistics, r"the statistics of a norm \(bn1.running_var\) became NaN or infinite"),
        (
            spoil_average,
            r"the running average of a weight \(final_layer.bias\) became NaN or infinite",
        ),
        (spoil_gradient, "the gradient became (nan|inf) at step 3"),
    ],
)
def test_a_pose_training_keeps_its_last_good_state(
    sticks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Any], None],
    said: str,
) -> None:
    steps = Trainer._steps
    gradients, calls = PoseTask.gradients, itertools.count()
    runs: list[Any] = []

    def begun(run: Any, *rest: Any) -> None:
        runs.append(run)
        steps(run, *rest)

    def spoiled(task: Any, *rest: Any) -> Any:
        if next(calls) == 2:
            spoil(runs[0])
        return gradients(task, *rest)

    monkeypatch.setattr(Trainer, "_steps", begun)
    monkeypatch.setattr(PoseTask, "gradients", spoiled)
    settings = ["fit.steps=6", "fit.batch=2", "fit.save_minutes=0", "fit.val_every=1000"]
    config = load_config("tiny", [f"data.root={sticks}", "input.size=[32, 32]", *settings])
    with pytest.raises(Diverged, match=said) as caught:
        train_pose(config, tmp_path, device="cpu", quiet=True)
    assert f"{tmp_path / 'state.pt'} holds the last good state" in str(caught.value)
    assert "\n" not in str(caught.value)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    for part in ("network", "average"):
        assert all(value.isfinite().all() for value in state[part].values())
    assert not (tmp_path / "weights.safetensors").exists()


def test_weights_that_are_no_numbers_are_not_begun_with(sticks: Path, tmp_path: Path) -> None:
    settings = ["fit.steps=1", "fit.batch=2", "data.val=null", "input.size=[32, 32]"]
    config = load_config("tiny", [f"data.root={sticks}", *settings])
    train_pose(config, tmp_path / "good", device="cpu", quiet=True)
    network = torch.load(tmp_path / "good" / "state.pt", weights_only=True)["network"]
    network["conv1.weight"][0] = float("nan")
    trunk = {name: value for name, value in network.items() if not name.startswith("final_layer.")}
    torch.save(trunk, tmp_path / "bad.pth")
    with pytest.raises(
        Diverged, match=r"a weight \(conv1.weight\) became NaN or infinite at step 0"
    ):
        train_pose(config, tmp_path / "bad", init=tmp_path / "bad.pth", device="cpu", quiet=True)


def test_a_detector_s_statistics_are_looked_at_before_they_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", 4)
    step, calls = detector_fit.Step.__call__, itertools.count()

    def spoiled(self: Any, *rest: Any) -> Any:
        found = step(self, *rest)
        if next(calls) == 1:
            norms = (m for m in self.state.net.modules() if isinstance(m, nn.BatchNorm2d))
            next(norms).running_mean[0] = float("nan")
        return found

    monkeypatch.setattr(detector_fit.Step, "__call__", spoiled)
    settings = detector_config(tmp_path / "set", steps=4, precision="fp32", save_minutes=0)
    with pytest.raises(Diverged, match=r"the statistics of a norm .*state.pt holds the last good"):
        detector_fit.train_detector(settings, tmp_path / "out", device="cpu", quiet=True)
    assert torch.load(tmp_path / "out/state.pt", weights_only=True)["step"] == 1
    assert not (tmp_path / "out/weights.pt").exists()


def test_an_action_training_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from hrtrack.configs.action_schema import load_action_config

    config = load_action_config(None)
    fit = config.fit.model_copy(update={"epochs": 1, "batch": 4, "precision": "fp32"})
    config = config.model_copy(update={"fit": fit})
    inputs = np.full((4, 3, config.window.samples, 13), np.nan, np.float32)

    def broken(*_: Any) -> Any:
        while True:
            yield inputs, np.zeros(4, np.int64)

    monkeypatch.setattr(action_fit, "batches", broken)
    clips = [SimpleNamespace(label="wave")] * 4
    with pytest.raises(Diverged, match=r"the loss became nan at step 1: .*nothing was saved"):
        action_fit.fit(config, clips, clips, ("wave", "jump"), 0)  # type: ignore[arg-type]
