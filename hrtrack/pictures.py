"""Picture files as viewers show them: one reader for the tracker, training and evaluation."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from .geometry import orient

SUFFIXES = frozenset(
    [
        ".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
        ".jp2", ".avif", ".heic", ".heif", ".hif",
    ]
)  # fmt: skip
ORIENTATION_TAG = 0x0112
TIFF = (b"II*\0", b"MM\0*")
HEIF_BRANDS = (
    b"avif", b"avis", b"mif1", b"mif2", b"miaf", b"msf1",
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx",
)  # fmt: skip
MP4_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"qt  ", b"M4V ")
LONGEST_EDGE = 2**16
"""Pixels; a HEIF picture of tiles that claims more is damage."""


class PictureError(Exception):
    """A picture that cannot be decoded; the message says why, without its name."""


DAMAGED = "is damaged or not a picture in any known format"


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """A picture file's bytes as (H, W, 3) uint8 RGB, turned and mirrored as viewers do.

    JPEG, PNG, WebP and TIFF say so by EXIF, HEIC and AVIF by their own properties. Of an
    animation it is the first picture.

    Raises:
        PictureError: it cannot be decoded.
    """
    if is_heif(data):
        return _decode_heif(data)
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    with _OpencvSilent():
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
        except cv2.error:
            image = None
    if image is None:
        raise PictureError(DAMAGED)
    rgb = cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    # OpenCV turns a TIFF whatever the flag says.
    return rgb if data[:4] in TIFF else orient(rgb, exif_orientation(data))


class _OpencvSilent:
    """OpenCV's own lines are left out as long as a thread is in here: what they say is raised."""

    _lock = threading.Lock()
    _inside = 0
    _level = 0

    def __enter__(self) -> None:
        with self._lock:
            if _OpencvSilent._inside == 0:
                _OpencvSilent._level = self._log().setLogLevel(0)
            _OpencvSilent._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            _OpencvSilent._inside -= 1
            if _OpencvSilent._inside == 0:
                self._log().setLogLevel(self._level)

    @staticmethod
    def _log() -> Any:
        import cv2

        # OpenCV 4 has the function in the package itself.
        return getattr(cv2.utils, "logging", cv2)


def exif_orientation(data: bytes) -> int:
    """The orientation, 1 to 8, in the EXIF data of a JPEG, PNG, WebP or TIFF; 1 without any."""
    try:
        for block in _exif_blocks(data):
            found = _orientation(block.removeprefix(b"Exif\0\0"))
            if 1 <= found <= 8:
                return found
    except (struct.error, IndexError):
        pass
    return 1


def _exif_blocks(data: bytes) -> Iterator[bytes]:
    """What may hold EXIF data: a TIFF header and directory, perhaps behind ``Exif``."""
    if data[:4] in TIFF:
        yield data
    elif data[:2] == b"\xff\xd8":
        at = 2
        while data[at : at + 1] == b"\xff" and data[at + 1] != 0xDA:  # up to the coded picture
            if data[at + 1] == 0xFF:  # filling between segments
                at += 1
                continue
            (size,) = struct.unpack_from(">H", data, at + 2)
            if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                yield data[at + 4 : at + 2 + size]
            at += 2 + size
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        at = 8
        while at + 8 <= len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            if kind == b"eXIf":
                yield data[at + 8 : at + 8 + size]
            at += 12 + size
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        at = 12
        while at + 8 <= len(data):
            kind, size = struct.unpack_from("<4sI", data, at)
            if kind == b"EXIF":
                yield data[at + 8 : at + 8 + size]
            at += 8 + size + size % 2


def _orientation(tiff: bytes) -> int:
    order: Literal["<", ">"] = "<" if tiff[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, at)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * entry)
        if tag == ORIENTATION_TAG:
            return int(value)
    return 1


