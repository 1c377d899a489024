"""The sound of every kind of file: carried over in time with the picture, or left out; the picture
is whole whatever happens to it."""

from __future__ import annotations

import logging
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures.segments import Limit
from hrtrack.tracker.video.open import open_source

from ..clips import CONVERTER, make_clip, number_of, rgb, stamped
from ..files import contents, copy
from .sounds import add_sound, decoded, heard, seconds_of, sound_clip, sound_packets

ALL = ".avi .mkv .ts .mp4 .mov .wmv .flv .m3u8"
TABLE = [
    ("aac", 44100, 2, ALL),
    ("aac", 8000, 1, ".mkv .ts .mp4 .mov .wmv .flv .m3u8"),
    ("aac", 48000, 6, ".mkv .ts .mp4 .flv"),
    ("adts", 44100, 2, ".avi .mkv .ts .mp4 .mov .m3u8"),
    ("adts", 16000, 1, ".mkv .ts .mp4 .m3u8"),
    ("ac3", 48000, 6, ALL),
    ("ac3", 32000, 2, ".avi .ts .mov"),
    ("eac3", 48000, 2, ".mkv .ts .mp4 .mov .wmv .flv .m3u8"),
    ("mp2", 44100, 2, ".avi .mkv .ts .mp4 .mov .wmv .m3u8"),
    ("mp2", 22050, 1, ".avi .ts .mp4"),
    ("libmp3lame", 44100, 2, ALL),
    ("libmp3lame", 11025, 1, ".avi .mkv"),
    ("libmp3lame", 11025, 1, ".ts .mov .wmv .flv"),
    ("libopus", 48000, 2, ".mkv"),
    ("libopus", 48000, 2, ".ts .mp4 .flv .m3u8"),
    ("libopus", 48000, 6, ".mkv .mp4"),
    ("vorbis", 44100, 2, ".mkv .mp4 .wmv"),
    ("flac", 96000, 2, ".mkv .mp4 .flv"),
    ("flac", 44100, 8, ".mkv .mp4"),
    ("alac", 44100, 2, ".mkv .mp4 .mov"),
    ("wmav2", 44100, 2, ".wmv .avi"),
    ("wmav1", 22050, 1, ".wmv .avi"),
    ("adpcm_ms", 11025, 1, ".avi .wmv"),
    ("adpcm_ima_wav", 22050, 2, ".avi .wmv"),
    ("adpcm_ima_qt", 22050, 1, ".mov"),
    ("pcm_mulaw", 8000, 1, ".avi .mov .wmv .flv"),
    ("pcm_alaw", 8000, 2, ".avi .mov .wmv .flv"),
    ("pcm_s16be", 5512, 1, ".mkv .mp4 .mov"),
    ("pcm_u8", 11127, 1, ".avi .mkv .mov .wmv"),
    ("pcm_f32le", 192000, 2, ".avi .mkv .mp4 .mov"),
    ("pcm_s24le", 48000, 8, ".avi .mkv .mp4 .mov"),
    ("pcm_s16le", 37800, 2, ".avi .mkv .mp4 .mov .wmv"),
    *(("pcm_s16le", 37800, channels, ".avi .mkv") for channels in (1, 3, 4, 5, 6, 7, 8)),
]
"""What FFmpeg writes so that it reads it again. Only in these is the sound there at all."""
QUICK = {
    ("aac", 44100, 2, ALL),
    ("libmp3lame", 11025, 1, ".avi .mkv"),
    ("libopus", 48000, 2, ".mkv"),
    ("pcm_s16le", 37800, 1, ".avi .mkv"),
    ("wmav1", 22050, 1, ".wmv .avi"),
    ("alac", 44100, 2, ".mkv .mp4 .mov"),
}
"""One codec out of every container, and one of each kind; the rest is a sweep."""
SWEEP = [row if row in QUICK else pytest.param(*row, marks=pytest.mark.slow) for row in TABLE]
assert set(TABLE) >= QUICK
PLAYED = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac"},
}
OUTPUTS = (".mp4", ".mov", ".mkv")


