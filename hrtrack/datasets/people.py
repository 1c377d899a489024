"""Labelled people, columnar, whatever file they came from, and their photos."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..pictures import PictureError, decode_picture
from ..skeleton import Skeleton
from ..types import Float32Array, FloatArray


@dataclass(frozen=True, slots=True)
class People:
    """N labelled people with K joints each.

    ``boxes`` are x0, y0, x1, y1 and not padded; ``weights`` say how much each joint counts in
    the loss, 0 where it has no label; ``heads`` are head sizes in pixels for PCKh, NaN where
    the file knows none. Coordinates have pixel centres at whole numbers.
    """

    skeleton: Skeleton
    sources: tuple[Photos, ...]
    source: NDArray[np.int32]  # (N,) index into sources
    files: tuple[str, ...]  # (N,) name within the source
    ids: NDArray[np.int64]  # (N,) annotation ids
    boxes: Float32Array  # (N, 4)
    areas: Float32Array  # (N,) for OKS
    keypoints: Float32Array  # (N, K, 2)
    weights: Float32Array  # (N, K)
    heads: Float32Array  # (N,)
    repeats: NDArray[np.int32]  # (N,)

    def __len__(self) -> int:
        return len(self.boxes)

    def photo(self, index: int) -> NDArray[np.uint8]:
        """The photo (H, W, 3) RGB of a person; DataError when it cannot be read."""
        return self.sources[self.source[index]].read(self.files[index])

    def chosen(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> People:
        """The same for some people only."""
        kept = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns: dict[str, Any] = {name: getattr(self, name)[kept] for name in _COLUMNS}
        return replace(self, files=tuple(self.files[i] for i in kept), **columns)


_COLUMNS = (
    "source", "ids", "boxes", "areas", "keypoints", "weights", "heads", "repeats",
)  # fmt: skip


def joined(parts: Sequence[People]) -> People:
    """Several sets as one; DataError unless they have the same joints in the same order."""
    first = parts[0]
    for other in parts[1:]:
        if other.skeleton.joints != first.skeleton.joints:
            a, b = first.sources[0].where, other.sources[0].where
            raise DataError(
                f"the sets with photos in {a} and {b} have different joints "
                f"({len(first.skeleton)} and {len(other.skeleton)}, or other names): "
                "train on one keypoint set at a time"
            )
    offsets = np.cumsum([0, *(len(part.sources) for part in parts)])
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _COLUMNS
        if name != "source"
    }
    source = np.concatenate(
        [part.source + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
    ).astype(np.int32)
    return replace(
        first,
        sources=tuple(photos for part in parts for photos in part.sources),
        files=tuple(file for part in parts for file in part.files),
        source=source,
        **columns,
    )


def in_share(file: str, share: tuple[float, float]) -> bool:
    """Whether a photo falls into the interval ``share`` of [0, 1), by a hash of its name."""
    return share[0] <= crc32(file.encode()) / 2**32 < share[1]


ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and the values of it that exchange width and height."""


class Photos:
    """Reads RGB photos; can be used from several processes."""

    def __init__(self, where: str | Path) -> None:
        """DataError when there is neither a folder nor a zip at ``where``."""
        self.where = Path(where).expanduser()
        self._zip: zipfile.ZipFile | None = None
        self._owner = -1
        if self.where.is_dir():
            self._names: dict[str, str] | None = None
        elif self.where.is_file() and zipfile.is_zipfile(self.where):
            with zipfile.ZipFile(self.where) as archive:
                self._names = _by_suffix(archive.namelist())
        else:
            raise DataError(f"no photos: {self.where} is neither a folder nor a zip")

    def has(self, name: str) -> bool:
        """Whether there is a file of that name (it may still be damaged)."""
        if self._names is None:
            return (self.where / name).is_file()
        return name in self._names

    def read(self, name: str) -> NDArray[np.uint8]:
        """The photo (H, W, 3) in RGB; DataError names it when it cannot be read."""
        try:
            data = self._bytes(name)
        except (OSError, KeyError, zipfile.BadZipFile):
            raise DataError(f"cannot read the photo {name} in {self.where}") from None
        try:
            return decode_picture(data)
        except PictureError as error:
            raise DataError(f"the photo {name} in {self.where} {error}") from None

    def size(self, name: str) -> tuple[int, int] | None:
        """Width and height of a photo as it is shown, from its header; None where that says
        nothing."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self._bytes(name))) as photo:
                width, height = photo.size
                turned = photo.getexif().get(ORIENTATION, 1) in SIDEWAYS
        except Exception:  # of whatever kind: the reader will tell what is wrong with the photo
            return None
        return (height, width) if turned else (width, height)

    def _bytes(self, name: str) -> bytes:
        if self._names is None:
            return (self.where / name).read_bytes()
        # An open zip has one file position, which forked processes would share.
        if self._zip is None or self._owner != os.getpid():
            self._zip, self._owner = zipfile.ZipFile(self.where), os.getpid()
        return self._zip.read(self._names[name])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_zip": None}


def _by_suffix(members: list[str]) -> dict[str, str]:
    """Members by full name and by the name below the zip's top folder or folders."""
    names: dict[str, str] = {}
    for member in members:
        parts = member.split("/")
        for start in range(len(parts)):
            names.setdefault("/".join(parts[start:]), member)
    return names


MPII_HEAD_FACTOR = 0.6


def mpii_head_sizes(head_boxes: FloatArray) -> FloatArray:
    """Head sizes (N,) in pixels: 0.6 times the diagonals of head boxes (N, 4) x0, y0, x1, y1."""
    return MPII_HEAD_FACTOR * np.linalg.norm(head_boxes[:, 2:] - head_boxes[:, :2], axis=1)


def segment_head_sizes(neck: FloatArray, head_top: FloatArray) -> FloatArray:
    """Head sizes (N,) as the length of the segment from neck to head top, each (N, 3) x, y, v.

    NaN where one of the two ends has no label or both fall together.
    """
    length = np.linalg.norm(head_top[:, :2] - neck[:, :2], axis=1)
    known = (neck[:, 2] > 0) & (head_top[:, 2] > 0) & (length > 0)
    return np.where(known, length, np.nan)
