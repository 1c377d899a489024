"""Videos and pictures come as players show them, whatever their makers wrote into them."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hrtrack.errors import SourceError, UsageError
from hrtrack.geometry import orient
from hrtrack.pictures import PictureError, decode_picture
from hrtrack.shown import GRID, HLG, PQ, Shown, colour_table
from hrtrack.tracker.video import file as source_file
from hrtrack.tracker.video import image as source_image
from hrtrack.tracker.video.live import LiveSource
from hrtrack.tracker.video.open import expand_sources, open_source, read_image

from .clips import portrait
from .heif import write_heif
from .tracker.clips import make_clip, number_of, stamped

Picture = NDArray[np.uint8]


def as_seen(image: Picture, orientation: int) -> Picture:
    """What a viewer shows for a stored picture, in NumPy's words."""
    return {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation](image)


def corners(size: tuple[int, int] = (96, 64)) -> Picture:
    """A picture whose every corner has another colour."""
    width, height = size
    image = np.full((height, width, 3), 128, np.uint8)
    y, x = height // 3, width // 3
    image[:y, :x], image[:y, -x:] = (250, 20, 20), (20, 250, 20)
    image[-y:, :x], image[-y:, -x:] = (20, 20, 250), (250, 250, 20)
    return image


def close(one: Picture, other: Picture, mean: float = 4) -> bool:
    return one.shape == other.shape and np.abs(one.astype(int) - other).mean() < mean


def frames_of(source: str | Path, **options: float) -> list[tuple[float, Picture]]:
    with open_source(str(source), **options) as source_:  # type: ignore[arg-type]
        return [(frame.time, frame.image) for frame in source_]


# Orientation


MATRICES = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
"""a, b, c and d of x' = a x + c y, y' = b x + d y."""


@pytest.mark.parametrize("orientation", MATRICES)
def test_display_matrices(tmp_path: Path, orientation: int) -> None:
    path = make_clip(tmp_path / "clip.mp4", 2)
    (_, stored), *_ = frames_of(path)
    a, b, c, d = (value * 0x10000 for value in MATRICES[orientation])
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    expected = as_seen(stored, orientation)
    with open_source(str(path)) as source:
        assert source.size == (expected.shape[1], expected.shape[0])
        assert all(np.array_equal(frame.image[:2], expected[:2]) for frame in [next(iter(source))])
    assert np.array_equal(frames_of(path)[0][1], expected)


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_of_pictures(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(corners()).save(path, exif=exif(orientation), quality=95)
    assert close(read_image(path), as_seen(corners(), orientation))
    assert close(decode_picture(path.read_bytes()), as_seen(corners(), orientation))


def test_a_camera_that_lies_on_its_side(tmp_path: Path) -> None:
    """Motion JPEG, every picture with EXIF data of its own."""
    jpeg = io.BytesIO()
    Image.fromarray(corners()).save(jpeg, "jpeg", quality=95, exif=exif(7))
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(jpeg.getvalue() * 4)
    found = frames_of(path)
    assert len(found) == 4
    assert all(close(image, as_seen(corners(), 7)) for _, image in found)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_by_hand(order: str) -> None:
    """Both byte orders, behind another segment and filling bytes."""
    jpeg = io.BytesIO()
    Image.fromarray(corners()).save(jpeg, "jpeg", quality=95)
    data = jpeg.getvalue()
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    tiff += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 7, 0)
    block = b"Exif\0\0" + tiff
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"abcd"
    segment = b"\xff\xff\xff\xe1" + struct.pack(">H", 2 + len(block)) + block
    found = decode_picture(data[:2] + comment + segment + data[2:])
    assert close(found, as_seen(corners(), 7))
    # Half an EXIF block is none.
    broken = b"\xff\xe1" + struct.pack(">H", 14) + block[:12]
    assert close(decode_picture(data[:2] + broken + data[2:]), corners())


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
@pytest.mark.parametrize(("turns", "mirror"), [(0, None), (1, None), (2, 0), (3, 1), (0, 0)])
@pytest.mark.parametrize("tile", [None, 64])
def test_heif(tmp_path: Path, codec: str, turns: int, mirror: int | None, tile: int | None) -> None:
    """irot turns to the left, then imir mirrors; tiles are put together and cut to size."""
    image = corners((150, 100))
    path = tmp_path / ("x.heic" if codec == "libx265" else "x.avif")
    write_heif(path, image, codec=codec, turns=turns, mirror=mirror, tile=tile)
    expected = np.rot90(image, turns)
    if mirror is not None:
        expected = np.flipud(expected) if mirror == 0 else np.fliplr(expected)
    assert close(read_image(path), expected, 6)
    with open_source(str(path)) as source:
        assert (source.kind, source.declared_frames) == ("image", 1)
    misnamed = path.rename(tmp_path / "photo.jpg")
    assert close(read_image(misnamed), expected, 6)


