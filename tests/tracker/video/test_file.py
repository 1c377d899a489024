"""Files and pictures as sources: every frame, its true time, and one line for what is broken."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hrtrack.errors import SourceError, TruncatedSourceError, UsageError
from hrtrack.pyav import BEHIND, av
from hrtrack.tracker.outputs.pictures.image import write_image
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video import file as source_file
from hrtrack.tracker.video.base import LiveOptions, ReadAhead, without_password
from hrtrack.tracker.video.camera import camera_input, camera_number
from hrtrack.tracker.video.open import expand_sources, list_cameras, open_source

from ..clips import make_clip, number_of, stamped, turn


def numbers(source: str | Path, start: float | None = None, end: float | None = None,
            stride: int = 1) -> list[tuple[int, int, float]]:  # fmt: skip
    with open_source(str(source), start=start, end=end, stride=stride) as frames:
        return [(frame.index, number_of(frame.image), frame.time) for frame in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_every_frame_arrives_in_order_with_its_time(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / f"clip{suffix}", 25, fps=20)
    watch = Stopwatch()
    with open_source(str(clip), stopwatch=watch) as source:
        assert source.size == (96, 64)
        assert source.kind == "file"
        assert not source.is_live
        assert float(source.fps or 0) == pytest.approx(20)
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(25))
    assert [frame.index for frame in frames] == list(range(25))
    assert [frame.time for frame in frames] == pytest.approx([i / 20 for i in range(25)], abs=2e-3)
    for frame in frames:
        assert frame.pts is not None
        assert frame.time_base is not None
        assert float(frame.pts * frame.time_base) == frame.time
    assert watch.counts["decode"] == 25


def test_the_upcoming_frame_is_the_one_that_comes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 20)
    with open_source(str(clip)) as source:
        assert source.upcoming() is None  # the decoder begins with the iteration
        seen, expected = [], None
        for frame in source:
            assert expected is None or frame is expected
            seen.append(number_of(frame.image))
            end = time.monotonic() + 10
            while (expected := source.upcoming()) is None and len(seen) < 20:
                assert time.monotonic() < end
                time.sleep(0.001)
            assert source.upcoming() is expected
    assert seen == list(range(20))


def test_a_fault_is_no_upcoming_frame(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.ts", 60)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    whole, seen = list[int](), list[int]()
    with contextlib.suppress(TruncatedSourceError), open_source(str(clip)) as source:
        whole.extend(number_of(frame.image) for frame in source)
    with contextlib.suppress(TruncatedSourceError), open_source(str(clip)) as source:
        for frame in source:
            seen.append(number_of(frame.image))
            source.upcoming()
    assert seen == whole
    assert 20 < len(seen) < 60


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="priorities of threads are Linux's"
)
def test_the_codecs_threads_stand_behind_the_loop_s(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 60)
    names = {"MainThread", "decode"}
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with open_source(str(clip)) as source:
        frames = iter(source)
        next(frames)
        python = [thread for thread in threading.enumerate() if thread.name in names]
        priorities = {"codec": set[int](), "python": set[int]()}
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # a thread of an earlier test may end just now
                if (task / "comm").read_text().startswith("av:h264"):
                    priorities["codec"].add(os.getpriority(os.PRIO_PROCESS, int(task.name)))
        for thread in python:
            assert thread.native_id is not None
            priorities["python"].add(os.getpriority(os.PRIO_PROCESS, thread.native_id))
    assert priorities == {"codec": {min(before + BEHIND, 19)}, "python": {before}}


def test_colours_survive(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 1)
    with open_source(str(clip)) as source:
        frame = next(iter(source))
    assert abs(frame.image.astype(int) - stamped(0)).mean() < 4


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.3, 0.31, 1.5, 1.533]
    clip = make_clip(tmp_path / "vfr.mp4", 6, times=times)
    assert [t for _, _, t in numbers(clip)] == pytest.approx(times, abs=1e-3)


def test_start_end_and_stride_pick_exact_frames(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 40, fps=20)
    picked = numbers(clip, start=0.77, end=1.5, stride=3)
    assert [index for index, _, _ in picked] == [18, 21, 24, 27]
    assert all(index == number for index, number, _ in picked)
    with pytest.raises(SourceError, match="ends before 9 s"):
        numbers(clip, start=9)


@pytest.mark.parametrize(("start", "end", "stride"), [
    (-1, None, 1), (2, 1, 1), (0, None, 0), (float("nan"), None, 1), (0, float("nan"), 1),
])  # fmt: skip
def test_impossible_ranges_are_refused(
    tmp_path: Path, start: float, end: float | None, stride: int
) -> None:
    with pytest.raises(UsageError):
        open_source("any.mp4", start=start, end=end, stride=stride)


def test_a_portrait_phone_clip_stands_upright(tmp_path: Path) -> None:
    flat = make_clip(tmp_path / "flat.mp4", 2)
    with open_source(str(flat)) as source:
        lying = next(iter(source)).image
    turned = turn(make_clip(tmp_path / "turned.mp4", 2), 90)
    with open_source(str(turned)) as source:
        assert source.size == (64, 96)
        upright = next(iter(source)).image
    # A matrix that turns by 90 degrees clockwise: the left edge comes to the top.
    assert np.array_equal(upright, np.rot90(lying, -1))


@pytest.mark.parametrize(
    ("codec", "pixels", "size"),
    [
        ("libx264", "yuv420p10le", (96, 64)),
        ("libx264", "gray", (96, 64)),
        ("libx264", "yuv444p", (97, 65)),
        ("ffv1", "yuv420p", (97, 63)),
    ],
)
def test_ten_bit_grey_and_odd_sizes(
    tmp_path: Path, codec: str, pixels: str, size: tuple[int, int]
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 3, codec=codec, pixels=pixels, size=size)
    with open_source(str(clip)) as source:
        images = [frame.image for frame in source]
    assert [image.shape for image in images] == [(size[1], size[0], 3)] * 3
    assert [number_of(image) for image in images] == [0, 1, 2]
    assert all(image.dtype == np.uint8 for image in images)


def test_one_frame_is_enough(tmp_path: Path) -> None:
    assert numbers(make_clip(tmp_path / "one.mp4", 1)) == [(0, 0, 0.0)]


@pytest.mark.parametrize("suffix", [".avi", ".ts", ".mkv"])
def test_a_cut_file_gives_its_frames_and_then_says_so(tmp_path: Path, suffix: str) -> None:
    data = make_clip(tmp_path / f"whole{suffix}", 60, fps=20).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    begin = max(data.find(b"movi"), 0)
    cut.write_bytes(data[: begin + (len(data) - begin) // 2 + 100])
    seen = []
    with open_source(str(cut)) as source, pytest.raises(TruncatedSourceError) as failure:
        seen.extend(number_of(frame.image) for frame in source)
    assert 10 < len(seen) < 50
    # The packet through which the cut goes may give a damaged picture.
    assert seen[:-1] == list(range(len(seen) - 1))
    assert failure.value.exit_code == 3
    message = str(failure.value)
    assert "\n" not in message
    assert "could be read" in message
    assert "declares" in message


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the sources warn of. Not `caplog`: libraries in other tests silence loggers."""
    said: list[str] = []
    monkeypatch.setattr(source_file.LOG, "warning", lambda text, *parts: said.append(text % parts))
    return said


