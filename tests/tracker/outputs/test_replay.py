"""Saved results that are drawn again: each frame gets its own, and what does not fit is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrtrack.errors import DataError
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import READABLE, parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures.draw import LAYERS, DrawOptions, draw
from hrtrack.tracker.outputs.results.jsonl import read_jsonl
from hrtrack.tracker.outputs.results.replay import Replay
from hrtrack.tracker.video.frame import Frame
from hrtrack.tracker.video.open import open_source

from ..clips import make_clip
from ..files import people, save_to


def lines(path: Path, change: dict[str, Any] | None = None, person: dict[str, Any] | None = None,
          skeleton: str = "coco17") -> Path:  # fmt: skip
    """Two frames' results; the second is changed."""
    values = [people(index, index / 10, 2).to_dict() | {"skeleton": skeleton} for index in (0, 1)]
    values[1] |= change or {}
    if values[1].get("people"):
        values[1]["people"][1] |= person or {}
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_every_frame_gets_its_own_people(tmp_path: Path) -> None:
    replay = Replay(lines(tmp_path / "r.jsonl", {"frame": 5}))
    blank = np.zeros((8, 8, 3), np.uint8)
    found = [replay.step(Frame(index, index / 10, blank)) for index in range(7)]
    assert [len(poses) for poses in found] == [2, 0, 0, 0, 0, 2, 0]
    assert found[5].ids.tolist() == [1, 2]


def test_frames_that_the_results_lack_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = lines(tmp_path / "r.jsonl", {"frame": 5})
    blank = np.zeros((8, 8, 3), np.uint8)
    for count in (1, 7):
        replay = Replay(path)
        for index in range(count):
            replay.step(Frame(index, index / 10, blank))
        replay.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert (
        said == f"{path} lacks 5 of the 7 frames, the first of them frame 1; nobody is drawn there"
    )


@pytest.mark.parametrize(
    ("change", "person", "words"),
    [
        ({}, {"keypoints": [[1, 2, 0.5]] * 2}, "as many for everyone"),
        ({}, {"box": [1, 2, float("nan"), 4]}, "box holds a number that is not finite"),
        ({}, {"keypoints": [[1e300, 2, 0.5]] * 17}, "keypoints holds a number that is not"),
        ({}, {"id": 10**30}, "too large"),
        ({"frame": float("inf")}, {}, "infinity"),
        ({"time": float("nan")}, {}, "its time is nan"),
        ({"skeleton": "mpii16"}, {}, "its skeleton is mpii16, the first line's is coco17"),
        ({"people": [{"id": 1}, {"id": 2}]}, {}, "no 'keypoints'"),
    ],
)
def test_results_that_cannot_be_drawn_are_refused(
    tmp_path: Path, change: dict[str, Any], person: dict[str, Any], words: str
) -> None:
    path = lines(tmp_path / "r.jsonl", change, person)
    replay = Replay(path)
    with pytest.raises(DataError, match=words) as failure:
        replay.step(Frame(1, 0.1, np.zeros((8, 8, 3), np.uint8)))
    assert str(failure.value).startswith(f"line 2 of {path} is not a frame's results: ")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("form", READABLE)
def test_every_readable_format_is_drawn(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    save = save_to(tmp_path, form)
    given = [people(index, index / 10, index % 3) for index in range(4)]
    with (
        open_source(str(make_clip(tmp_path / "walk.mp4", 4))) as source,
        open_sinks([parse_save(save)], source=source, skeleton=COCO17) as sinks,
    ):
        for frame, poses in zip(source, given, strict=True):
            sinks.write(frame, poses, lambda image=frame.image: image)  # type: ignore[misc]
    replay = Replay(save)
    blank = np.zeros((300, 300, 3), np.uint8)
    layers = DrawOptions(set(LAYERS) - {"heatmaps"})
    for poses in given:
        found = replay.step(Frame(poses.frame, poses.time, blank))
        assert found.ids.tolist() == poses.ids.tolist()
        assert found.scores.shape == (len(poses), len(replay.skeleton))
        assert found.time == pytest.approx(poses.time, abs=1e-6)
        assert draw(blank.copy(), found, replay.skeleton, layers).any() == (len(poses) > 0)
    replay.close()
    assert not caplog.records
    replay = Replay(save)
    replay.step(Frame(99, 9.9, blank))
    replay.close()
    assert "lacks 1 of the 1 frames" in caplog.text


def test_a_table_of_several_clips_is_not_drawn(tmp_path: Path) -> None:
    header = "source,frame,time,id,score,x0,y0,x1,y1,a_x,a_y,a_score,action,action_score"
    (tmp_path / "all.csv").write_text(f"{header}\na.mp4,0,0.0,1,0.5,1,2,3,4,1,2,0.5,,\n")
    with pytest.raises(DataError, match="is a table of several clips"):
        Replay(tmp_path / "all.csv")


def test_joints_must_be_those_of_the_skeleton(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", skeleton="mpii16")
    with pytest.raises(DataError, match=re.escape("(2, 16, 3) was expected for mpii16")):
        Replay(path)


def test_a_missing_file_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^no such file: "):
        Replay(tmp_path / "none.jsonl")


def test_results_of_one_s_own_keypoints_are_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "dog.jsonl", {"people": []}, skeleton="dog")
    assert [poses.keypoints.shape for poses in read_jsonl(path)] == [(2, 17, 2), (0, 17, 2)]