def outputs(
    clip: Path,
    suffixes: tuple[str, ...] = OUTPUTS,
    start: float | None = None,
    end: float | None = None,
    segment: Limit | None = None,
) -> list[Path]:
    """Writes a clip into one video of each suffix; every frame must be in it."""
    paths = [clip.parent / f"out{suffix}" for suffix in suffixes]
    with (
        open_source(str(clip), start=start, end=end) as source,
        open_sinks(
            [parse_save(str(path)) for path in paths],
            source=source,
            skeleton=COCO17,
            overwrite=True,
            segment=segment,
        ) as sinks,
    ):
        frames = list(source)
        for frame in frames:
            empty = Poses.empty(frame.index, frame.time, 17)
            sinks.write(frame, empty, lambda image=frame.image: image)  # type: ignore[misc]
    if segment is None:
        for path in paths:
            numbers, times = shown(path)
            assert numbers == [number_of(frame.image) for frame in frames]
            assert times == pytest.approx([f.time - (start or 0) for f in frames], abs=0.01)
    return paths


def shown(path: Path) -> tuple[list[int], list[float]]:
    """The numbers of the frames, and their times."""
    with av.open(str(path)) as container:
        frames = [
            (number_of(rgb(f)), f.time or 0.0)
            for f in decoded(container, container.streams.video[0])
        ]
    return [number for number, _ in frames], [time for _, time in frames]


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    """What was said of the sound."""
    said = [r.getMessage() for r in log.records if r.levelno >= logging.WARNING]
    return [text for text in said if "sound" in text]


@pytest.mark.parametrize(("codec", "rate", "channels", "containers"), SWEEP)
def test_every_codec_out_of_every_container(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    codec: str,
    rate: int,
    channels: int,
    containers: str,
) -> None:
    for suffix in containers.split():
        clip = sound_clip(tmp_path / f"clip{suffix}", codec, rate, channels)
        seconds, tones, _ = heard(clip)
        assert len(tones) == 2
        # The picture of an AVI begins at 0 whatever its packets say.
        begin = 0.0 if suffix == ".avi" else shown(clip)[1][0]
        for path in outputs(clip):
            where = f"{codec}, {rate} Hz, {channels} channels, {suffix} to {path.suffix}"
            total, found, name = heard(path)
            assert name in PLAYED.get(path.suffix, {name}), where
            # The first packet of an encoder, an eighth of a second at 8 kHz, is its run-up.
            assert total == pytest.approx(seconds - begin, abs=0.05 + 2048 / rate), where
            expected = np.array(tones) - begin
            assert np.array(found) == pytest.approx(expected, abs=0.05), where
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("vorbis", ".ts"), ("flac", ".ts"), ("pcm_s16le", ".m3u8"), ("adpcm_ms", ".ts")],
)
def test_sound_that_its_file_does_not_name(tmp_path: Path, codec: str, suffix: str) -> None:
    clip = sound_clip(tmp_path / f"clip{suffix}", codec, 44100, 2)
    assert [heard(path)[2] for path in outputs(clip)] == [None] * 3


def test_timestamps_that_do_not_count_time(tmp_path: Path) -> None:
    # An AVI counts the bytes of EAC3 as samples: its packets stand six seconds apart.
    clip = sound_clip(tmp_path / "clip.avi", "eac3", 48000, 2)
    for path in outputs(clip):
        total, found, _ = heard(path)
        assert total == pytest.approx(2, abs=0.1)
        assert np.array(found) == pytest.approx(np.array([(0.5, 1), (1.5, 2)]), abs=0.05)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("aac", ".mp4"), ("libmp3lame", ".mkv"), ("ac3", ".ts"), ("pcm_s16le", ".mkv")],
)
@pytest.mark.parametrize(
    ("stretches", "tones"),
    [
        ([(1.25, 3)], [(1.5, 2), (2.5, 3)]),
        ([(0, 1.25)], [(0.5, 1)]),
        ([(0, 1.25), (2.25, 3)], [(0.5, 1), (2.5, 3)]),
    ],
    ids=["late", "early", "gap"],
)
def test_sound_of_a_part(
    tmp_path: Path,
    codec: str,
    suffix: str,
    stretches: list[tuple[float, float]],
    tones: list[tuple[float, float]],
) -> None:
    clip = sound_clip(tmp_path / f"c{suffix}", codec, 48000, 2, seconds=3, stretches=stretches)
    begin = shown(clip)[1][0]
    for path in outputs(clip):
        expected = np.array(tones) - (begin if codec == "ac3" else 0)
        assert np.array(heard(path)[1]) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("aac", ".mp4"), ("adts", ".mkv"), ("libmp3lame", ".mkv"), ("mp2", ".avi"), ("wmav2", ".wmv"),
     ("pcm_s16le", ".mov"), ("libopus", ".mkv")],
)  # fmt: skip
def test_a_range_keeps_sound_and_picture_together(tmp_path: Path, codec: str, suffix: str) -> None:
    clip = sound_clip(tmp_path / f"clip{suffix}", codec, 48000, 2, seconds=6)
    for path in outputs(clip, start=3.2, end=5.2):
        total, found, _ = heard(path)
        assert total == pytest.approx(2, abs=0.15)
        assert np.array(found) == pytest.approx(np.array([(0.3, 0.8), (1.3, 1.8)]), abs=0.06)


