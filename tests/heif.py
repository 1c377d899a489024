"""HEIC and AVIF files box by box (ISO/IEC 23008-12): of one coded picture or of tiles."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def coded(images: Sequence[NDArray[np.uint8]], codec: str) -> tuple[bytes, list[bytes]]:
    """The decoder's configuration and each picture's bytes, every one a key frame."""
    whole = io.BytesIO()
    with av.open(whole, "w", format="mp4") as out:
        stream = out.add_stream(codec, rate=1)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 1
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=error:keyint=1", "crf": "10"}
        else:
            stream.options = {"crf": "20", "preset": "10"}
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    whole.seek(0)
    with av.open(whole) as container:
        video = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(video) if packet.size]
        return bytes(video.codec_context.extradata or b""), packets


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def write_heif(
    path: Path,
    image: NDArray[np.uint8],
    *,
    codec: str = "libx265",
    tile: int | None = None,
    turns: int = 0,
    mirror: int | None = None,
    grid: bytes | None = None,
    lost: int | None = None,
) -> Path:
    """Writes a picture, in square tiles of ``tile`` pixels where that is given.

    ``turns`` are quarter turns to the left, ``mirror`` 0 exchanges top and bottom and 1 left and
    right. ``grid`` stands in for the kind of the item that holds the tiles; the tile of number
    ``lost`` is overwritten by nothings.
    """
    height, width = image.shape[:2]
    tiles = [image]
    if tile:
        down, across = -(-height // tile), -(-width // tile)
        padded = np.pad(
            image, ((0, down * tile - height), (0, across * tile - width), (0, 0)), mode="edge"
        )
        tiles = [
            np.ascontiguousarray(padded[y : y + tile, x : x + tile])
            for y in range(0, down * tile, tile)
            for x in range(0, across * tile, tile)
        ]
    config, packets = coded(tiles, codec)
    if lost is not None:
        packets[lost] = bytes(len(packets[lost]))
    kind, brand = (b"hvc1", b"heic") if codec == "libx265" else (b"av01", b"avif")
    items = [(i + 1, kind, packet) for i, packet in enumerate(packets)]
    if tile:
        described = struct.pack(">BBBBHH", 0, 0, down - 1, across - 1, width, height)
        items.append((len(items) + 1, grid or b"grid", described))
    primary = items[-1][0]

    high, wide = tiles[0].shape[:2]
    properties = [
        full(b"ispe", struct.pack(">II", wide, high)),
        box(b"hvcC" if kind == b"hvc1" else b"av1C", config),
        full(b"ispe", struct.pack(">II", width, height)),
        full(b"pixi", bytes([3, 8, 8, 8])),
        box(b"irot", bytes([turns])),
        box(b"imir", bytes([mirror or 0])),
    ]
    own = [*([3] if tile else [1, 0x80 | 2]), 4, *([0x80 | 5] if turns else [])]
    own += [0x80 | 6] if mirror is not None else []
    used = b""
    for item, _, _ in items:
        indices = own if item == primary else [1, 0x80 | 2, 4]
        used += struct.pack(">HB", item, len(indices)) + bytes(indices)

    def meta(begin: int) -> bytes:
        places, at = b"", begin
        for item, _, content in items:
            places += struct.pack(">HHHII", item, 0, 1, at, len(content))
            at += len(content)
        infos = [
            full(b"infe", struct.pack(">HH4sB", item, 0, name, 0), version=2)
            for item, name, _ in items
        ]
        names = range(1, len(items))
        refs = box(
            b"dimg", struct.pack(f">HH{len(names)}H", primary, len(names), *names)
        ) if tile else b""  # fmt: skip
        return full(
            b"meta",
            full(b"hdlr", struct.pack(">I4s12sB", 0, b"pict", bytes(12), 0)),
            full(b"pitm", struct.pack(">H", primary)),
            full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), places),
            full(b"iinf", struct.pack(">H", len(items)), *infos),
            *([full(b"iref", refs)] if refs else []),
            box(
                b"iprp",
                box(b"ipco", *properties),
                full(b"ipma", struct.pack(">I", len(items)), used),
            ),
        )

    kinds = box(b"ftyp", brand, bytes(4), b"mif1", brand)
    begin = len(kinds) + len(meta(0)) + 8
    path.write_bytes(kinds + meta(begin) + box(b"mdat", *(content for _, _, content in items)))
    return path
