"""MPII evaluation by hand, in both of its layouts, and the whole way on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

pytest.importorskip("pycocotools")

from hrtrack.evaluation.evaluate import evaluate
from hrtrack.evaluation.predict import Protocol
from hrtrack.skeleton import MPII16

from ..train.dots import CentreNetwork
from ..train.mini_mpii import struct, write_mini_mpii


def mpii_people() -> tuple[list[dict[str, Any]], NDArray[np.float64], NDArray[np.float64]]:
    """Two people; the second's scale is 2. Positions (16, 2, 2) and head boxes count from 1.

    The network answers with the middle of the crop, 15 scale below the centre: (100, 115) and
    (100, 130). Head boxes of diagonals 50 and 100 give limits of 15 and 30 px. Person 0's
    joints lie 14.5 px away, its left wrist 15.5; person 1's lie 30.5 away, its knees 29.5.
    """
    positions = np.zeros((16, 2, 2))
    positions[:, :, 0] = 100 + 14.5, 115
    positions[:, :, 1] = 100, 130 - 30.5
    positions[MPII16.index("left_wrist"), 0, 0] += 1
    for side in ("left_knee", "right_knee"):
        positions[MPII16.index(side), 1, 1] += 1
    for middle in ("pelvis", "thorax"):
        positions[MPII16.index(middle)] += 70
    heads = np.zeros((2, 2, 2))
    heads[0] = 80
    heads[1] = np.array([[80 + 30, 80 + 60], [80 + 40, 80 + 80]])
    entries = [
        {
            "image": f"{n}.png", "center": [100.0, 100.0], "scale": float(n + 1),
            "joints": positions[:, :, n].tolist(), "joints_vis": [1] * 16,
        }
        for n in range(2)
    ]  # fmt: skip
    entries[0]["joints_vis"][MPII16.index("left_ankle")] = 0
    return entries, positions, heads


def check_mpii_table(result: Any) -> None:
    table, found = result.pckh, result.as_json()
    # Person 0: 13 of 14 counting joints labelled (no left ankle), 12 right. Person 1: 2 of 14.
    assert table["mean"] == pytest.approx(100 * 14 / 27)
    assert table["head"] == pytest.approx(50)
    assert table["wrist"] == pytest.approx(25)
    assert table["knee"] == pytest.approx(100)
    assert table["ankle"] == pytest.approx(25)
    assert found["AP"] is None
    assert found["ci95"]["AP"] is None
    assert found["n_people"] == 2


def test_mpii_converted_by_hand(tmp_path: Path) -> None:
    entries, positions, heads = mpii_people()
    missing = np.zeros((16, 2))
    missing[MPII16.index("left_ankle"), 0] = 1
    (tmp_path / "valid.json").write_text(json.dumps(entries))
    savemat(
        tmp_path / "gt_valid.mat",
        {"jnt_missing": missing, "pos_gt_src": positions, "headboxes_src": heads},
    )
    write_blank(tmp_path)
    networks = {"centre": CentreNetwork(MPII16, (256, 256))}
    (plain,) = evaluate(networks, tmp_path / "valid.json", tmp_path, quiet=True)
    check_mpii_table(plain)
    # A map in the very middle is its own mirror image only with the official column's shift.
    (flipped,) = evaluate(
        networks, tmp_path / "valid.json", tmp_path, quiet=True,
        protocol=Protocol(flip=True, align="column"),
    )  # fmt: skip
    check_mpii_table(flipped)


def test_mpii_release_by_hand(tmp_path: Path) -> None:
    entries, positions, heads = mpii_people()

    photos = []
    for n, entry in enumerate(entries):
        points = [
            struct(x=positions[j, 0, n], y=positions[j, 1, n], id=j)
            for j in range(16)
            if entry["joints_vis"][j]
        ]
        person = struct(
            x1=heads[0, 0, n], y1=heads[0, 1, n], x2=heads[1, 0, n], y2=heads[1, 1, n],
            annopoints=struct(point=np.concatenate(points, axis=1)),
            scale=entry["scale"], objpos=struct(x=100.0, y=100.0),
        )  # fmt: skip
        photos.append(struct(image=struct(name=entry["image"]), annorect=person))
    release = struct(annolist=np.concatenate(photos, axis=1), img_train=np.array([[1, 1]]))
    savemat(tmp_path / "mpii.mat", {"RELEASE": release})
    write_blank(tmp_path)
    network = CentreNetwork(MPII16, (256, 256))
    (result,) = evaluate({"centre": network}, tmp_path / "mpii.mat", tmp_path, quiet=True)
    check_mpii_table(result)


@pytest.mark.slow
def test_mpii_from_training_to_flip_test_on_the_command_line(tmp_path: Path) -> None:
    """The commands of ``docs/mpii.md`` on a made MPII, with a smaller network and crop."""
    pytest.importorskip("torch")
    from click.testing import CliRunner

    from hrtrack.cli.main import hrtrack

    write_mini_mpii(tmp_path)
    out = tmp_path / "run"

    def run(*words: object) -> None:
        result = CliRunner().invoke(hrtrack, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    run(
        "train", "mpii_w32_256x256", f"data.root={tmp_path}", "model.width=8",
        "model.modules=[1,1,1]", "model.blocks=1", "input.size=[64,64]", "data.workers=0",
        "fit.batch=2", "fit.steps=2", "-o", out, "--device", "cpu", "-q",
    )  # fmt: skip
    scores = []
    for extra in ((), ("--flip", "--decoder", "argmax")):
        run(
            "eval", "--annotations", tmp_path / "annot" / "valid.json",
            "--images", tmp_path / "images", "-m", out / "weights.safetensors",
            "--backend", "torch", "--device", "cpu", "--json", tmp_path / "out.json", *extra,
        )  # fmt: skip
        scores.append(json.loads((tmp_path / "out.json").read_text()))
    for found in scores:
        assert found["n_people"] == 6
        assert found["AP"] is None
        assert list(found["PCKh@0.5"]) == [
            "mean", "head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"
        ]  # fmt: skip
    # The training's own validation reads the same weights in the same way.
    last = (out / "val.csv").read_text().splitlines()[-1].split(",")
    assert scores[0]["PCKh@0.5"]["mean"] == pytest.approx(float(last[3]), abs=0.01)


def write_blank(folder: Path) -> None:
    for n in range(2):
        cv2.imwrite(str(folder / f"{n}.png"), np.zeros((300, 300, 3), np.uint8))
