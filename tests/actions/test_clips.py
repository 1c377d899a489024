"""Penn Action and own recordings as clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrtrack.actions.clips import ActionClip, labels_of, load_penn, split
from hrtrack.actions.recordings import cut_recordings, load_recordings
from hrtrack.actions.training.run import load_clips
from hrtrack.errors import DataError


def _line(frame: int, ids: dict[int, float], rate: float = 20.0) -> dict[str, Any]:
    people = [
        {"id": i, "score": 0.9, "box": [0, 0, 9, 9], "keypoints": [[x, 5.0, 0.8]] * 17,
         "action": None}
        for i, x in ids.items()
    ]  # fmt: skip
    return {"frame": frame, "time": frame / rate, "skeleton": "coco17", "people": people}


def _write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def train(shared: Path) -> list[ActionClip]:
    return load_penn(shared / "data" / "penn_action", "train")


@pytest.mark.shared
def test_penn_has_its_official_split(shared: Path, train: list[ActionClip]) -> None:
    test = load_penn(shared / "data" / "penn_action", "test")
    assert (len(train), len(test)) == (1258, 1068)
    assert len(labels_of(train)) == len(labels_of(test)) == 15
    assert not {clip.name for clip in train} & {clip.name for clip in test}
    for clip in train:
        assert clip.joints.shape == (len(clip.times), 13, 3)
        seen = clip.joints[..., 2] > 0
        assert not (clip.joints[seen][:, :2] == 1).all(1).any(), "a placeholder counts as seen"


def test_penn_left_is_the_persons_left(train: list[ActionClip]) -> None:
    jumping = [clip for clip in train if clip.label == "jump_rope"]
    both = [clip.joints[clip.joints[:, 1:3, 2].all(1)] for clip in jumping]
    # They face the camera, so the left shoulder is on the right in the picture.
    on_the_right = [np.median(j[:, 1, 0] - j[:, 2, 0]) > 0 for j in both if len(j)]
    assert np.mean(on_the_right) > 0.9


def test_a_strange_mat_file_is_named(tmp_path: Path) -> None:
    from scipy.io import savemat

    (tmp_path / "labels").mkdir()
    savemat(tmp_path / "labels" / "0001.mat", {"train": 1, "x": np.ones((3, 5))})
    with pytest.raises(DataError, match=r"0001\.mat"):
        load_penn(tmp_path, "train")


def test_missing_folders_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        load_clips(tmp_path / "absent", "train")
    with pytest.raises(DataError, match="folder named by its action"):
        load_clips(tmp_path, "train")
    with pytest.raises(DataError, match="labels"):
        load_penn(tmp_path, "train")


def test_recordings_take_the_person_seen_most(tmp_path: Path) -> None:
    lines = [_line(i, {1: 10.0, 2: 50.0} if i > 5 else {2: 50.0}) for i in range(30)]
    _write(tmp_path / "wave" / "a.jsonl", lines)
    (clip,) = load_clips(tmp_path, "train")
    assert (clip.label, clip.name, len(clip.times)) == ("wave", "wave/a", 30)
    np.testing.assert_allclose(clip.joints[0, 0], (50, 5, 0.8), rtol=1e-6)
    assert clip.seconds == pytest.approx(29 / 20)


def test_cutting_by_a_label_file(tmp_path: Path) -> None:
    _write(tmp_path / "day.jsonl", [_line(i, {1: 10.0, 2: 50.0}) for i in range(100)])
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label,id,start,end\nday.jsonl,wave,1,1.0,2.5\nday.jsonl,bow,2,,\n")
    written = cut_recordings(labels, tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in written] == [
        "wave/day_1.jsonl",
        "bow/day_2.jsonl",
    ]
    clips = {clip.label: clip for clip in load_recordings(tmp_path / "out")}
    assert clips["wave"].times[[0, -1]].tolist() == [1.0, 2.5]
    assert (clips["wave"].joints[..., 0] == 10).all()
    assert len(clips["bow"].times) == 100
    # Training and evaluation take the label file itself.
    direct = {clip.label: clip for clip in load_clips(labels, "train")}
    assert direct.keys() == clips.keys()
    np.testing.assert_array_equal(direct["wave"].joints, clips["wave"].joints)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\nday.jsonl\n", "file and label are needed"),
        ("file,label,id\nday.jsonl,wave,9\n", "line 2: 'day.jsonl' does not show person 9"),
        ("file,label,start\nday.jsonl,wave,soon\n", "line 2: could not convert"),
        ("file,label\nnight.jsonl,wave\n", "night.jsonl"),
        ("file,label\nday.jsonl,../wave\n", "line 2"),
        ("file,label\n", "no rows"),
    ],
)
def test_a_wrong_label_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    _write(tmp_path / "day.jsonl", [_line(i, {1: 10.0}) for i in range(30)])
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        cut_recordings(tmp_path / "labels.csv", tmp_path / "out")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"frame": 0}], "line 1 is not a frame"),
        ([{"time": 0, "skeleton": "coco17", "people": [{"id": 1}]}], "line 1 is not a frame"),
        ([_line(0, {1: 5.0})], "shows nobody for 0.5 s"),
        ([_line(i // 2, {1: 5.0}) for i in range(40)], "times do not rise"),
        ([{**_line(i, {1: 5.0}), "skeleton": "mpii16"} for i in range(30)], "mpii16"),
        ([{**_line(i, {1: 5.0}), "skeleton": None} for i in range(30)], "name its skeleton"),
    ],
)
def test_a_wrong_recording_is_one_line(
    tmp_path: Path, lines: list[dict[str, Any]], message: str
) -> None:
    _write(tmp_path / "wave" / "a.jsonl", lines)
    with pytest.raises(DataError, match=message):
        load_recordings(tmp_path)


def test_the_split_holds_out_some_of_every_action() -> None:
    empty = np.zeros((2, 13, 3), np.float32)
    clips = [ActionClip(f"{k}{i}", k, np.arange(2.0), empty) for k in "abc" for i in range(20)]
    rest, held = split(clips, 0.1, seed=0)
    assert len(rest) == 54
    assert sorted(clip.label for clip in held) == ["a", "a", "b", "b", "c", "c"]
    assert not {c.name for c in rest} & {c.name for c in held}
    assert [c.name for c in split(clips, 0.1, seed=0)[1]] == [c.name for c in held]
    with pytest.raises(DataError, match="'a' has 1 clip"):
        split(clips[:1], 0.1, seed=0)