def test_hours_between_two_stretches_are_not_encoded(tmp_path: Path) -> None:
    # Half an hour of silence would be 90,000 packets.
    with av.open(str(tmp_path / "clip.mkv"), "w") as out:
        picture: Any = out.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuv420p"
        sound = add_sound(out, "pcm_s16le", 16000, 1)
        packets = list(sound_packets(sound, [(0, 2), (1800, 1802)]))
        for time in (0, 1800):
            frame = av.VideoFrame(96, 64, "yuv420p")
            frame.pts, frame.time_base = time * 25, Fraction(1, 25)
            out.mux(picture.encode(frame))
            out.mux([packet for packet in packets if 0 <= seconds_of(packet) - time < 2])
    with (
        open_source(str(tmp_path / "clip.mkv")) as source,
        open_sinks([parse_save(f"{tmp_path}/o.mp4")], source=source, skeleton=COCO17) as sinks,
    ):
        for frame in source:
            empty = Poses.empty(frame.index, frame.time, 17)
            sinks.write(frame, empty, lambda image=frame.image: image)  # type: ignore[misc]
    total, found, _ = heard(tmp_path / "o.mp4")
    assert total < 6
    expected = [(0.5, 1), (1.5, 2), (1800.5, 1801), (1801.5, 1802)]
    assert np.array(found) == pytest.approx(np.array(expected), abs=0.08)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("aac", ".mp4"),
        ("libmp3lame", ".avi"),
        ("flac", ".mkv"),
        ("vorbis", ".mkv"),
        *(
            pytest.param(codec, suffix, marks=pytest.mark.slow)
            for codec, suffix in (
                ("adts", ".mkv"), ("eac3", ".mkv"), ("ac3", ".mp4"), ("libopus", ".mkv"),
                ("wmav2", ".wmv"), ("alac", ".mov"),
            )
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_damaged_packets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, suffix: str, share: float
) -> None:
    clip = sound_clip(tmp_path / f"clip{suffix}", codec, 48000, 2)
    data = bytearray(clip.read_bytes())
    random = np.random.default_rng(1)
    with av.open(str(clip)) as container:
        for packet in container.demux(audio=0):
            if packet.size and packet.pos is not None and random.random() < share:
                raw = bytes(memoryview(packet))
                at = data.find(raw, packet.pos)
                if at >= 0:
                    data[at : at + len(raw)] = random.bytes(len(raw))
    clip.write_bytes(data)
    for path in outputs(clip):
        caplog.clear()
        total, found, _ = heard(path)
        if share < 1:
            assert total > 1
            assert found


