"""Figures hold what they were given."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from hrtrack.evaluation.charts import Point, front, plot_accuracy_against_time
from hrtrack.train.pose.ablate import VARIANTS, Run, plot_ablation

BLUE, ORANGE, GREEN = (180, 119, 31), (14, 127, 255), (44, 160, 44)


def columns(path: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """The pixel columns in which a BGR colour stands."""
    picture = cv2.imread(str(path)).astype(int)
    return np.flatnonzero((np.abs(picture - colour).max(axis=2) < 8).any(axis=0))


def panels(path: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """In the middle of which of the four panels a colour stands."""
    place = 4 * columns(path, colour) / cv2.imread(str(path)).shape[1]
    return np.floor(place[(place % 1 > 0.3) & (place % 1 < 0.8)]).astype(int)


def test_each_variant_has_its_panel_and_all_meet_in_the_last(tmp_path: Path) -> None:
    runs = [
        Run(
            variant,
            None if variant == "default" else "all",
            seed,
            (5.0 + i, 20.0 + 9 * i),
            "PCKh@0.5",
        )
        for i, variant in enumerate(VARIANTS)
        for seed in (0, 1)
    ]
    runs.append(Run("no batch norm", "all", 2, (), "PCKh@0.5", "the loss became nan at step 3"))
    plot_ablation(runs, "all", tmp_path / "all.png")
    for panel, colour in enumerate((BLUE, ORANGE, GREEN)):
        assert set(panels(tmp_path / "all.png", colour)) == {panel, 3}


def test_faster_stands_further_left(tmp_path: Path) -> None:
    points = [
        Point("small", 5.0, 60.0, (57.0, 63.0), "ours"),
        Point("large", 20.0, 70.0, (67.0, 73.0), "theirs"),
    ]
    path = tmp_path / "time.png"
    plot_accuracy_against_time(points, path, accuracy="PCKh (%)", time="ms")
    # The legend at the lower right repeats both colours.
    middle = int(0.6 * cv2.imread(str(path)).shape[1])
    fast, slow = columns(path, BLUE), columns(path, ORANGE)
    assert fast.min() < slow.min()
    assert (fast < middle).any()
    assert (slow > middle).any()


def test_the_front_leaves_out_whom_another_beats() -> None:
    def point(name: str, milliseconds: float, accuracy: float) -> Point:
        return Point(name, milliseconds, accuracy, (accuracy - 3, accuracy + 3))

    points = [
        point("slow and good", 20, 70), point("beaten", 22, 69), point("fast", 5, 60),
        point("as fast, worse", 5, 58),
    ]  # fmt: skip
    assert [one.name for one in front(points)] == ["fast", "slow and good"]
