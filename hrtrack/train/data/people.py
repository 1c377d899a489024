"""Labelled people, columnar, whatever file they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...skeleton import Skeleton
from .photos import Photos

Floats = NDArray[np.float32]


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
    boxes: Floats  # (N, 4)
    areas: Floats  # (N,) for OKS
    keypoints: Floats  # (N, K, 2)
    weights: Floats  # (N, K)
    heads: Floats  # (N,)
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