@pytest.mark.parametrize("times", [
    [5 + i / 10 for i in range(8)], [0, 0.1, 0.3, 0.35, 0.8, 0.9, 1.5, 1.55, 2],
])  # fmt: skip
def test_a_whole_file_gets_no_warning(
    tmp_path: Path, warnings: list[str], times: list[float]
) -> None:
    """Matroska states the time of its end, and a frame rate that it need not keep to."""
    clip = make_clip(tmp_path / "clip.mkv", len(times), fps=10, times=times)
    assert [number for _, number, _ in numbers(clip)] == list(range(len(times)))
    assert not warnings


def test_a_gap_at_a_constant_rate_is_told(tmp_path: Path, warnings: list[str]) -> None:
    times = [i / 10 for i in range(20) if i not in (5, 6, 11)]
    numbers(make_clip(tmp_path / "clip.mkv", len(times), fps=10, times=times))
    assert "3 frames missing" in warnings[0]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video\n" * 50)
    plain = tmp_path / "notes.txt"
    plain.write_text("nor is this\n" * 50)
    data = make_clip(tmp_path / "whole.mp4", 20).read_bytes()
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(data[: data.index(b"moov") - 4])
    picture = tmp_path / "broken.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    cases = {
        str(tmp_path / "none.mp4"): "no such file",
        str(tmp_path / "none.png"): "no such file",
        str(empty): "is empty",
        str(text): "not a video",
        str(plain): "text, not a video",
        str(headless): "no readable index",
        str(picture): "damaged",
        str(tmp_path): "is a folder",
        "foo://nowhere": "protocol not found",
        "http://127.0.0.1:9/x.mp4": "connection refused",
    }
    for source, expected in cases.items():
        with pytest.raises(SourceError, match=expected) as failure:
            open_source(source)
        assert "\n" not in str(failure.value)
        assert failure.value.exit_code == 1