def test_heif_that_cannot_be_whole_is_one_line(tmp_path: Path) -> None:
    overlay = write_heif(tmp_path / "a.heic", corners(), tile=64, grid=b"iovl")
    with pytest.raises(SourceError, match="HEIF picture of the kind 'iovl'"):
        open_source(str(overlay))
    lost = write_heif(tmp_path / "b.heic", corners((150, 100)), tile=64, lost=2)
    with pytest.raises(SourceError, match="1 of its 6 tiles cannot be decoded"):
        open_source(str(lost))
    whole = write_heif(tmp_path / "c.heic", corners((150, 100)), tile=64).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(8, 900, 3):
            data[at] = rng.integers(256)
        with contextlib.suppress(PictureError):
            assert decode_picture(bytes(data[: rng.integers(100, len(data))])).ndim == 3


def test_training_and_evaluation_use_the_same_reader(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from hrtrack.datasets.people import Photos
    from hrtrack.evaluation.metrics.detection import photos
    from hrtrack.train.detector.photos import read_photo

    path = write_heif(tmp_path / "a.heic", corners((150, 100)), turns=1, tile=64)
    expected = read_image(path)
    assert np.array_equal(Photos(tmp_path).read("a.heic"), expected)
    ((_, found),) = photos({"images": [{"id": 1, "file_name": "a.heic"}]}, tmp_path)
    assert np.array_equal(found, expected)
    assert np.array_equal(read_photo(path, 1000)[0], expected)  # type: ignore[arg-type]


# Pixels, colours, fields


@pytest.mark.parametrize(
    ("aspect", "size"), [((4, 3), (128, 64)), ((10, 11), (96, 70)), ((1, 1), (96, 64))]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_pixels_become_square(
    tmp_path: Path, aspect: tuple[int, int], size: tuple[int, int], suffix: str
) -> None:
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(stamped(i), format="rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with open_source(str(path)) as source:
        assert source.size == size
        images = [frame.image for frame in source]
    assert [number_of(image) for image in images] == [0, 1, 2]
    assert images[0].shape == (size[1], size[0], 3)


def hdr_clip(path: Path, image: Picture, transfer: int) -> Path:
    """A picture at a paper white of 203 cd/m² in BT.2020, coded by hand as PQ or HLG."""
    to_2020 = np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    )
    light = 203 * (image / 255) ** 2.4 @ to_2020.T
    if transfer == PQ:
        y = (light / 10_000) ** 0.1593017578125
        code = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    else:
        shown = light / 1000
        luminance = np.maximum(shown @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
        scene = shown * luminance ** (-0.2 / 1.2)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        log = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
        code = np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)
    luma = code @ [0.2627, 0.6780, 0.0593]
    blue, red = (code[..., 2] - luma) / 1.8814, (code[..., 0] - luma) / 1.4746
    height, width = luma.shape
    frame = av.VideoFrame(width, height, "yuv420p10le")
    halves = [cv2.resize(c, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
              for c in (blue, red)]  # fmt: skip
    planes = [luma * 876 + 64, *(half * 896 + 512 for half in halves)]
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : values.shape[1]] = values.round()
        plane.update(rows.tobytes())
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        for one in (stream.codec_context, frame):
            one.color_trc, one.color_primaries, one.colorspace, one.color_range = transfer, 9, 9, 1
        for i in range(2):
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_looks_like_the_usual_picture(tmp_path: Path, transfer: int) -> None:
    image = cv2.resize(portrait(), (256, 300), interpolation=cv2.INTER_AREA)
    for _, found in frames_of(hdr_clip(tmp_path / "hdr.mkv", image, transfer)):
        assert close(found, image, 5)
        # Colours on their own, too: neither pale nor dark.
        assert np.abs(found.astype(int).mean((0, 1)) - image.mean((0, 1))).max() < 4


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_table_of_colours_rises_and_keeps_grey(transfer: int) -> None:
    table = colour_table(transfer, 9, 1000.0)
    grey = table[range(GRID), range(GRID), range(GRID)]
    assert np.abs(grey - grey.mean(axis=1, keepdims=True)).max() < 0.01
    assert (np.diff(grey[:, 1]) >= -1e-9).all()
    assert grey[0].max() < 0.01
    assert grey[-1].min() > 0.97


def interlaced_clip(path: Path, frames: int) -> Path:
    """A white bar on grey that moves 8 pixels a field."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = 8_000_000
        flags = av.codec.context.Flags
        stream.codec_context.flags |= flags.interlaced_dct | flags.interlaced_me
        for i in range(frames):
            image = np.full((240, 320, 3), 60, np.uint8)
            for lines in (0, 1):
                left = 20 + (2 * i + lines) * 8
                image[lines::2, left : left + 60] = 220
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def comb(image: Picture) -> float:
    """How much neighbouring lines differ more than every other one."""
    lines = image[..., 1].astype(int)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


@pytest.mark.parametrize("count", [1, 9])
def test_interlaced_pictures_have_no_combs(tmp_path: Path, count: int) -> None:
    path = interlaced_clip(tmp_path / "clip.mpg", count)
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    found = frames_of(path)
    assert len(found) == len(stored) == count
    steps = np.diff([time for time, _ in found])
    assert steps == pytest.approx([1 / 25] * (count - 1), abs=1e-3)
    assert all(comb(image) < comb(old) / 3 for (_, image), old in zip(found, stored, strict=True))


def test_a_live_source_is_shown_as_players_do(tmp_path: Path) -> None:
    path = interlaced_clip(tmp_path / "clip.mpg", 6)
    live = LiveSource("live", "live", opener=lambda: av.open(str(path)))
    with live as source:
        assert source.size == (320, 240)
        assert all(comb(frame.image) < 3 for frame in source)
    wide = "lavfi:testsrc=size=90x60:rate=10,setsar=2,trim=end=0.5"
    with open_source(wide) as source:
        assert source.size == (180, 60)
        assert next(iter(source)).image.shape == (60, 180, 3)


# Animations and several tracks


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif", ".gif"])
@pytest.mark.parametrize("count", [5, 40])
def test_animations(tmp_path: Path, suffix: str, count: int) -> None:
    path = tmp_path / f"moving{suffix}"
    times = [100 + 10 * (i % 5) for i in range(count)]
    pictures = [Image.fromarray(stamped(i)) for i in range(count)]
    exact = {"lossless": True} if suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, **exact)
    found = frames_of(path)
    assert [number_of(image) for _, image in found] == list(range(count))
    starts = np.cumsum([0, *times[:-1]]) / 1000
    assert [time for time, _ in found] == pytest.approx(starts, abs=0.011)
    late = frames_of(path, start=0.2, stride=2)
    assert number_of(late[0][1]) == 2
    # Training wants one picture of it.
    assert number_of(decode_picture(path.read_bytes())) == 0 or suffix == ".gif"


def two_tracks(path: Path, sizes: Sequence[tuple[int, int]], default: int | None) -> Path:
    with av.open(str(path), "w") as out:
        streams = []
        for number, (width, height) in enumerate(sizes):
            stream = out.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            if default is not None:
                kind = av.stream.Disposition
                stream.disposition = kind.default if number == default else kind(0)
            streams.append(stream)
        for i in range(4):
            for stream in streams:
                image = stamped(i, (stream.width, stream.height))
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = i
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "default", "expected"),
    [(".mkv", 0, (96, 64)), (".mkv", 1, (192, 128)), (".ts", None, (192, 128))],
)
def test_the_default_or_the_largest_track(
    tmp_path: Path, suffix: str, default: int | None, expected: tuple[int, int]
) -> None:
    path = two_tracks(tmp_path / f"clip{suffix}", [(96, 64), (192, 128)], default)
    with open_source(str(path)) as source:
        assert source.size == expected
        assert [number_of(frame.image) for frame in source] == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_is_no_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as out:
        cover, stream = out.add_stream("mjpeg", rate=1), out.add_stream("libx264", rate=10)
        cover.width, cover.height, cover.pix_fmt = 300, 300, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for one, count, size in ((cover, 1, (300, 300)), (stream, 5, (96, 64))):
            for i in range(count):
                frame = av.VideoFrame.from_ndarray(stamped(i, size), format="rgb24")
                frame = frame.reformat(format=one.pix_fmt)
                frame.pts, frame.time_base = i, Fraction(1, 10)
                out.mux(one.encode(frame))
            out.mux(one.encode(None))
    assert [number_of(image) for _, image in frames_of(path)] == list(range(5))


def test_a_video_by_a_pictures_name(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        path = make_clip(tmp_path / f"clip{suffix}", 3).rename(tmp_path / "clip.png")
        assert [number_of(image) for _, image in frames_of(path)] == [0, 1, 2]


# Times


def test_hours_between_pictures(tmp_path: Path) -> None:
    times = [0.0, 7200.0, 14400.0, 14401.0, 36000.0]
    for suffix in (".mp4", ".mkv"):
        path = make_clip(tmp_path / f"slow{suffix}", len(times), times=times)
        found = frames_of(path)
        assert [number_of(image) for _, image in found] == list(range(len(times)))
        assert [time for time, _ in found] == pytest.approx(times, abs=0.01)


def test_one_leap_that_is_taken_back_is_damage() -> None:
    clock = source_file._Clock(Fraction(1, 10), 0, 1)
    assert [clock.stamp(pts) for pts in (0, 1)] == [0, 1]
    assert clock.leaps(100_000)
    assert clock.stamp(100_000) == 2
    assert [clock.stamp(pts) for pts in (3, 4)] == [3, 4]
    assert clock.stamp(100_000, trusted=True) == 100_000


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings. Not `caplog`: libraries in other tests silence loggers."""
    lines: list[str] = []
    for module in (source_file, source_image):
        monkeypatch.setattr(module.LOG, "warning", lambda text, *parts: lines.append(text % parts))
    return lines


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv"])
@pytest.mark.parametrize("pause", [0.37, 2.0, 5.03])
def test_a_variable_frame_rate_lacks_nothing(
    tmp_path: Path, said: list[str], suffix: str, pause: float
) -> None:
    """A screen recorded whenever it changes: mostly even, with pauses."""
    times = [i / 20 + (i > 20) * pause + (i > 30) * 1.717 for i in range(40)]
    path = make_clip(tmp_path / f"clip{suffix}", 40, times=times)
    assert len(frames_of(path)) == 40
    assert not said


# Numbered pictures


def write_row(folder: Path, numbers: Sequence[int], name: str = "img_{:04d}.png") -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / name.format(number)), stamped(number))


