"""Every results format read back, and every output that cannot be written refused in one line."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack.errors import DataError, SinkError, UsageError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17, MPII16
from hrtrack.tracker.outputs.base import FORMATS, READABLE, SUFFIXES, Target, parse_save, prepare
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures.image import write_image
from hrtrack.tracker.outputs.results.coco import read_coco
from hrtrack.tracker.outputs.results.jsonl import read_jsonl, skeleton_of
from hrtrack.tracker.outputs.results.mot import read_mot
from hrtrack.tracker.outputs.results.openpose import BODY_25, read_openpose, to_body25
from hrtrack.tracker.outputs.results.read import read_results
from hrtrack.tracker.outputs.results.table import read_csv
from hrtrack.tracker.video.open import open_source, read_image

from ..clips import make_clip, stamped
from ..files import people, save_to


def written(folder: Path, saves: list[str], *, actions: bool = True) -> list[Poses]:
    """Runs a clip of six frames, with 0 to 3 people in them, into the given outputs."""
    clip = make_clip(folder / "walk.mp4", 6)
    given = []
    with (
        open_source(str(clip)) as source,
        open_sinks([parse_save(save) for save in saves], source=source, skeleton=COCO17) as sinks,
    ):
        for frame in source:
            given.append(people(frame.index, frame.time, frame.index % 4, actions=actions))
            assert sinks.write(frame, given[-1], lambda image=frame.image: image)  # type: ignore[misc]
    return given


def assert_same(found: Poses, given: Poses, *, timed: bool = True) -> None:
    assert found.frame == given.frame
    if timed:
        assert found.time == pytest.approx(given.time, abs=1e-6)
    assert np.array_equal(found.ids, given.ids)
    for name, tolerance in (("boxes", 0.011), ("keypoints", 0.006), ("scores", 1e-4)):
        assert np.allclose(getattr(found, name), getattr(given, name), rtol=0, atol=tolerance)
    assert np.allclose(found.person_scores, given.person_scores, rtol=0, atol=1e-4)
    if given.actions is not None and any(given.actions):
        assert found.actions == given.actions
    else:
        assert found.actions is None


@pytest.mark.parametrize("actions", [True, False])
def test_json_lines_hold_every_frame(tmp_path: Path, actions: bool) -> None:
    given = written(tmp_path, [f"{tmp_path}/out.jsonl"], actions=actions)
    found = list(read_jsonl(tmp_path / "out.jsonl"))
    assert len(found) == len(given) == 6
    for one, other in zip(found, given, strict=True):
        assert_same(one, other)
    assert skeleton_of(tmp_path / "out.jsonl") == "coco17"
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])
    assert set(first) == {"frame", "time", "skeleton", "people"}
    assert set(first["people"][0]) == {"id", "score", "box", "keypoints", "action"}


def test_rows_hold_every_frame_with_people(tmp_path: Path) -> None:
    given = written(tmp_path, [f"{tmp_path}/out.csv", f"{tmp_path}/out.json"])
    peopled = [poses for poses in given if len(poses)]
    for read, name in ((read_csv, "out.csv"), (read_coco, "out.json")):
        found = list(read(tmp_path / name))
        assert len(found) == len(peopled)
        for one, other in zip(found, peopled, strict=True):
            assert_same(one, other)


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from hrtrack.tracker.outputs.results.parquet import read_parquet

    given = written(tmp_path, [f"{tmp_path}/out.parquet"])
    found = list(read_parquet(tmp_path / "out.parquet"))
    for one, other in zip(found, [poses for poses in given if len(poses)], strict=True):
        assert_same(one, other)


def test_coco_results_load_in_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    given = written(tmp_path, [f"coco:{tmp_path}/out.json"])
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": poses.frame} for poses in given],
        "annotations": [],
        "categories": [{"id": 1}],
    }
    truth.createIndex()
    results = truth.loadRes(str(tmp_path / "out.json"))
    assert len(results.anns) == sum(len(poses) for poses in given)
    assert len(next(iter(results.anns.values()))["keypoints"]) == 51


def test_mot_rows(tmp_path: Path) -> None:
    given = written(tmp_path, [f"{tmp_path}/out.txt"])
    rows = list(read_mot(tmp_path / "out.txt"))
    expected = [(p.frame, int(p.ids[i]), p.boxes[i], p.actions[i])
                for p in given for i in range(len(p)) if p.actions is not None]  # fmt: skip
    assert [(row.frame, row.id, row.action) for row in rows] == [
        (frame, id_, action) for frame, id_, _, action in expected
    ]
    for row, (_, _, box, _) in zip(rows, expected, strict=True):
        assert row.box == pytest.approx(box.tolist(), abs=0.02)
    plain = tmp_path / "plain"
    plain.mkdir()
    written(plain, [f"{plain}/out.txt"], actions=False)
    assert all(line.count(",") == 9 for line in (plain / "out.txt").read_text().splitlines())


def test_openpose_files(tmp_path: Path) -> None:
    given = written(tmp_path, [f"openpose:{tmp_path}/op"])
    found = list(read_openpose(tmp_path / "op"))
    assert [one.frame for one in found] == list(range(6))
    for one, poses in zip(found, given, strict=True):
        assert np.array_equal(one.ids, poses.ids)
        joints = np.concatenate([one.keypoints, one.scores[..., None]], axis=2)
        assert joints.shape[1:] == (25, 3)
        wrist, nose = BODY_25.index("right_wrist"), 0
        assert np.allclose(joints[:, wrist, :2], poses.keypoints[:, 10], atol=0.006)
        assert np.allclose(joints[:, nose, 2], poses.scores[:, 0], atol=1e-4)
        neck = (poses.keypoints[:, 5] + poses.keypoints[:, 6]) / 2
        assert np.allclose(joints[:, 1, :2], neck, atol=0.01)
    assert (tmp_path / "op" / "walk_000000000005_keypoints.json").is_file()


def test_openpose_takes_other_skeletons() -> None:
    poses = Poses.empty(0, 0.0, 16)
    assert to_body25(poses, MPII16).shape == (0, 25, 3)


def test_an_action_of_nobody_is_null(tmp_path: Path) -> None:
    written(tmp_path, [f"{tmp_path}/out.jsonl"])
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[2]["people"][0]["action"] == {"label": "jump_rope", "score": 0.75}
    assert lines[2]["people"][1]["action"] is None


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, [f"{tmp_path}/out.jsonl"])
    path = tmp_path / "out.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert [poses.frame for poses in read_jsonl(path)] == [0, 1, 2, 3, 4]
    path.write_text('{"frame":0}\n')
    with pytest.raises(DataError, match="line 1 of"):
        list(read_jsonl(path))
    with pytest.raises(DataError, match="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="cannot read"):
        list(read_jsonl(tmp_path))


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    for form, suffixes in SUFFIXES.items():
        for suffix in suffixes:
            assert parse_save(f"dir/out{suffix}") == Target(form, f"dir/out{suffix}")
    assert parse_save("-") == Target("jsonl", "-")
    assert parse_save("openpose:dir/x") == Target("openpose", "dir/x")
    assert parse_save("jsonl:results.txt") == Target("jsonl", "results.txt")
    assert parse_save("C:results.csv").format == "csv"
    for unknown in ("a.docx", "results", "nosuchformat:a.x", "csv:", "video:a.avi"):
        with pytest.raises(UsageError) as failure:
            parse_save(unknown)
        assert "\n" not in str(failure.value)
    with pytest.raises(UsageError, match=r"known suffixes are \.mp4"):
        parse_save("a.docx")
    monkeypatch.setitem(FORMATS, "body-25x", FORMATS["openpose"])
    assert parse_save("body-25x:dir/x") == Target("body-25x", "dir/x")
    # A time of day in a name is no format.
    assert parse_save("at 12:30.mp4") == Target("video", "at 12:30.mp4")


def test_a_name_that_is_too_long_is_refused_in_one_line(tmp_path: Path) -> None:
    for length in (250, 300):
        with pytest.raises(SinkError, match="file name too long"):
            prepare(parse_save(str(tmp_path / ("n" * length + ".mp4"))), overwrite=False)


def test_openpose_files_of_a_longer_name_stay(tmp_path: Path) -> None:
    other = tmp_path / "op" / "walk_b_000000000000_keypoints.json"
    stale = tmp_path / "op" / "walk_000000000099_keypoints.json"
    other.parent.mkdir()
    for path in (other, stale):
        path.write_text("{}")
    clip = make_clip(tmp_path / "walk.mp4", 2)
    targets = [parse_save(f"openpose:{tmp_path}/op")]
    with (
        open_source(str(clip)) as source,
        open_sinks(targets, source=source, skeleton=COCO17, overwrite=True),
    ):
        pass
    assert other.exists()
    assert not stale.exists()


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "image"])
def test_existing_outputs_are_kept(tmp_path: Path, form: str) -> None:
    save = save_to(tmp_path, form)
    written(tmp_path, [save])
    target = parse_save(save)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    with open_source(str(tmp_path / "walk.mp4")) as source:
        with pytest.raises(SinkError, match="--overwrite"):
            open_sinks([target], source=source, skeleton=COCO17)
        assert before == sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
        open_sinks([target], source=source, skeleton=COCO17, overwrite=True).close()


def test_what_a_killed_run_left_is_kept(tmp_path: Path) -> None:
    (tmp_path / "o.part.mp4").write_text("half a video")
    clip = make_clip(tmp_path / "walk.mp4", 2)
    with open_source(str(clip)) as source, pytest.raises(SinkError, match="cut off"):
        open_sinks([parse_save(f"{tmp_path}/o.mp4")], source=source, skeleton=COCO17)


def test_unwritable_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    clip = make_clip(tmp_path / "walk.mp4", 2)
    for save in (f"{tmp_path}/file/o.mp4", "/proc/o.jsonl", f"openpose:{tmp_path}/file"):
        with open_source(str(clip)) as source, pytest.raises(SinkError) as failure:
            open_sinks([parse_save(save)], source=source, skeleton=COCO17)
        assert "\n" not in str(failure.value)


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    written(tmp_path, [f"{tmp_path}/deep/er/out.jsonl"])
    assert (tmp_path / "deep/er/out.jsonl").is_file()


def test_standard_output_is_a_pipe(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "walk.mp4", 30)
    script = (
        "import sys\n"
        "from hrtrack.poses import Poses\n"
        "from hrtrack.skeleton import COCO17\n"
        "from hrtrack.tracker.video.open import open_source\n"
        "from hrtrack.tracker.outputs.open import open_sinks\n"
        "from hrtrack.tracker.outputs.base import parse_save\n"
        "with open_source(sys.argv[1]) as s, "
        "open_sinks([parse_save('-')], source=s, skeleton=COCO17) as k:\n"
        "    n = 0\n"
        "    for f in s:\n"
        "        n += 1\n"
        "        if not k.write(f, Poses.empty(f.index, f.time, 17), lambda: f.image): break\n"
        "print(n, file=sys.stderr)\n"
    )
    whole = subprocess.run(
        [sys.executable, "-c", script, str(clip)], capture_output=True, text=True, timeout=60
    )
    assert [json.loads(line)["frame"] for line in whole.stdout.splitlines()] == list(range(30))
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run(
        [sys.executable, "-c", script, str(clip)], stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert gone.returncode == 0
    assert gone.stderr.strip() == b"1"


def test_pictures_are_written(tmp_path: Path) -> None:
    image = stamped(99)
    write_image(tmp_path / "in.png", image)
    with (
        open_source(str(tmp_path / "in.png")) as source,
        open_sinks(
            [parse_save(f"{tmp_path}/out.png"), parse_save(f"{tmp_path}/out.jpg")],
            source=source,
            skeleton=COCO17,
        ) as sinks,
    ):
        for frame in source:
            sinks.write(frame, Poses.empty(0, 0.0, 17), lambda: 255 - image)
    assert np.array_equal(read_image(tmp_path / "out.png"), 255 - image)
    assert abs(read_image(tmp_path / "out.jpg").astype(int) - (255 - image)).mean() < 8
    clip = make_clip(tmp_path / "walk.mp4", 2)
    with open_source(str(clip)) as source, pytest.raises(SinkError, match=r"name a video"):
        open_sinks([parse_save(f"{tmp_path}/x.png")], source=source, skeleton=COCO17)


def test_the_picture_is_drawn_once_and_only_if_needed(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "walk.mp4", 3)
    for names, expected in ((("a.jsonl", "a.csv"), 0), (("b.mp4", "c.mkv"), 3)):
        drawn: list[int] = []
        saves = [parse_save(f"{tmp_path}/{name}") for name in names]

        def draw(image: NDArray[np.uint8], drawn: list[int] = drawn) -> NDArray[np.uint8]:
            drawn.append(1)
            return image

        with (
            open_source(str(clip)) as source,
            open_sinks(saves, source=source, skeleton=COCO17) as sinks,
        ):
            for frame in source:
                sinks.write(frame, people(frame.index, frame.time, 1), partial(draw, frame.image))
        assert len(drawn) == expected


def test_errno_is_told_in_words() -> None:
    from hrtrack.errors import write_error

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(write_error("a.csv", full)) == "a.csv cannot be written: no space left on device"


@pytest.mark.parametrize("form", READABLE)
def test_who_was_carried_stands_in_the_results(tmp_path: Path, form: str) -> None:
    clip = make_clip(tmp_path / "walk.mp4", 3)
    save = save_to(tmp_path, form)
    flags = [[True, False, True], [False, False, True], [True, True, True]]
    with (
        open_source(str(clip)) as source,
        open_sinks([parse_save(save)], source=source, skeleton=COCO17, budget=True) as sinks,
    ):
        for frame, estimated in zip(source, flags, strict=True):
            poses = replace(people(frame.index, frame.time, 3), estimated=np.array(estimated))
            assert sinks.write(frame, poses, lambda image=frame.image: image)  # type: ignore[misc]
    found = [poses.estimated.tolist() for poses in read_results(save)]
    assert found == ([[True] * 3] * 3 if "estimated" in FORMATS[form].lacks else flags)


@pytest.mark.parametrize("form", FORMATS)
def test_a_fifo_and_a_pipe_take_what_their_format_says(tmp_path: Path, form: str) -> None:
    fifo, known = tmp_path / "rows", FORMATS[form]
    os.mkfifo(fifo)
    if known.fifo:
        prepare(Target(form, str(fifo)), overwrite=False)
        assert known.stdout
    else:
        with pytest.raises(SinkError, match=r"no regular file|is a file; "):
            prepare(Target(form, str(fifo)), overwrite=False)
    if known.stdout:
        assert parse_save(f"{form}:-") == Target(form, "-")
    else:
        with pytest.raises(UsageError, match="cannot go to standard output"):
            parse_save(f"{form}:-")


def test_poses_say_of_everybody_whether_they_were_estimated() -> None:
    poses = people(0, 0.0, 3, actions=False)
    assert poses.estimated.all()
    assert "estimated" not in poses.to_dict()["people"][0]
    poses = replace(poses, estimated=np.array([True, False, True]))
    assert [person.estimated for person in poses] == [True, False, True]
    assert poses[1:].estimated.tolist() == [False, True]
    assert poses.to_dict()["people"][1]["estimated"] is False
