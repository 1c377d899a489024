"""Pictures as sources: one, an animation, or a row of numbered files."""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError, UsageError
from ...geometry import orient
from ...pictures import SUFFIXES, PictureError, decode_picture, exif_orientation, is_animated
from ..stopwatch import Stopwatch
from .base import ReadAhead, Source
from .frame import Frame

LOG = logging.getLogger(__name__)
MILLISECONDS = Fraction(1, 1000)
WEBP_AT_ONCE = 32
"""Pictures of an animation that are decoded in one go."""
DEFAULT_RATE = Fraction(25)
"""Pictures a second of a numbered row where nobody says; FFmpeg's own."""
PATTERN = re.compile(r"%(0?)(\d*)d")
NAMED_MOST = 5
"""Missing numbers that are named one by one."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) uint8 RGB, upright as viewers show it."""
    return decoded(path, read_bytes(path))


def read_bytes(path: str | Path) -> bytes:
    """What is in a picture file; SourceError when it cannot be read or is empty."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}") from None
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}") from None
    if not data:
        raise SourceError(f"{path} is empty (0 bytes); a picture was expected")
    return data


def decoded(name: str | Path, data: bytes) -> NDArray[np.uint8]:
    """A picture file's bytes as (H, W, 3) uint8 RGB; SourceError, with its name, if it is none."""
    try:
        return decode_picture(data)
    except PictureError as error:
        raise SourceError(f"{name} {error}") from None


@dataclass
class ImageSource(Source):
    """One picture, one frame at time 0."""

    image: NDArray[np.uint8] | None = None

    def __iter__(self) -> Iterator[Frame]:
        if self.image is not None:
            yield Frame(0, 0.0, self.image, 0, Fraction(1))

    def close(self) -> None:
        self.image = None


@dataclass
class PicturesSource(ReadAhead):
    """Pictures that have a place in time, which is asked for as they are read.

    Of those between ``start`` and ``end`` every one whose index is a multiple of ``stride`` is
    delivered.
    """

    stride: int = 1
    stopwatch: Stopwatch | None = None

    def _timed(self) -> Iterator[tuple[int, NDArray[np.uint8] | Path]]:
        """Timestamps, and pictures or where they are."""
        raise NotImplementedError

    def _frames(self) -> Generator[Frame, None, None]:
        assert self.time_base is not None
        began = time.perf_counter()
        for index, (pts, picture) in enumerate(self._timed()):
            seconds = float(pts * self.time_base)
            if self.end is not None and seconds >= self.end:
                return
            if (self.start is not None and seconds < self.start) or index % self.stride:
                continue
            image = read_image(picture) if isinstance(picture, Path) else picture
            if self.stopwatch:
                self.stopwatch.add("decode", time.perf_counter() - began)
            yield Frame(index, seconds, image, pts, self.time_base)
            began = time.perf_counter()

    def _let_go(self) -> None:
        pass

    def _nothing_there(self) -> SourceError:
        if self.start:
            return SourceError(f"{self.name} ends before {self.start:g} s; nothing to track")
        return SourceError(f"{self.name} holds no picture that can be decoded")


