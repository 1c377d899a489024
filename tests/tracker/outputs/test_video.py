"""The annotated video: every frame at its own time, the source's sound, and nothing lost."""

from __future__ import annotations

import subprocess
import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from hrtrack.errors import SinkError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures.video import Encoder
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video.frame import Frame
from hrtrack.tracker.video.open import open_source

from ..clips import make_clip, stamped
from ..files import contents, copy


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_times_and_sound_are_the_source_s(tmp_path: Path, suffix: str) -> None:
    times = [0.0, 0.04, 0.3, 0.31, 1.5, 1.533, 2.0]
    clip = make_clip(tmp_path / "clip.mp4", 7, times=times, audio="aac")
    out = tmp_path / f"out{suffix}"
    watch = copy(clip, out)
    numbers, found, sound = contents(out)
    assert numbers == list(range(7))
    assert found == pytest.approx(times, abs=1e-3)
    assert sound == pytest.approx(contents(clip)[2], abs=0.07)
    assert watch.counts["encode"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", out.name]


@pytest.mark.parametrize("name", ["12:30.mp4", "12:30.mkv"])
def test_a_colon_in_the_name_is_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    copy(make_clip(tmp_path / "clip.mp4", 5), Path(f"video:{name}"))
    assert contents(tmp_path / name)[0] == list(range(5))


def test_a_constant_rate_keeps_its_length(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 50, fps=25, audio="aac")
    copy(clip, tmp_path / "out.mp4")
    with av.open(str(clip)) as one, av.open(str(tmp_path / "out.mp4")) as other:
        streams = one.streams.video[0], other.streams.video[0]
        lengths = [float(s.duration * s.time_base) for s in streams]
        assert streams[1].codec_context.name == "h264"
        assert streams[1].codec_context.pix_fmt == "yuv420p"
    assert lengths[1] == pytest.approx(lengths[0], abs=1 / 25)


def test_the_index_stands_in_front(tmp_path: Path) -> None:
    copy(make_clip(tmp_path / "clip.mp4", 5), tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"moof" not in data


def test_sound_and_picture_do_not_drift_apart(tmp_path: Path) -> None:
    # A frame every 1.001 seconds for two minutes: a rate that rounding would betray.
    times = [i * 1.001 for i in range(120)]
    clip = make_clip(tmp_path / "long.mp4", 120, times=times, size=(48, 32), audio="aac")
    copy(clip, tmp_path / "out.mp4")

    def stamps(path: Path, kind: str) -> list[Fraction]:
        with av.open(str(path)) as container:
            stream = container.streams.best(kind)
            packets = container.demux(stream)
            return [p.pts * p.time_base for p in packets if p.pts is not None]

    assert stamps(tmp_path / "out.mp4", "video") == stamps(clip, "video")
    original = [time for time in stamps(clip, "audio") if time >= 0]
    assert stamps(tmp_path / "out.mp4", "audio") == original
    assert original[-1] > 118


def test_a_codec_that_mp4_does_not_take_becomes_aac(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 40, audio="pcm_s16le")
    copy(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.streams.audio[0].codec_context.name == "aac"
    assert contents(tmp_path / "out.mp4")[2] == pytest.approx(2.0, abs=0.15)


def test_a_range_begins_at_zero_and_takes_its_own_sound(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 80, fps=20, audio="aac")
    copy(clip, tmp_path / "out.mp4", start=1.0, end=2.5)
    numbers, times, sound = contents(tmp_path / "out.mp4")
    assert numbers == list(range(20, 50))
    assert times == pytest.approx([i / 20 for i in range(30)], abs=1e-3)
    assert sound == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("size", [(97, 65), (96, 64), (25, 1), (1, 1)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 3, size=size, pixels="yuv444p", codec="ffv1")
    copy(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        shapes = [(f.width, f.height) for f in out.decode(video=0)]
    even = tuple(side + side % 2 for side in size)
    assert shapes == [even] * 3


@pytest.mark.parametrize("height", [62, 64])
def test_colours_stay_where_they_are_at_any_height(tmp_path: Path, height: int) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 1, size=(96, height))
    image = np.zeros((height, 96, 3), np.uint8)
    image[: height // 2], image[height // 2 :] = (200, 40, 40), (40, 40, 200)
    with open_source(str(clip)) as source:
        frame = next(iter(source))
        target = parse_save(str(tmp_path / "out.mp4"))
        with open_sinks([target], source=source, skeleton=COCO17) as sinks:
            sinks.write(frame, Poses.empty(0, 0.0, 17), lambda: image)
    with av.open(str(tmp_path / "out.mp4")) as out:
        found = next(out.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert found.shape == image.shape
    far = np.abs(found - image)
    far[height // 2 - 2 : height // 2 + 2] = 0  # chroma is coarser than the edge
    assert far.max() < 25


def test_colours_are_kept_and_declared(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 1, size=(64, 64))
    red = np.zeros((64, 64, 3), np.uint8)
    red[:, :32] = (220, 40, 30)
    red[:, 32:] = (20, 90, 200)
    with (
        open_source(str(clip)) as source,
        open_sinks([parse_save(f"{tmp_path}/o.mp4")], source=source, skeleton=COCO17) as sinks,
    ):
        for frame in source:
            sinks.write(frame, Poses.empty(0, 0.0, 17), lambda: red)
    with open_source(f"{tmp_path}/o.mp4") as source:
        (frame,) = source
    assert abs(frame.image.astype(int) - red)[:, 4:28].max() < 6
    assert abs(frame.image.astype(int) - red)[:, 36:60].max() < 6


def test_a_picture_of_another_size_is_fitted_in(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 2)
    with open_source(str(clip)) as source:
        part = tmp_path / "o.part.mp4"
        encoder = Encoder(part, source, Fraction(0), {}, Stopwatch())
        for frame, size in zip(source, [(96, 64), (40, 120)], strict=True):
            encoder.write(partial(stamped, frame.index, size), frame)
        encoder.finish(0)
    with av.open(str(part)) as out:
        assert [(f.width, f.height) for f in out.decode(video=0)] == [(96, 64)] * 2


def test_breaking_off_keeps_what_was_there(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 40, fps=20, audio="aac")
    with pytest.raises(KeyboardInterrupt):
        copy(clip, tmp_path / "out.mp4", stop_at=20)
    numbers, _, sound = contents(tmp_path / "out.mp4")
    assert numbers == list(range(20))
    assert sound == pytest.approx(1.0, abs=0.15)


def test_an_encoder_that_fails_stops_the_run_with_one_line(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 30)
    with (  # noqa: PT012
        pytest.raises(SinkError, match="writing the video stopped") as failure,
        open_source(str(clip)) as source,
        open_sinks([parse_save(f"{tmp_path}/o.mp4")], source=source, skeleton=COCO17) as sinks,
    ):
        for frame in source:
            # Grey pictures are no RGB: the encoder's thread must hand its failure on.
            image = frame.image if frame.index < 10 else frame.image[..., 0]
            sinks.write(
                frame,
                Poses.empty(frame.index, frame.time, 17),
                lambda image=image: image,  # type: ignore[misc]
            )
            time.sleep(0.01)
    assert "\n" not in str(failure.value)
    assert contents(tmp_path / "o.part.mp4")[0] == list(range(10))


def test_frames_without_timestamps_get_them_from_their_time(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 2, fps=20)
    with open_source(str(clip)) as source:
        part = tmp_path / "o.part.mp4"
        encoder = Encoder(part, source, Fraction(0), {}, Stopwatch())
        for i in range(4):
            encoder.write(partial(stamped, i), Frame(i, i * 0.2, stamped(i)))
        encoder.finish(None)
    assert contents(part)[1] == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-3)


PIPE = """
import sys
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.video.open import open_source
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.base import parse_save
with open_source(sys.argv[1]) as s, open_sinks(
    [parse_save("video:-")], source=s, skeleton=COCO17
) as k:
    for f in s:
        if not k.write(f, Poses.empty(f.index, f.time, 17), lambda f=f: f.image):
            print("stopped", file=sys.stderr)
            break
"""


def test_video_down_a_pipe(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 60, audio="aac")
    with (tmp_path / "piped.mp4").open("wb") as out:
        subprocess.run([sys.executable, "-c", PIPE, str(clip)], stdout=out, check=True, timeout=60)
    numbers, times, sound = contents(tmp_path / "piped.mp4")
    assert numbers == list(range(60))
    assert times == pytest.approx([i / 20 for i in range(60)], abs=1e-3)
    assert sound == pytest.approx(3.0, abs=0.15)


def test_a_reader_that_goes_away_ends_the_run(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 400)
    run = subprocess.Popen(
        [sys.executable, "-c", PIPE, str(clip)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert run.stdout is not None
    run.stdout.read(100)
    run.stdout.close()
    assert run.wait(timeout=60) == 0
    assert run.stderr is not None
    assert run.stderr.read() == b"stopped\n"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".gif"])
def test_hours_between_two_frames(tmp_path: Path, suffix: str) -> None:
    times = [0.0, 0.1, 7200.0, 7200.1, 4 * 3600.0]
    clip = make_clip(tmp_path / "clip.mkv", 5, times=times)
    out = tmp_path / f"out{suffix}"
    copy(clip, out)
    numbers, found, _ = contents(out)
    assert numbers == list(range(5))
    # A GIF holds a picture for 655 seconds at most.
    if suffix != ".gif":
        assert found == pytest.approx(times, abs=1e-3)
    assert out.stat().st_size < 50_000
