"""Several sources at a time in one process: each is what it is alone, whatever others do."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrtrack.cli import main
from hrtrack.cli.side_by_side import tile_labels
from hrtrack.tracker.outputs.results.jsonl import read_jsonl

from ..clips import count_frames, moving_portrait
from ..test_stop import CAMERA, begin, lines_in, long_clip, wait_for
from ..tracker.video.server import Camera

FRAMES = 16


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two clips of one name, and a third."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "left").mkdir()
    (folder / "right").mkdir()
    return [
        moving_portrait(folder / "left" / "hall.mp4", FRAMES),
        moving_portrait(folder / "right" / "hall.mp4", FRAMES - 5, fps=10),
        moving_portrait(folder / "door.mp4", FRAMES - 9, fps=15),
    ]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(one) for one in arguments])
    return int(stop.value.code or 0)


def test_two_sources_are_two_runs(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    for place, clip in enumerate(clips[:2]):
        saved = ("--save", alone / f"{place}.jsonl", "--save", alone / f"{place}.csv")
        assert run("-s", clip, *saved, "-q") == 0
    capsys.readouterr()
    saved = ("--save", both / "{name}.jsonl", "--save", f"csv:{both}", "-o", both / "{name}.mp4")
    assert run("-s", clips[0], "-s", clips[1], *saved) == 0
    for suffix in ("jsonl", "csv"):
        for place, name in enumerate(("hall", "hall_2")):
            expected = (alone / f"{place}.{suffix}").read_bytes()
            assert (both / f"{name}.{suffix}").read_bytes() == expected
    assert count_frames(both / "hall_2.mp4") == FRAMES - 5
    said = capsys.readouterr().err
    assert f"the outputs of {clips[1]} are called hall_2" in said
    assert f"hrtrack: {clips[1]}: ok, {FRAMES - 5} frames" in said
    assert "hrtrack: 2 sources, 0 with errors" in said


def test_a_folder_beside_a_clip_is_taken_in_turn(clips: list[Path], tmp_path: Path) -> None:
    folder = clips[0].parent.parent
    pattern = str(folder / "*" / "hall.mp4")
    assert run("-s", pattern, "-s", clips[2], "--save", f"jsonl:{tmp_path}", "-q") == 0
    found = {path.name: lines_in(path) for path in tmp_path.glob("*.jsonl")}
    assert found == {"hall.jsonl": FRAMES, "hall_2.jsonl": FRAMES - 5, "door.jsonl": FRAMES - 9}


def test_one_that_fails_ends_no_other(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.mp4"
    assert run("-s", clips[0], "-s", missing, "--save", tmp_path / "{name}.jsonl") == 1
    assert lines_in(tmp_path / "hall.jsonl") == FRAMES
    said = capsys.readouterr().err
    assert said.count(f"hrtrack: no such file: {missing}\n") == 1
    assert f"{missing}: failed, 0 frames" in said
    assert "hrtrack: 2 sources, 1 with errors" in said
    assert not (tmp_path / "missing.jsonl").exists()


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    camera = Camera("ts")
    camera.start(tmp_path / "sent.txt")
    yield camera
    camera.kill()


@pytest.mark.slow
def test_a_source_that_goes_away_leaves_the_other(
    camera: Camera, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    name = f"127.0.0.1_{camera.port}"
    gone = threading.Event()

    def cut_power() -> None:
        while lines_in(results / f"{name}.jsonl") < 6:
            time.sleep(0.02)
        camera.kill()
        gone.set()

    threading.Thread(target=cut_power, daemon=True).start()
    clip = long_clip(tmp_path / "long.mp4")
    code = run("-s", camera.url, "-s", clip, "--end", 6, "--save", f"jsonl:{results}")
    assert gone.is_set()
    assert lines_in(results / "long.jsonl") == 150
    alone = tmp_path / "alone.jsonl"
    assert run("-s", clip, "--end", 6, "--save", alone, "-q") == 0
    assert (results / "long.jsonl").read_bytes() == alone.read_bytes()
    assert len(list(read_jsonl(results / f"{name}.jsonl"))) >= 5
    said = capsys.readouterr().err
    assert f"{clip}: ok, 150 frames" in said
    assert f"hrtrack: {camera.url}: " in said
    assert code in (0, 1)  # a stream that closes in order has ended, one that breaks off failed


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_signal_ends_all_of_them_whole(number: signal.Signals, code: int, tmp_path: Path) -> None:
    clip = long_clip(tmp_path / "clip.mp4")
    process = begin("-s", CAMERA, "-s", str(clip), "--save", f"jsonl:{tmp_path}")

    def under_way() -> bool:
        return sum(lines_in(path) >= 4 for path in tmp_path.glob("*.jsonl")) == 2

    wait_for(under_way, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.count("stopped,") == 2, said
    for path in tmp_path.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--jobs", "2", "-o", "out"), "several sources always run side by side"),
        (("--redraw", "x.jsonl", "-o", "out"), "hrtrack draw takes one source"),
        (("--save", "out.jsonl"), "put {name} in the file's name"),
        (("--save", "-"), "put {name} in the file's name"),
        (("-o", "out.mp4"), "put {name} in the file's name"),
        ((), "nothing to show and nothing to write"),
    ],
)
def test_what_several_sources_cannot_have(
    clips: list[Path], more: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-s", clips[0], "-s", clips[2], *more) == 2
    said = capsys.readouterr().err
    lines = [
        line for line in said.splitlines() if "will be removed in the next version" not in line
    ]
    assert len(lines) == 1
    assert words in lines[0]


def test_one_source_twice_is_refused(clips: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-s", clips[2], "-s", clips[2], "-o", "out") == 2
    assert f"{clips[2]} is named twice as a source" in capsys.readouterr().err


def test_networks_that_cannot_be_loaded_are_one_line(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--model", tmp_path / "none.onnx", "--save", f"jsonl:{tmp_path}")
    assert run("-s", clips[0], "-s", clips[2], *more) != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_tiles_are_called_so_that_one_knows_which_is_which() -> None:
    files = ["clips/left/hall.mp4", "clips/right/hall.mp4", "clips/door.mp4", "webcam"]
    assert tile_labels(files) == ["left/hall.mp4", "right/hall.mp4", "door.mp4", "webcam"]
    cameras = [
        "rtsp://me:secret@10.0.0.7:554/live?token=secret",
        "rtsp://10.0.0.8/live",
        "http://10.0.0.9/",
    ]
    assert tile_labels(cameras) == ["me:***@10.0.0.7:554/live", "10.0.0.8/live", "10.0.0.9"]
    assert tile_labels(["hall.mp4", "left/hall.mp4"]) == ["hall.mp4", "left/hall.mp4"]