@pytest.mark.parametrize(
    ("codec", "suffix", "was", "is_now"),
    [
        ("aac", ".mp4", b"mp4a", b"zzzz"),
        ("aac", ".mp4", b"mp4a\0\0\0\0\0\0\0\1", b"mp4a\0\0\0\0\0\0\0\7"),
        ("alac", ".mov", b"alac", b"zzzz"),
        ("vorbis", ".mkv", b"A_VORBIS", b"A_VORBUS"),
        ("vorbis", ".mkv", b"vorbis", b"v_rb_s"),
        ("flac", ".mkv", b"fLaC", b"xxxx"),
        ("libopus", ".mkv", b"OpusHead", b"OpusHxxx"),
    ],
)
def test_a_broken_header(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    codec: str,
    suffix: str,
    was: bytes,
    is_now: bytes,
) -> None:
    clip = sound_clip(tmp_path / f"clip{suffix}", codec, 48000, 2)
    data = clip.read_bytes()
    assert was in data
    clip.write_bytes(data.replace(was, is_now))
    for suffix_out in OUTPUTS:
        caplog.clear()
        (path,) = outputs(clip, (suffix_out,))
        with suppress(IndexError):
            total, _, name = heard(path)
            # There is sound that is heard, or none and one line that says so.
            assert (total > 1.5) if name else len(warnings(caplog)) == 1


def test_sound_that_is_left_out_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = sound_clip(tmp_path / "clip.mkv", "vorbis", 48000, 2, seconds=3)
    clip.write_bytes(clip.read_bytes().replace(b"vorbis", b"v_rb_s"))
    outputs(clip, (".mp4",), segment=Limit(seconds=1))
    assert len(list(tmp_path.glob("out_*.mp4"))) == 3
    (said,) = warnings(caplog)
    assert said.startswith(f"the sound of {clip} is left out: ")


def test_the_default_track_is_taken(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as out:
        picture: Any = out.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuv420p"
        tracks = [add_sound(out, "aac", 48000, 2) for _ in range(3)]
        tracks[1].disposition = av.stream.Disposition.default
        for index in range(25):
            shot = av.VideoFrame.from_ndarray(stamped(index), format="rgb24")
            frame = CONVERTER.reformat(shot, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        for track, end in zip(tracks, (0.4, 1.0, 0.4), strict=True):
            out.mux(list(sound_packets(track, [(0, end)])))
    for path in outputs(clip, (".mp4", ".mkv", ".webm")):
        assert np.array(heard(path)[1]) == pytest.approx(np.array([(0.5, 1.0)]), abs=0.05)


@pytest.mark.parametrize("suffix", [".webm", ".gif", ".m4v"])
def test_other_videos(tmp_path: Path, suffix: str) -> None:
    clip = sound_clip(tmp_path / "clip.mp4", "aac", 44100, 2)
    (path,) = outputs(clip, (suffix,))
    with av.open(str(path)) as out:
        names = [stream.codec_context.name for stream in out.streams]
    expected = {".webm": ["vp9", "opus"], ".gif": ["gif"], ".m4v": ["h264", "aac"]}
    assert names == expected[suffix]
    if suffix != ".gif":
        assert np.array(heard(path)[1]) == pytest.approx(np.array([(0.5, 1), (1.5, 2)]), abs=0.05)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", path.name]


def test_a_gif_leaves_out_what_browsers_would_slow_down(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as out:
        picture: Any = out.add_stream("mpeg4", rate=100)
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuv420p"
        for index in range(100):
            frame = av.VideoFrame(96, 64, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 100)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
    with (
        open_source(str(clip)) as source,
        open_sinks([parse_save(f"{tmp_path}/o.gif")], source=source, skeleton=COCO17) as sinks,
    ):
        for index, shot in enumerate(source):
            picture_ = np.full((64, 96, 3), index, np.uint8)
            sinks.write(shot, Poses.empty(index, shot.time, 17), lambda p=picture_: p)  # type: ignore[misc]
    assert shown(tmp_path / "o.gif")[1] == pytest.approx([i / 50 for i in range(50)], abs=1e-3)


def test_a_source_without_sound_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 3)
    opened: list[str] = []
    open_ = av.open
    monkeypatch.setattr(
        av,
        "open",
        lambda file, *more, **named: opened.append(str(file)) or open_(file, *more, **named),
    )
    copy(clip, tmp_path / "out.mp4")
    assert opened.count(str(clip)) == 1
    loud = make_clip(tmp_path / "loud.mp4", 3, audio="aac")
    copy(loud, tmp_path / "loud_out.mp4")
    assert opened.count(str(loud)) > 1
    assert contents(tmp_path / "loud_out.mp4")[2] > 0