def test_a_row_begins_anywhere_and_names_what_is_missing(tmp_path: Path, said: list[str]) -> None:
    write_row(tmp_path, [998, 999, 1000, 1003])
    found = frames_of(tmp_path / "img_%04d.png")
    assert [number_of(image) for _, image in found] == [998, 999, 1000, 1003]
    assert [time for time, _ in found] == pytest.approx([0, 0.04, 0.08, 0.2])
    assert said == [f"{tmp_path}/img_%04d.png: the numbers 1001, 1002 are missing"]
    with pytest.raises(SourceError, match="no file matches"):
        open_source(str(tmp_path / "img_%05d.png"))


def test_a_folder_as_one_clip(tmp_path: Path, said: list[str]) -> None:
    row = tmp_path / "row"
    write_row(row, range(0, 60, 5))
    (row / "notes.txt").touch()
    with open_source(str(row), sequence=10, start=0.2, end=1.0, stride=3) as source:
        assert (source.kind, source.fps, source.size) == ("file", 10, (96, 64))
        found = [(frame.index, number_of(frame.image), frame.time) for frame in source]
    assert found == [(3, 15, 0.3), (6, 30, 0.6), (9, 45, 0.9)]
    assert said == ["skipped 1 file that is not a numbered picture: notes.txt"]
    write_row(row, [3], "other_{}.png")
    with pytest.raises(SourceError, match=r"2 numbered sequences \(img_\*.png, other_\*.png\)"):
        open_source(str(row), sequence=10)
    assert len(frames_of(f"{row}/img_*.png", sequence=29.97)) == 12
    for rate in (0, -1, float("nan"), 5000):
        with pytest.raises(UsageError, match="--sequence"):
            open_source(str(row), sequence=rate)
    with pytest.raises(UsageError, match="is a file"):
        open_source(str(row / "notes.txt"), sequence=10)
    (row / "img_0005.png").write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"img_0005\.png is damaged"):
        frames_of(f"{row}/img_*.png", sequence=10)