def is_heif(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is HEIC, AVIF or another HEIF."""
    if head[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    # MP4 files may name a picture's brand among those they are compatible with.
    return brands[0] in HEIF_BRANDS or (
        brands[0] not in MP4_BRANDS and bool({b"heic", b"avif", b"mif1"} & set(brands))
    )


def is_animated(data: bytes) -> bool:
    """Whether a WebP, PNG or HEIF file holds an animation."""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return bool(data[20] & 2)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        end = data.find(b"IDAT")
        return data.find(b"acTL", 8, end) >= 0 if end > 0 else False
    return is_heif(data) and any(kind == b"moov" for kind, _, _ in _boxes(data, 0, len(data)))


# HEIF: ISO/IEC 23008-12, on the boxes of ISO/IEC 14496-12.


@dataclass(slots=True)
class _Heif:
    """What a HEIF file's meta box says of its pictures."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)
    tiles: dict[int, list[int]] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    used: dict[int, list[int]] = field(default_factory=dict)
    inline: bytes = b""

    def of(self, item: int) -> list[tuple[bytes, bytes]]:
        """An item's properties in the order in which they are applied."""
        return [
            self.properties[i - 1] for i in self.used.get(item, []) if 0 < i <= len(self.properties)
        ]

    def content(self, item: int, data: bytes) -> bytes:
        method, extents = self.places[item]
        whole = self.inline if method == 1 else data
        return b"".join(whole[at : at + size] if size else whole[at:] for at, size in extents)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        stop = at + size if size else end
        if not begin <= stop <= end:
            return
        yield kind, begin, stop
        at = stop


class _Reader:
    """Big-endian numbers of given sizes, one after the other."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self, size: int) -> int:
        self.at += size
        if self.at > len(self.data):
            raise IndexError("a box ends early")
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def _read_heif(data: bytes) -> _Heif:
    heif = _Heif()
    for kind, begin, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            for inner, at, stop in _boxes(data, begin + 4, end):
                _read_box(heif, inner, data[at:stop])
            return heif
    raise PictureError(DAMAGED)


def _read_box(heif: _Heif, kind: bytes, box: bytes) -> None:
    read = _Reader(box)
    if kind == b"idat":
        heif.inline = box
    elif kind == b"iprp":
        for inner, begin, end in _boxes(box, 0, len(box)):
            if inner == b"ipco":
                heif.properties += [(name, box[a:b]) for name, a, b in _boxes(box, begin, end)]
            elif inner == b"ipma":
                _read_associations(heif, _Reader(box[begin:end]))
    elif kind == b"pitm":
        heif.primary = read.number(2 if read.number(4) >> 24 == 0 else 4)
    elif kind == b"iinf":
        version = read.number(4) >> 24
        read.number(2 if version == 0 else 4)
        for inner, begin, end in _boxes(box, read.at, len(box)):
            entry = _Reader(box[begin:end])
            version = entry.number(4) >> 24
            if inner == b"infe" and version >= 2:
                item = entry.number(2 if version == 2 else 4)
                entry.number(2)
                heif.kinds[item] = entry.data[entry.at : entry.at + 4]
    elif kind == b"iref":
        wide = 2 if read.number(4) >> 24 == 0 else 4
        for inner, begin, end in _boxes(box, read.at, len(box)):
            entry = _Reader(box[begin:end])
            item = entry.number(wide)
            if inner == b"dimg":
                heif.tiles[item] = [entry.number(wide) for _ in range(entry.number(2))]
    elif kind == b"iloc":
        _read_places(heif, read)


def _read_places(heif: _Heif, read: _Reader) -> None:
    version = read.number(4) >> 24
    sizes = read.number(2)
    offset_size, length_size = sizes >> 12, sizes >> 8 & 15
    base_size, index_size = sizes >> 4 & 15, sizes & 15
    for _ in range(read.number(2 if version < 2 else 4)):
        item = read.number(2 if version < 2 else 4)
        method = read.number(2) & 15 if version else 0
        read.number(2)
        base = read.number(base_size)
        extents = []
        for _ in range(read.number(2)):
            if version:
                read.number(index_size)
            extents.append((base + read.number(offset_size), read.number(length_size)))
        heif.places[item] = method, extents


def _read_associations(heif: _Heif, read: _Reader) -> None:
    flags = read.number(4)
    for _ in range(read.number(4)):
        item = read.number(2 if flags >> 24 == 0 else 4)
        wide, mask = (2, 0x7FFF) if flags & 1 else (1, 0x7F)
        heif.used[item] = [read.number(wide) & mask for _ in range(read.number(1))]


def _decode_heif(data: bytes) -> NDArray[np.uint8]:
    from .pyav import av

    try:
        heif = _read_heif(data)
        kind = heif.kinds.get(heif.primary)
        if kind == b"grid":
            image = _tiled(heif, data)
        elif kind in (b"hvc1", b"av01", b"avc1", b"jpeg", b"j2k1"):
            image = _decode_items(data, [heif.primary])[0]
        else:
            name = kind.decode("latin-1") if kind else "unknown"
            raise PictureError(f"is a HEIF picture of the kind '{name}', which cannot be decoded")
        for name_, value in heif.of(heif.primary):
            image = _transformed(image, name_, value)
    except (struct.error, IndexError, KeyError, ValueError, av.error.FFmpegError):
        raise PictureError(DAMAGED) from None
    return np.ascontiguousarray(image)


def _transformed(image: NDArray[np.uint8], name: bytes, value: bytes) -> NDArray[np.uint8]:
    """A picture after one of HEIF's transformative properties (6.5.9, 6.5.10, 6.5.12)."""
    if name == b"irot":  # quarter turns to the left
        return orient(image, (1, 8, 3, 6)[value[0] & 3])
    if name == b"imir":  # 0 exchanges top and bottom, 1 left and right
        return orient(image, 2 if value[0] & 1 else 4)
    if name == b"clap":
        parts = struct.unpack(">IIIIiIiI", value[:32])
        width, height, right, down = (
            parts[i] / parts[i + 1] if parts[i + 1] else 0.0 for i in (0, 2, 4, 6)
        )
        rows, columns = image.shape[:2]
        left, top = round((columns - width) / 2 + right), round((rows - height) / 2 + down)
        if 0 <= left < left + width <= columns and 0 <= top < top + height <= rows:
            return image[top : top + round(height), left : left + round(width)]
    return image


def _tiled(heif: _Heif, data: bytes) -> NDArray[np.uint8]:
    """The picture of a grid item (6.6.2.3): equal tiles, row by row, cut to its size."""
    read = _Reader(heif.content(heif.primary, data))
    flags = read.number(2)
    rows, columns = read.number(1) + 1, read.number(1) + 1
    wide = 4 if flags & 1 else 2
    width, height = read.number(wide), read.number(wide)
    items = heif.tiles[heif.primary]
    if len(items) != rows * columns or not 0 < max(width, height) <= LONGEST_EDGE:
        raise PictureError(DAMAGED)
    tiles = _decode_items(data, items)
    high, across = tiles[0].shape[:2]
    if any(tile.shape != tiles[0].shape for tile in tiles):
        raise PictureError(DAMAGED)
    if rows * high < height or columns * across < width:
        raise PictureError(DAMAGED)
    image = np.empty((height, width, 3), np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * high, place % columns * across
        part = image[top : top + high, left : left + across]
        part[:] = tile[: part.shape[0], : part.shape[1]]
    return image


def _decode_items(data: bytes, items: list[int]) -> list[NDArray[np.uint8]]:
    """Coded items by FFmpeg, as they are stored; it names its streams after the items."""
    from .pyav import av
    from .shown import Shown

    found: dict[int, NDArray[np.uint8]] = {}
    with av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
        streams = {stream.id: stream for stream in reversed(container.streams.video)}
        wanted = [streams[item] for item in items if item in streams]
        shown = Shown(upright=False)
        for stream in wanted:
            stream.thread_count = 1 if len(items) > 1 else 0
        for packet in container.demux(wanted):
            if packet.stream.id in found:
                continue
            with suppress(av.error.FFmpegError):
                pictures = cast("list[av.VideoFrame]", packet.decode())
                found.update((packet.stream.id, shown.rgb(one)) for one in pictures[:1])
    if missing := [item for item in items if item not in found]:
        what = f"{len(missing)} of its {len(items)} tiles" if len(items) > 1 else "its picture"
        raise PictureError(f"is damaged: {what} cannot be decoded")
    return [found[item] for item in items]
