"""The main job, end to end, with the weights that the package ships."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrtrack import Tracker
from hrtrack.cli import main
from hrtrack.cli.outputs import picture_maker
from hrtrack.cli.track import counted
from hrtrack.errors import UsageError
from hrtrack.tracker.outputs.pictures.draw import DrawOptions
from hrtrack.tracker.outputs.pictures.encoders import HARDWARE, fault_of
from hrtrack.tracker.outputs.pictures.image import write_image
from hrtrack.tracker.outputs.results.jsonl import read_jsonl
from hrtrack.tracker.progress import Speed
from hrtrack.tracker.video.open import open_source

from ..clips import canvas, count_frames, moving_portrait

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
    assert run("draw", str(clip), str(results), "--output", str(again)) == 0
    assert count_frames(again) == FRAMES


def test_the_encoder_is_chosen_before_a_frame_is_tracked(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "r.jsonl"
    assert run("-s", str(clip), "-o", str(tmp_path / "o.mp4"), "--encoder", "auto") == 0
    assert count_frames(tmp_path / "o.mp4") == FRAMES
    capfd.readouterr()
    given = "-s", str(clip), "--save", str(results), "-o"
    assert run(*given, str(tmp_path / "o.webm"), "--encoder", "h264_nvenc") == 2
    assert "which" in capfd.readouterr().err
    missing = [name for name in HARDWARE if fault_of(name, 320, 240) is not None]
    for name in missing[:1]:
        assert run(*given, str(tmp_path / "o2.mp4"), "--encoder", name) == 1
        said = capfd.readouterr().err.splitlines()
        assert len(said) == 1
        assert f"--encoder {name}: " in said[0]
        assert not results.exists()
        assert not (tmp_path / "o2.mp4").exists()


def test_a_frame_may_be_drawn_when_the_loop_is_further_on(clip: Path) -> None:
    layers = DrawOptions.parse("skeleton,heatmaps", 0.3)
    with Tracker() as tracker:
        pictures = []
        for late in (False, True):
            with open_source(str(clip)) as source:
                frames = list(source)[:6]
            pipeline = tracker.pipeline(keep_heatmaps=True)
            paint = picture_maker(tracker.skeleton, layers, pipeline)
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
        blurred = tracker.draw(image, poses, layers="blur-faces")
        assert (blurred != image).any()
        assert not np.array_equal(blurred, drawn)
        for wrong in (image.astype(np.float32), image[:0], image[:, :0], image.tolist(), None):
            for take in (tracker.image, partial(tracker.draw, poses=poses)):
                with pytest.raises(ValueError, match=r"uint8 with pixels, .* found"):
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
        {"target_fps": 0}, {"target_fps": "x"}, {"target_fps": float("nan")}, {"target_fps": True},
        {"max_people": True}, {"detector": None}, {"detector": len}, {"action": 5},
    ],
)  # fmt: skip
def test_impossible_options_are_refused_before_anything_is_loaded(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=rf"^{name} is ") as failure:
        Tracker("no_such_model", **option)
    assert "\n" not in str(failure.value)


@pytest.mark.slow
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


def test_the_summary_counts_identities_and_people_a_frame(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(clip), "--save", str(tmp_path / "a.jsonl")])
    assert stop.value.code == 0
    last = capfd.readouterr().err.splitlines()[-1]
    poses = list(read_jsonl(tmp_path / "a.jsonl"))
    ids = len({one for frame in poses for one in frame.ids.tolist()})
    mean = sum(map(len, poses)) / FRAMES
    assert f": ok, {FRAMES} frames, {counted(ids, 'identity', 'identities')}, " in last
    assert re.search(rf", {mean:.1f} people per frame, [0-9.]+ FPS$", last)


def test_no_frames_are_a_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = "lavfi:color=size=96x64:rate=25:duration=0.2"
    words = ("--start", "0:05", "--end", "0:09", "--save", str(tmp_path / "a.csv"))
    assert run("--source", source, *words) == 1
    told = capfd.readouterr().err.splitlines()
    assert told == [f"hrtrack: {source}: no frame could be read for --start 5 --end 9"]


def test_a_model_that_is_sure_of_nobody_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with Tracker(min_score=0.99) as unsure:
        for _ in range(2):
            assert len(unsure.image(canvas(60))) == 0
        assert not caplog.messages
    assert len(caplog.messages) == 1
    assert re.search(
        "found people [0-9]+ times, but the pose model was sure of none", caplog.messages[0]
    )
    with Tracker() as sure:
        assert len(sure.image(canvas(60))) > 0
    assert len(caplog.messages) == 1


def test_the_running_rate_averages_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("hrtrack.tracker.progress.time.monotonic", lambda: now[0])
    speed = Speed()
    for _ in range(4):  # a quick frame out of a queue, then one that took its time
        for seconds in (0.0001, 0.0999):
            now[0] += seconds
            speed.step()
    assert speed.now == pytest.approx(20, rel=0.01)
    for _ in range(200):
        now[0] += 0.01
        speed.step()
    assert speed.now == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    ("missing", "arguments", "words"),
    [
        (
            "torch",
            ["--device", "cuda"],
            "--device cuda needs PyTorch: pip install 'hrtrack[train]'",
        ),
        ("torch", ["-m", "my.pth"], "a checkpoint needs PyTorch: pip install 'hrtrack[train]'"),
        ("torch", ["--backend", "tensorrt"], "needs PyTorch: pip install 'hrtrack[tensorrt]'"),
        ("pyarrow", ["--save", "parquet:x"], "needs pyarrow: pip install 'hrtrack[parquet]'"),
        ("aiohttp", ["--serve", "8000"], "--serve needs aiohttp: pip install 'hrtrack[serve]'"),
        ("ray", ["--ray", "auto", "-o", "out"], "--ray needs Ray: pip install 'hrtrack[ray]'"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_opened(
    missing: str,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("hrtrack.cli.track.make_tracker", None)  # no network is loaded
    saved = [] if "--ray" in arguments else ["--save", "a.csv"]
    code = run("--source", "webcam:63", *saved, *arguments)
    assert code == 1
    assert words in capfd.readouterr().err