def test_folders_say_what_they_skip(tmp_path: Path, said: list[str]) -> None:
    for name in ("a.heic", "b.AVIF", "c.heif", "x.txt", "y.json", ".hidden"):
        (tmp_path / name).touch()
    assert [Path(p).name for p in expand_sources(str(tmp_path))] == ["a.heic", "b.AVIF", "c.heif"]
    assert said == ["skipped 2 files that are not videos or pictures: x.txt, y.json"]


# Sources that can be read once


def through_fifo(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)


@pytest.mark.parametrize("kind", ["fifo", "descriptor", "unix socket"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these")
def test_what_can_be_read_once(tmp_path: Path, kind: str) -> None:
    clip = make_clip(tmp_path / "clip.ts", 12, audio="aac").read_bytes()
    path = tmp_path / "source.mp4"
    send: Callable[[], None]
    if kind == "fifo":
        os.mkfifo(path)
        send = lambda: through_fifo(path, clip)  # noqa: E731
    elif kind == "unix socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen()

        def send() -> None:
            connection, _ = server.accept()
            connection.sendall(clip)
            connection.close()
    else:
        reading, writing = os.pipe()
        path = Path(f"/dev/fd/{reading}")

        def send() -> None:
            with open(writing, "wb") as file:
                file.write(clip)

    sender = threading.Thread(target=send)
    sender.start()
    with open_source(str(path)) as source:
        assert (source.kind, source.path, source.name) == ("file", None, str(path))
        assert [number_of(frame.image) for frame in source] == list(range(12))
    sender.join(timeout=5)
    if kind == "descriptor":
        os.close(reading)


def test_a_picture_through_a_pipe(tmp_path: Path) -> None:
    heic = write_heif(tmp_path / "a.heic", corners((150, 100)), turns=1, tile=64)
    jpeg = tmp_path / "b.jpg"
    Image.fromarray(corners()).save(jpeg, exif=exif(7), quality=95)
    os.mkfifo(tmp_path / "fifo")
    for picture in (heic, jpeg):
        data = picture.read_bytes()
        sender = threading.Thread(target=through_fifo, args=(tmp_path / "fifo", data))
        sender.start()
        ((_, found),) = frames_of(tmp_path / "fifo")
        sender.join(timeout=5)
        assert close(found, read_image(picture))


def test_process_substitution(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", 12)
    script = (
        "import sys; from hrtrack.tracker.video.open import open_source\n"
        "with open_source(sys.argv[1]) as s: print(s.kind, sum(1 for _ in s))"
    )
    for source in ("<(cat clip.mkv)", "/dev/stdin < <(cat clip.mkv)", "/dev/stdin < clip.mkv"):
        done = subprocess.run(
            ["bash", "-c", f'"$0" -c "$1" {source}', sys.executable, script],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert (done.stdout.strip(), done.stderr) == ("file 12", ""), source


def test_orientations_are_inverses() -> None:
    image = corners()
    for one, other in ((2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7)):
        assert np.array_equal(orient(orient(image, one), other), image)
    assert Shown(Fraction(0)).aspect == Shown(Fraction(1, 100)).aspect == 1


def test_one_converter_serves_frames_of_every_kind() -> None:
    """A camera or a stream may change its size and its format while it runs."""
    shown = Shown()
    kinds = [(64, 48, "yuv420p"), (96, 80, "yuv420p"), (96, 80, "yuv444p"), (64, 48, "gray")]
    for seed, (width, height, pixels) in enumerate(kinds * 2):
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=pixels)
        image = shown.rgb(frame)
        assert np.array_equal(image, frame.to_ndarray(format="rgb24"))
        assert image.flags.writeable