def test_a_sound_file_has_no_picture(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    with pytest.raises(SourceError, match="no video stream; it holds audio"):
        open_source(str(tmp_path / "tone.wav"))


def test_standard_input(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.ts", 12)
    script = (
        "from hrtrack.tracker.video.open import open_source\n"
        "with open_source('-') as s: print(s.kind, s.name, sum(1 for _ in s))"
    )
    with clip.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", script], stdin=file, capture_output=True, text=True, timeout=60
        )
    assert done.stdout.strip() == "file standard input 12"
    assert not done.stderr
    large = make_clip(tmp_path / "large.mp4", 40, size=(640, 480), codec="mjpeg", pixels="yuvj420p")
    assert large.stat().st_size > 100_000
    piped = subprocess.run(
        [sys.executable, "-c", script], input=large.read_bytes(),
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert b"index at its end" in piped.stderr


def test_pictures(tmp_path: Path) -> None:
    image = stamped(77)
    write_image(tmp_path / "ünïcode.png", image)
    with open_source(str(tmp_path / "ünïcode.png")) as source:
        (frame,) = source
        assert (source.kind, source.size) == ("image", (96, 64))
    assert np.array_equal(frame.image, image)


def test_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MOV", "c.png", "notes.txt", "d.part.mp4"):
        (tmp_path / name).touch()
    names = [Path(path).name for path in expand_sources(str(tmp_path))]
    assert names == ["a.MOV", "b.mp4", "c.png"]
    assert [Path(p).name for p in expand_sources(f"{tmp_path}/*.mp4")] == ["b.mp4"]
    assert expand_sources("-") == ["-"]
    assert expand_sources("rtsp://host/a*b") == ["rtsp://host/a*b"]
    for nothing in (f"{tmp_path}/*.mkv", str(tmp_path / "sub")):
        (tmp_path / "sub").mkdir(exist_ok=True)
        with pytest.raises(SourceError):
            expand_sources(nothing)


def test_closing_early_ends_the_thread(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 60)
    before = set(threading.enumerate())
    with open_source(str(clip)) as source:
        next(iter(source))
        assert set(threading.enumerate()) - before
    assert not set(threading.enumerate()) - before


def test_closing_early_does_not_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 60)
    monkeypatch.setattr("hrtrack.tracker.video.base.ROOM_AGAIN", 3600.0)
    with open_source(str(clip)) as source:
        next(iter(source))
        assert isinstance(source, ReadAhead)
        while not source._queue.full():
            threading.Event().wait(0.01)
        thread = source._thread
    assert thread is not None
    assert not thread.is_alive()


def test_camera_names() -> None:
    assert [camera_number(text) for text in ("webcam", "webcam:2", "3", "clip.mp4", "")] == [
        0, 2, 3, None, None,
    ]  # fmt: skip
    mac = camera_input("webcam:1", LiveOptions(size=(640, 480)), "darwin")
    assert (mac.url, mac.format) == ("1:none", "avfoundation")
    assert mac.options == {"video_size": "640x480", "framerate": "30"}
    for platform in ("linux", "win32"):
        with pytest.raises(SourceError, match="no camera"):
            camera_input("webcam:77", LiveOptions(), platform)
    assert all(camera.source for camera in list_cameras())


def test_no_camera_fails_at_once() -> None:
    with pytest.raises(SourceError, match="no camera"):
        open_source("webcam:77")


def test_passwords_are_not_shown() -> None:
    assert without_password("rtsp://me:secret@cam/1") == "rtsp://me:***@cam/1"
    assert without_password("rtsp://cam:554/1") == "rtsp://cam:554/1"


def test_only_one_module_loads_pyav() -> None:
    package = Path(__file__).parents[3] / "hrtrack"
    loading = {
        path.name
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(import|from) av\b", line)
    }
    assert loading == {"pyav.py"}


@pytest.mark.parametrize("group", [10, 100])
def test_a_stream_without_index_is_wound_to_its_key_frame(tmp_path: Path, group: int) -> None:
    path = tmp_path / "clip.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": str(group), "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(100):
            image = np.full((48, 64, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with open_source(str(path), start=3.2) as source:
        times = [frame.time for frame in source]
    assert times[0] == pytest.approx(3.2, abs=0.021)
    assert len(times) == pytest.approx(20, abs=1)
