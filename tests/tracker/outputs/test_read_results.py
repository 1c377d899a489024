"""Every results format through one reader, as tables, and as other libraries' objects."""

from __future__ import annotations

import json
import math
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrtrack import HrtrackError, Poses, Skeleton, read_results, to_dataframe
from hrtrack.errors import BackendError, DataError, ModelError, UsageError
from hrtrack.skeleton import COCO17, MPII16
from hrtrack.tracker.outputs.base import FORMATS, READABLE, parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.results.openpose import BODY25
from hrtrack.tracker.video.open import open_source

from ..clips import make_clip
from ..files import people, save_to

OWN = Skeleton("paw", ("tip", "left_pad", "right_pad"), ((0, 1), (0, 2)), ((1, 2),), (0.05,) * 3)


def written(folder: Path, saves: list[str], skeleton: Skeleton = COCO17) -> list[Poses]:
    """Six frames, with 0 to 3 people in them, in the given outputs."""
    given = []
    with (
        open_source(str(make_clip(folder / "walk.mp4", 6))) as source,
        open_sinks([parse_save(save) for save in saves], source=source, skeleton=skeleton) as sinks,
    ):
        for frame in source:
            poses = people(frame.index, frame.time, frame.index % 4)
            joints = len(skeleton)
            poses = replace(
                poses, keypoints=poses.keypoints[:, :joints], scores=poses.scores[:, :joints]
            )
            given.append(poses)
            sinks.write(frame, poses, lambda image=frame.image: image)  # type: ignore[misc]
    return given


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def given(folder: Path) -> list[Poses]:
    return written(folder, [save_to(folder, form) for form in READABLE])


@pytest.mark.parametrize("form", READABLE)
def test_one_reader_for_every_format(form: str, folder: Path, given: list[Poses]) -> None:
    lacks = FORMATS[form].lacks
    found = list(read_results(save_to(folder, form)))
    wanted = [poses for poses in given if len(poses) or "empty frames" not in lacks]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.frame == other.frame
        assert one.ids.tolist() == other.ids.tolist()
        if "times" in lacks:
            assert math.isnan(one.time)
        else:
            assert one.time == pytest.approx(other.time, abs=1e-6)
        if "joints" in lacks:
            assert one.keypoints.shape == (len(one), 0, 2)
            assert one.skeleton is None
        else:
            assert one.skeleton is not None
            for ours, theirs in zip(one, other, strict=True):
                for joint in ("nose", "left_wrist", "right_ankle"):
                    place = (*theirs.keypoints[COCO17.index(joint)],
                             theirs.scores[COCO17.index(joint)])  # fmt: skip
                    assert ours[joint] == pytest.approx(place, abs=0.006)
        if "names" not in lacks:
            assert one.skeleton == COCO17
        if "boxes" not in lacks:
            assert np.allclose(one.boxes, other.boxes, atol=0.021)
        if "scores" not in lacks:
            assert np.allclose(one.person_scores, other.person_scores, atol=1e-4)
        # Where everybody's action is unknown, a file may say so by None.
        assert (one.actions or (None,) * len(one)) == other.actions


def test_openpose_gives_its_own_joints_and_the_boxes_around_them(
    folder: Path, given: list[Poses]
) -> None:
    for one, other in zip(read_results(folder / "out"), given, strict=True):
        assert one.skeleton == BODY25
        spans = [[*p.min(axis=0), *p.max(axis=0)] for p in other.keypoints]
        assert np.allclose(one.boxes, np.reshape(spans, (-1, 4)), atol=0.011)


def test_a_format_may_be_named(folder: Path, given: list[Poses], tmp_path: Path) -> None:
    other = tmp_path / "lines.log"
    other.write_bytes((folder / "out.jsonl").read_bytes())
    assert len(list(read_results(f"jsonl:{other}"))) == len(given)


def test_a_skeleton_of_ones_own_is_told_or_given(tmp_path: Path) -> None:
    names = [f"{tmp_path}/out{suffix}" for suffix in (".jsonl", ".json", ".csv", ".parquet")]
    given = written(tmp_path, names, OWN)
    for name in names[:2]:
        assert all(poses.skeleton is None for poses in read_results(name) if len(poses))
        assert all(poses.skeleton is OWN for poses in read_results(name, OWN))
        with pytest.raises(DataError, match="has 3 joints a person; the skeleton coco17 has 17"):
            list(read_results(name, COCO17))
    for name in names[2:]:
        for poses in read_results(name):
            assert poses.skeleton is not None
            assert poses.skeleton.joints == OWN.joints
        with pytest.raises(DataError, match=r"is of the skeleton .*, not of mpii16"):
            list(read_results(name, MPII16))
    assert next(iter(next(read_results(names[2]))))["left_pad"].x == pytest.approx(
        given[1].keypoints[0, 1, 0], abs=0.006
    )


