"""The main job, end to end, with the weights that the package ships."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrtrack import Tracker
from hrtrack.cli import main
from hrtrack.cli.outputs import painter
from hrtrack.errors import UsageError
from hrtrack.tracker.draw import DrawOptions
from hrtrack.tracker.sinks.jsonl import read_jsonl
from hrtrack.tracker.sinks.picture import write_image
from hrtrack.tracker.source import open_source

from .clips import canvas, count_frames, moving_portrait

FRAMES = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_portrait(tmp_path_factory.mktemp("clips") / "portrait.mp4", FRAMES)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--quiet"])
    return int(stop.value.code or 0)


def test_one_command_annotates_and_saves(clip: Path, tmp_path: Path) -> None:
    out, results = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    assert run("--source", str(clip), "--output", str(out), "--save", str(results)) == 0
    assert count_frames(out) == FRAMES
    poses = list(read_jsonl(results))
    assert [one.frame for one in poses] == list(range(FRAMES))
    assert not list(tmp_path.glob("*.part*"))

    again = tmp_path / "again.mp4"
    redraw = ("--source", str(clip), "--redraw", str(results), "--output", str(again))
    assert run(*redraw) == 0
    assert count_frames(again) == FRAMES


def test_a_frame_may_be_drawn_when_the_loop_is_further_on(clip: Path) -> None:
    layers = DrawOptions.parse("skeleton,heatmaps", 0.3)
    with Tracker() as tracker:
        pictures = []
        for late in (False, True):
            with open_source(str(clip)) as source:
                frames = list(source)[:6]
            pipeline = tracker.pipeline(keep_heatmaps=True)
            paint = painter(tracker.skeleton, layers, pipeline)
            waiting = []
            for frame in frames:
                waiting.append(paint(frame, pipeline.step(frame)))
                if not late:
                    waiting[-1]()
            pictures.append([draw() for draw in waiting] if late else [f.image for f in frames])
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0][0], pictures[0][5])


def test_outputs_are_not_replaced_unasked(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine\n")
    assert run("--source", str(clip), "--save", str(out)) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine\n"
    assert run("--source", str(clip), "--save", str(out), "--overwrite") == 0
    assert len(out.read_text().splitlines()) == FRAMES


def test_one_bad_clip_does_not_stop_the_rest(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a_good.mp4").write_bytes(clip.read_bytes())
    (folder / "b_bad.mp4").write_bytes(b"no video at all")
    (folder / "c_good.mp4").write_bytes(clip.read_bytes())
    out = tmp_path / "out"
    code = run("--source", str(folder), "--output", str(out), "--save", f"jsonl:{tmp_path / 'r'}")
    assert code == 1
    assert sorted(path.name for path in out.iterdir()) == ["a_good_pose.mp4", "c_good_pose.mp4"]
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        "a_good.jsonl",
        "c_good.jsonl",
    ]
    assert "b_bad.mp4" in capsys.readouterr().err


def test_the_portrait_is_followed_through_the_clip(clip: Path) -> None:
    with Tracker(max_people=1, backend="openvino") as tracker:
        seen = [(frame, poses) for frame, poses in tracker.track(clip)]
    assert len(seen) == FRAMES
    found = [poses for _, poses in seen if len(poses)]
    assert len(found) >= FRAMES - 3
    assert {int(poses.ids[0]) for poses in found} == {1}
    # The person slides by four pixels a frame; so must the box.
    moved = found[-1].boxes[0, [0, 2]].mean() - found[0].boxes[0, [0, 2]].mean()
    assert moved == pytest.approx(4 * (found[-1].frame - found[0].frame), abs=25)


def test_one_image() -> None:
    image = canvas(150)
    with Tracker(backend="openvino") as tracker:
        poses = tracker.image(image)
        drawn = tracker.draw(image, poses)
        grey, empty = image[..., 0], image[:0]
        for wrong in (image.astype(np.float32), grey, empty, image[:, :0], image.tolist(), None):
            for take in (tracker.image, partial(tracker.draw, poses=poses)):
                with pytest.raises(ValueError, match="uint8 with pixels, found"):
                    take(wrong)
        with pytest.raises(ValueError, match="poses must be what"):
            tracker.draw(image, None)  # type: ignore[arg-type]
    assert len(poses) >= 1
    best = int(poses.person_scores.argmax())
    nose = poses.keypoints[best, tracker.skeleton.index("nose")]
    # Where the face is in the photo, on the canvas's scale.
    np.testing.assert_allclose(nose, [150 + 300 * 0.6, 360 * 0.35], atol=70)
    assert (drawn != image).any()


@pytest.mark.parametrize(
    "option",
    [
        {"precision": "x"}, {"smooth": "x"}, {"threads": 0}, {"threads": 1.5}, {"max_people": 0},
        {"max_people": -1}, {"min_score": 5}, {"min_score": float("nan")}, {"min_score": "0.3"},
        {"detect_every": "x"}, {"detect_every": 0}, {"detect_every": None},
        {"max_people": True}, {"detector": None}, {"detector": len}, {"action": 5},
    ],
)  # fmt: skip
def test_impossible_options_are_refused_before_anything_is_loaded(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=rf"^{name} is ") as failure:
        Tracker("no_such_model", **option)
    assert "\n" not in str(failure.value)


def test_the_readme_snippet_runs(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert snippets
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})


def test_jobs_go_on_where_they_were_broken_off(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "b.mp4").write_bytes(b"no video at all")
    job = ("--source", str(folder), "--output", str(out), "--jobs", "2")
    assert run(*job) == 1
    assert "b.mp4" in capsys.readouterr().err
    assert count_frames(out / "a_pose.mp4") == FRAMES
    before = (out / "a_pose.mp4").stat().st_mtime_ns
    (folder / "b.mp4").write_bytes(clip.read_bytes())
    assert run(*job) == 0
    assert count_frames(out / "b_pose.mp4") == FRAMES
    assert (out / "a_pose.mp4").stat().st_mtime_ns == before


def test_clips_that_would_share_an_output_are_refused(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mp4").write_bytes(clip.read_bytes())
    code = run("--source", str(tmp_path / "*" / "x.mp4"), "--output", str(tmp_path / "out"))
    assert code == 2
    assert "would both be written" in capsys.readouterr().err


def test_a_folder_of_numbered_pictures_is_one_clip(tmp_path: Path) -> None:
    row = tmp_path / "row"
    row.mkdir()
    for number in (8, 9, 10, 12):
        write_image(row / f"img_{number}.jpg", canvas(60 + 4 * number))
    out, results = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    asked = ("--source", str(row), "--sequence", "10", "--output", str(out))
    assert run(*asked, "--save", str(results)) == 0
    assert count_frames(out) == 4
    poses = list(read_jsonl(results))
    assert [one.time for one in poses] == pytest.approx([0, 0.1, 0.2, 0.4])
    assert all(len(one) for one in poses)