@dataclass
class WebpSource(PicturesSource):
    """An animated WebP, which FFmpeg cannot read; decoded by OpenCV."""

    data: bytes = field(kw_only=True)

    def __post_init__(self) -> None:
        self.time_base = MILLISECONDS
        super().__post_init__()

    def _timed(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        import cv2

        data, orientation = np.frombuffer(self.data, np.uint8), exif_orientation(self.data)
        pts = first = 0
        while True:
            try:
                found = cv2.imdecodeanimation(data, first, WEBP_AT_ONCE)[1]
            except cv2.error:
                raise SourceError(f"{self.name} is damaged") from None
            if not len(found.frames):
                return
            for image, duration in zip(found.frames, found.durations, strict=True):
                code = cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
                yield pts, orient(np.asarray(cv2.cvtColor(image, code), np.uint8), orientation)
                pts += max(int(duration), 1)
            if len(found.frames) < WEBP_AT_ONCE:
                return
            first += WEBP_AT_ONCE


def open_picture(
    name: str,
    data: bytes,
    start: float | None = None,
    end: float | None = None,
    stride: int = 1,
    stopwatch: Stopwatch | None = None,
) -> Source:
    """A picture file's bytes as a source: one frame, or those of an animated WebP.

    SourceError when they cannot be decoded.
    """
    if is_animated(data) and data[:4] == b"RIFF":
        times = [max(int.from_bytes(part[12:15], "little"), 1) for part in _webp_parts(data)]
        rate = Fraction(1000 * len(times), sum(times)) if times else None
        return WebpSource(
            name, "file", fps=rate, declared_frames=len(times) or None, start=start, end=end,
            stride=stride, stopwatch=stopwatch, data=data,
        )  # fmt: skip
    image = decoded(name, data)
    height, width = image.shape[:2]
    return ImageSource(
        name, "image", (width, height), time_base=Fraction(1), declared_frames=1, image=image
    )


def _webp_parts(data: bytes) -> Iterator[bytes]:
    """The heads of an animation's parts (WebP container specification, "Animation")."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"ANMF":
            yield data[at + 8 : at + 24]
        at += 8 + size + size % 2


@dataclass
class SequenceSource(PicturesSource):
    """Numbered pictures as one clip; where a number is missing, so is its time."""

    pictures: Sequence[tuple[int, Path]] = field(kw_only=True)

    def __post_init__(self) -> None:
        assert self.fps is not None
        self.time_base = 1 / self.fps
        super().__post_init__()

    def _timed(self) -> Iterator[tuple[int, Path]]:
        yield from self.pictures


def open_sequence(
    name: str,
    rate: Fraction | None,
    *,
    start: float | None = None,
    end: float | None = None,
    stride: int = 1,
    stopwatch: Stopwatch | None = None,
) -> SequenceSource:
    """Opens a folder, a glob or a pattern as ``img_%04d.png`` as one clip.

    The numbers may begin anywhere and count in any steps; a missing one is named in a warning
    and leaves a gap in time. ``rate`` is the pictures a second, 25 where nobody says.

    SourceError when there are none, when they belong to several rows, or one cannot be read.
    """
    rows = _rows(name)
    if len(rows) > 1:
        shown = ", ".join(sorted(f"{head}*{tail}" for head, tail in rows)[:3])
        raise SourceError(
            f"{name} holds {len(rows)} numbered sequences ({shown}); name one with a glob in quotes"
        )
    (numbered,) = rows.values()
    numbers = sorted(numbered)
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    step = math.gcd(*steps) or 1
    places = [(number - numbers[0]) // step for number in numbers]
    lost = places[-1] + 1 - len(places)
    if lost > len(places):  # the numbers are no count, but perhaps the time of day
        places, lost = list(range(len(places))), 0
    if lost:
        gaps = (
            numbers[i] + step * k
            for i in range(len(places) - 1)
            for k in range(1, places[i + 1] - places[i])
        )
        named = ", ".join(str(number) for number, _ in zip(gaps, range(NAMED_MOST), strict=False))
        more = f" and {lost - NAMED_MOST} more" if lost > NAMED_MOST else ""
        some = f"number {named} is" if lost == 1 else f"numbers {named}{more} are"
        LOG.warning("%s: the %s missing", name, some)
    return SequenceSource(
        name,
        "file",
        fps=rate or DEFAULT_RATE,
        declared_frames=len(numbers),
        start=start,
        end=end,
        stride=stride,
        stopwatch=stopwatch,
        pictures=[(place, numbered[number]) for place, number in zip(places, numbers, strict=True)],
    )


def is_pattern(name: str) -> bool:
    """Whether a name with a place for a number stands for a row of pictures."""
    return PATTERN.search(os.path.basename(name)) is not None and not os.path.exists(name)


def _rows(name: str) -> dict[tuple[str, str], dict[int, Path]]:
    """Numbered pictures by what stands before and after the last number in their names."""
    place = PATTERN.search(os.path.basename(name)) if is_pattern(name) else None
    try:
        if place is not None:
            folder, base = os.path.split(name)
            head, tail = base[: place.start()], base[place.end() :]
            wanted = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
            found: dict[int, Path] = {}
            for item in Path(folder or ".").iterdir():
                match = wanted.fullmatch(item.name)
                # %04d writes 7 as 0007 and nothing else.
                if match and f"{int(match[1]):{place[1]}{place[2]}d}" == match[1]:
                    found[int(match[1])] = item
            if not found:
                raise SourceError(f"no file matches {name}")
            return {(head, tail): found}
        if os.path.isdir(name):
            files = [item for item in Path(name).iterdir() if item.is_file()]
        else:
            import glob

            files = [Path(item) for item in glob.glob(name, recursive=True)]
    except OSError as error:
        raise SourceError(f"cannot open {name}: {error.strerror}") from None
    rows: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    left_out = []
    for item in files:
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", item.name)
        if item.suffix.lower() not in SUFFIXES or match is None:
            left_out.append(item.name)
            continue
        row = rows[match[1], match[3]]
        number = int(match[2])
        if number in row:
            raise SourceError(f"{name} holds both {row[number].name} and {item.name}")
        row[number] = item
    if not rows:
        raise SourceError(f"{name} holds no numbered picture")
    tell_skipped(left_out, "is not a numbered picture", "are not numbered pictures")
    return rows


def tell_skipped(names: Sequence[str], one: str, many: str) -> None:
    """Says in one line which files of a folder are left out; hidden ones go without saying."""
    names = sorted(name for name in names if not name.startswith("."))
    if not names:
        return
    what = f"1 file that {one}" if len(names) == 1 else f"{len(names)} files that {many}"
    more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
    LOG.warning("skipped %s: %s%s", what, ", ".join(names[:NAMED_MOST]), more)


def rate_of(text: float) -> Fraction:
    """Pictures a second as a fraction; UsageError when it is no rate."""
    if not math.isfinite(text) or not 0 < text <= 1000:
        raise UsageError(f"--sequence {text:g}: pictures a second must be above 0, at most 1000")
    exact = Fraction(text).limit_denominator(1001)
    # 23.976, 29.97 and 59.94 stand for 24000/1001, 30000/1001 and 60000/1001.
    film = Fraction(round(text * 1.001) * 1000, 1001)
    return film if film and abs(float(film) - text) < 0.005 and exact.denominator > 1 else exact