def test_files_of_other_programs(tmp_path: Path) -> None:
    """Unsorted, without times, identities and boxes, as others write them."""
    coco = tmp_path / "theirs.json"
    entries = [
        {"image_id": 9, "category_id": 1, "keypoints": [1, 2, 1] * 17, "score": 0.5},
        {"image_id": 4, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9,
         "keypoints": [1, 2, 0.5] * 17},
        {"image_id": 9, "category_id": 1, "keypoints": [3, 4, 0] * 16 + [5, 6, 1], "score": 0.4},
    ]  # fmt: skip
    coco.write_text(json.dumps(entries))
    four, nine = read_results(coco)
    assert (four.frame, nine.frame) == (4, 9)
    assert four.boxes.tolist() == [[10, 20, 40, 60]]
    assert nine.boxes.tolist() == [[1, 2, 1, 2], [5, 6, 5, 6]]
    assert nine.ids.tolist() == [-1, -1]
    assert math.isnan(nine.time)
    assert nine.to_dict()["time"] is None
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]))
    assert next(read_results(boxes)).keypoints.shape == (1, 0, 2)
    mot = tmp_path / "theirs.txt"
    mot.write_text("2,7,1,2,3,4,0.5,-1,-1,-1\n1,7,1,2,3,4,1,-1,-1,-1\n1,8,5,5,5,5,1,-1,-1,-1\n")
    assert [(p.frame, p.ids.tolist()) for p in read_results(mot)] == [(0, [7, 8]), (1, [7])]
    openpose = tmp_path / "op"
    openpose.mkdir()
    theirs = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": [0] * 75}]}
    (openpose / "x_000000000003_keypoints.json").write_text(json.dumps(theirs))
    (one,) = read_results(openpose)
    assert (one.frame, one.ids.tolist(), one.person_scores.tolist()) == (3, [-1], [0])


