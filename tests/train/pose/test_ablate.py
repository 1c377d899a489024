"""The ablations: signal at the start for every scope, and the study's runs and figures in small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import cv2
import torch

from hrtrack.configs.pose_schema import load_config
from hrtrack.errors import ConfigError
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.train.pose import ablate

from ..sticks import JOINTS, write_set

PCKH: ablate.Measure = "PCKh@0.5"
NAMES = ("nose", "left_wrist", "right_wrist", "left_ankle", "right_ankle")


@pytest.mark.parametrize(
    "scope", ["all", *(pytest.param(one, marks=pytest.mark.slow) for one in ("stem", "blocks"))]
)
@pytest.mark.parametrize("variant", list(ablate.VARIANTS))
def test_output_starts_in_range_and_gradients_reach_the_stem(variant: str, scope: Any) -> None:
    """At the paper's depth; the official initialisation gives 6e-11 for scope all."""
    torch.manual_seed(0)
    change: dict[str, Any] = dict(ablate.VARIANTS[variant])
    network = HRNet(HRNetConfig(joints=16, width=8, scope=scope, **change))
    initialise(network, "fixup")
    maps = network(torch.randn(2, 3, 64, 64))
    assert 1e-3 < float(maps.detach().std()) < 1
    maps.square().mean().backward()
    gradient = network.conv1.weight.grad
    assert gradient is not None
    assert float(gradient.abs().mean()) > 1e-9


def test_each_variant_loses_what_its_name_says() -> None:
    def kinds(variant: str, scope: Any) -> tuple[int, int]:
        change: dict[str, Any] = dict(ablate.VARIANTS[variant])
        with torch.device("meta"):
            network = HRNet(HRNetConfig(scope=scope, **change))
        modules = list(network.modules())
        norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in modules)
        return norms, sum(isinstance(m, torch.nn.ReLU) for m in modules)

    # 292 batch norms in the paper's W32 (`field.md` E.5): 2 in the stem, 208 in basic blocks.
    assert kinds("default", "all")[0] == 292
    assert [kinds("no batch norm", scope)[0] for scope in ("stem", "blocks", "all")] == [290, 84, 0]
    assert kinds("no batch norm, identity activation", "all") == (0, 0)
    assert kinds("no batch norm", "all")[1] == kinds("default", "all")[1]


@pytest.fixture
def sticks(tmp_path: Path) -> Path:
    """The made set under names that PCKh knows, with head sizes."""
    for name, count, seed in (("train", 24, 0), ("val", 8, 1)):
        write_set(tmp_path, name, count, seed)
        content = json.loads((tmp_path / f"{name}.json").read_text())
        assert len(NAMES) == len(JOINTS)
        content["categories"][0]["keypoints"] = list(NAMES)
        for person in content["annotations"]:
            person.update(neck=[48, 30, 2], head_top=[48, 14, 2])
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.slow
def test_all_runs_and_the_figure(sticks: Path, tmp_path: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}", "fit.batch=8"])
    out = tmp_path / "ablation"
    settings: dict[str, Any] = {
        "epochs": 2, "seeds": (3,), "scopes": ("stem",), "device": "cpu", "quiet": True
    }  # fmt: skip
    runs = ablate.ablate(config, out, **settings)
    assert [(run.variant, run.scope, run.seed) for run in runs] == [
        (variant, None if variant == "default" else "stem", 3) for variant in ablate.VARIANTS
    ]
    assert all(
        len(run.scores) == 2 and min(run.scores) >= 0 and run.measure == "PCKh@0.5" for run in runs
    )
    assert ablate.read_runs(out / ablate.RESULTS) == runs
    figure = cv2.imread(str(out / "stem.png"))
    assert figure is not None
    for colour in ((180, 119, 31), (14, 127, 255), (44, 160, 44)):  # blue, orange, green in BGR
        assert (np.abs(figure.astype(int) - colour).max(axis=2) < 12).sum() > 50
    # Everything is found finished: the second call trains nothing.
    logs = {path: path.read_text() for path in out.rglob("train.csv")}
    assert len(logs) == len(runs)
    assert ablate.ablate(config, out, **settings) == runs
    assert {path: path.read_text() for path in logs} == logs


def test_every_seed_trains_the_default_once_and_each_scope_twice() -> None:
    runs = ablate.planned(("stem", "all"), (0, 1))
    assert len(runs) == len(set(runs)) == 10
    assert [seed for _, _, seed in runs] == [0] * 5 + [1] * 5
    assert runs[0] == ("default", None, 0)


def test_summary_by_hand() -> None:
    runs = [
        ablate.Run("default", None, 0, (10.0, 60.0), PCKH),
        ablate.Run("default", None, 1, (10.0, 64.0), PCKH),
        ablate.Run("no batch norm", "all", 0, (5.0, 30.0), PCKH),
        ablate.Run("no batch norm", "all", 1, (5.0,), PCKH, "the loss became nan at step 9"),
        ablate.Run("no batch norm", "stem", 0, (5.0, 99.0), PCKH),
    ]
    found = ablate.summary(runs, "all")
    assert found["default"] == pytest.approx((62.0, 8**0.5, 2))
    assert found["no batch norm"] == pytest.approx((17.5, 625**0.5 / 2**0.5, 2))
    assert "no batch norm, identity activation" not in found


def test_the_floor_is_what_the_median_pose_gets(sticks: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}"])
    measure, floor = ablate.median_pose_score(config)
    assert measure == PCKH
    # Heads of 16 pixels, joints within some 10 of their median place: neither none nor all.
    assert 5 < floor < 80
    exact = load_config("tiny", [f"data.root={sticks}", "data.train.0.annotations=val.json"])
    content = json.loads((sticks / "val.json").read_text())
    content["annotations"] = content["annotations"][:1]
    (sticks / "val.json").write_text(json.dumps(content))
    assert ablate.median_pose_score(exact) == (PCKH, 100.0)


def test_it_needs_a_validation_set(sticks: Path, tmp_path: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}", "data.val=null"])
    with pytest.raises(ConfigError, match=r"data\.val"):
        ablate.ablate(config, tmp_path / "out", quiet=True)


@pytest.mark.slow
def test_without_head_sizes_the_runs_are_compared_by_oks(
    sticks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = shutil.copytree(sticks, tmp_path / "sticks")  # the set itself is everybody's
    content = json.loads((own / "val.json").read_text())
    for person in content["annotations"]:
        del person["neck"]
    (own / "val.json").write_text(json.dumps(content))
    config = load_config("tiny", [f"data.root={own}", "fit.batch=8"])
    out = tmp_path / "out"
    runs = ablate.ablate(
        config, out, epochs=1, seeds=(0,), scopes=("stem",), device="cpu", quiet=True
    )
    assert "knows no head sizes: the runs are compared by their OKS" in caplog.text
    for run in runs:
        rows = (
            out / ablate.vary(config, run.variant, run.scope, 0, 1).name / "val.csv"
        ).read_text()
        oks = float(rows.splitlines()[1].split(",")[-1])
        assert (run.measure, run.scores) == ("OKS x 100", (100 * oks,))
    measure, floor = ablate.median_pose_score(config)
    assert measure == "OKS x 100"
    assert 0 < floor < 100