BROKEN = {
    "a.jsonl": ('{"frame":0}\n', "line 1 of"),
    "a.csv": ("frame,time\n1,2\n", "does not begin with the columns frame, time"),
    "a.json": ('{"images": []}', "cannot read the COCO results"),
    "b.json": ("[{}]", "cannot read the COCO results .*: no 'image_id'"),
    "c.json": ('[{"image_id":1,"keypoints":[1,2]}]', "does not hold people for image 1"),
    "a.txt": ("1,2,3\n", "line 1 of .* is not a MOTChallenge box"),
    "a.parquet": ("no table", "does not hold parquet results"),
    "op/x_000000000003_keypoints.json": ("{}", "does not hold OpenPose results: no 'people'"),
    "op2/other.txt": ("", "holds no OpenPose results"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_results_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    text, line = BROKEN[name]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(DataError, match=line) as error:
        list(read_results(path if path.parent == tmp_path else path.parent))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", READABLE)
def test_what_is_no_results_file_is_refused_in_every_format(form: str, tmp_path: Path) -> None:
    save = save_to(tmp_path, form)
    path = Path(save.partition(":")[2])
    if (files := FORMATS[form].files) is not None:
        path.mkdir()
        path /= files.replace("*", "x_000000000003")
    for content in (b"hello, world\n", bytes(range(256)), b"{}\n[1]\n"):
        path.write_bytes(content)
        with pytest.raises(DataError) as error:
            list(read_results(save))
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_broken_row_is_named(folder: Path, given: list[Poses], tmp_path: Path) -> None:
    rows = (folder / "out.csv").read_text().splitlines()
    for broken, why in ((rows[3][:50], "it has"), (rows[3].replace(",", ",x", 1), "could not")):
        path = tmp_path / "out.csv"
        path.write_text("\n".join([*rows[:3], broken, *rows[4:]]) + "\n")
        with pytest.raises(DataError, match=f"line 4 of .* is not a person's row: {why}"):
            list(read_results(path))


def test_what_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    for name, kind, line in (
        ("none.jsonl", DataError, "^no such file"),
        ("clip.mp4", DataError, "is video, not results"),
        ("what.xyz", UsageError, "cannot tell the results format"),
    ):
        with pytest.raises(kind, match=line):
            read_results(tmp_path / name)


def table(library: str, results: Any, **options: Any) -> dict[str, list[Any]]:
    frame = to_dataframe(results, library, **options)
    listed = frame.to_dict(as_series=False) if library == "polars" else frame.to_dict("list")
    return dict(listed)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_one_row_a_joint(library: str, folder: Path, given: list[Poses]) -> None:
    pytest.importorskip(library)
    named = [replace(poses, skeleton=COCO17) for poses in given]
    found = table(library, named)
    people = sum(len(poses) for poses in given)
    assert list(found) == ["frame", "time", "id", "joint", "x", "y", "score", "person_score",
                           "x0", "y0", "x1", "y1", "action", "action_score",
                           "estimated"]  # fmt: skip
    assert all(len(column) == people * 17 for column in found.values())
    row = 17 + COCO17.index("left_wrist")  # of the second person: the first of frame 2
    assert (found["frame"][row], found["id"][row], found["joint"][row]) == (2, 2, "left_wrist")
    assert found["x"][row] == given[2].keypoints[0, 9, 0]
    assert found["person_score"][row] == given[2].person_scores[0]
    assert found["y1"][row] == given[2].boxes[0, 3]
    assert (found["action"][row], found["action_score"][row]) == ("jump_rope", 0.75)
    read = table(library, folder / "out.jsonl")
    assert read["joint"] == found["joint"]
    assert np.allclose(read["x"], found["x"], atol=0.006)
    assert table(library, given[1])["joint"][:2] == ["0", "1"]
    assert len(table(library, str(folder / "out.txt"))["frame"]) == people
    assert len(table(library, [])["frame"]) == 0
    assert list(table(library, given[0])) == list(found)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("pandas", "polars", "supervision"):
        monkeypatch.setitem(sys.modules, library, None)
    poses = people(0, 0.0, 2)
    for use, name in (
        (lambda: to_dataframe(poses), "pandas"),
        (lambda: to_dataframe(poses, "polars"), "polars"),
        (poses.to_supervision, "supervision"),
    ):
        with pytest.raises(
            BackendError, match=rf"^{name} is missing: pip install 'hrtrack\[{name}"
        ):
            use()
    with pytest.raises(HrtrackError, match="library is 'xarray'; choose one of pandas, polars"):
        to_dataframe(poses, "xarray")  # type: ignore[call-overload]


def test_supervision_draws_the_people() -> None:
    sv = pytest.importorskip("supervision")
    poses = people(3, 0.0, 3)
    key_points, detections = poses.to_supervision()
    assert np.array_equal(key_points.xy, poses.keypoints)
    assert np.array_equal(key_points.keypoint_confidence, poses.scores)
    assert np.array_equal(detections.xyxy, poses.boxes)
    assert detections.tracker_id.tolist() == poses.ids.tolist() == [3, 4, 5]
    assert detections[detections.tracker_id == 4].confidence.tolist() == [poses.person_scores[1]]
    scene = np.zeros((300, 300, 3), np.uint8)
    drawn = sv.EdgeAnnotator().annotate(scene.copy(), key_points)
    assert drawn.any()
    for empty in Poses.empty(0, 0.0, 17).to_supervision():
        assert len(empty) == 0
    untracked = replace(poses, ids=np.full(3, -1)).to_supervision()[1]
    assert untracked.tracker_id is None


def test_a_frame_as_json_values_is_its_line(folder: Path, given: list[Poses]) -> None:
    lines = (folder / "out.jsonl").read_text().splitlines()
    for poses, line in zip(given, lines, strict=True):
        assert replace(poses, skeleton=COCO17).to_dict() == json.loads(line)


def test_people_carry_what_the_columns_hold() -> None:
    poses = replace(people(3, 0.0, 3), skeleton=COCO17)
    again = pickle.loads(pickle.dumps(poses[1:]))
    assert again.skeleton == COCO17
    assert [person.id for person in again] == [4, 5]
    for person, i in zip(again, (1, 2), strict=True):
        assert person.score == poses.person_scores[i]
        assert person["left_hip"] == person[11] == (*poses.keypoints[i, 11], poses.scores[i, 11])
        assert poses.actions is not None
        assert person.action == poses.actions[i]
    with pytest.raises(ModelError, match="skeleton 'coco17' has no joint 'tail'"):
        person["tail"]
    unnamed = next(iter(people(3, 0.0, 1)))
    assert unnamed[0].x == people(3, 0.0, 1).keypoints[0, 0, 0]
    with pytest.raises(ModelError, match="do not know which joint is 'nose'"):
        unnamed["nose"]
