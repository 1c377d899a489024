"""People as JPEG or WebP squares in a few files: a training set that travels without its photos.

A rented GPU may take a few dozen megabytes a transfer. `write_shards` cuts people out of their
photos beforehand; `read_shards` gives them to any training as people whose photos are the squares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ....datasets.people import People, Photos, joined
from ....errors import DataError, ModelError
from ....geometry import crop_boxes
from ....models.info import skeleton_fields, skeleton_of
from ....types import Float32Array
from ....writable import atomic_write
from .crop_cache import ROOM, CachedCrops, CropCache, cache_crops, require_room

if TYPE_CHECKING:
    from ....configs.pose_schema import TrainConfig

CHUNK = 64
Kind = Literal["jpg", "webp"]
QUALITY = {"jpg": cv2.IMWRITE_JPEG_QUALITY, "webp": cv2.IMWRITE_WEBP_QUALITY}
"""OpenCV's words for them."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known about N packed people, in pixels of their squares; see `CachedCrops` and
    `People`."""

    boxes: Float32Array  # (N, 4)
    points: Float32Array  # (N, K, 2)
    weights: Float32Array  # (N, K)
    heads: Float32Array  # (N,)
    areas: Float32Array  # (N,)
    repeats: NDArray[np.int32]  # (N,)


def write_shards(
    people: People,
    folder: Path,
    name: str,
    *,
    side: int,
    padding: float,
    quality: int = 85,
    kind: Kind = "jpg",
    megabytes: float = 30.0,
) -> list[Path]:
    """Writes ``folder/NAME_NN.npz``, none larger than ``megabytes`` (of 1e6 bytes).

    People whose photo cannot be read are left out; DataError when nobody is left.

    Args:
        people: with their labels as they are to be trained on.
        folder: must exist.
        name: of the shards.
        side: of the squares, which reach as far as those of `hrtrack.train.pose.data.crop_cache`.
        padding: of the network's crops.
        quality: of the pictures, 1 to 100; WebP loses nothing at 101.
        kind: of the pictures.
        megabytes: the limit.
    """
    written: list[Path] = []
    pictures: list[bytes] = []
    rows: list[Labels] = []
    size = 0.0

    def flush() -> None:
        nonlocal size
        path = folder / f"{name}_{len(written):02d}.npz"
        _save(pictures, _joined(rows), people, path)
        written.append(path)
        pictures.clear()
        rows.clear()
        size = 0.0

    for picture, labels in _squares(people, side, padding, quality, kind):
        more = len(picture) + 8 + sum(getattr(labels, f.name).nbytes for f in fields(labels))
        if pictures and size + more > 1e6 * megabytes - 4096:
            flush()
        pictures.append(picture)
        rows.append(labels)
        size += more
    if not pictures:
        raise DataError("not one photo of the set could be read")
    flush()
    return written


def _squares(
    people: People, side: int, padding: float, quality: int, kind: str
) -> Iterator[tuple[bytes, Labels]]:
    for first in range(0, len(people), CHUNK):
        part = people.chosen(np.arange(first, min(first + CHUNK, len(people))))
        cached = cache_crops(part, side, padding, torch.device("cpu"))
        scale = side / crop_boxes(part.boxes, 1.0, padding * ROOM)[:, 2]
        for row in range(len(part)):
            if row in cached.unreadable:
                continue
            square = cv2.cvtColor(cached.crops[row].numpy(), cv2.COLOR_RGB2BGR)
            picture = cv2.imencode(f".{kind}", square, [QUALITY[kind], quality])[1]
            one = slice(row, row + 1)
            yield (
                picture.tobytes(),
                Labels(
                    boxes=cached.boxes[one].numpy(),
                    points=cached.points[one].numpy(),
                    weights=cached.weights[one].numpy(),
                    heads=(part.heads[one] * scale[one]).astype(np.float32),
                    areas=(part.areas[one] * scale[one] ** 2).astype(np.float32),
                    repeats=part.repeats[one],
                ),
            )


def _joined(parts: Sequence[Labels]) -> Labels:
    return Labels(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Labels))
    )


def _save(pictures: Sequence[bytes], labels: Labels, people: People, path: Path) -> None:
    columns = {f.name: getattr(labels, f.name) for f in fields(labels)}
    ends = np.cumsum([len(picture) for picture in pictures])
    flat = np.frombuffer(b"".join(pictures), np.uint8)
    said = json.dumps(skeleton_fields(people.skeleton))
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, pictures=flat, ends=ends, skeleton=np.array(said), **columns)


class Shard(Photos):
    """A shard as a place of photos: everybody's square under their number."""

    def __init__(self, path: Path, count: int) -> None:
        self.where, self._count = path, count
        self._pictures: list[memoryview] | None = None

    def has(self, name: str) -> bool:
        """Whether there is such a number."""
        return name.isdecimal() and int(name) < self._count

    def load(self) -> None:
        """Reads the pictures, which are not decoded yet; DataError when they are damaged."""
        try:
            with np.load(self.where) as file:
                flat, ends = memoryview(file["pictures"]), file["ends"].tolist()
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise _unreadable(self.where, error) from None
        begins = [0, *ends[:-1]]
        self._pictures = [flat[a:b] for a, b in zip(begins, ends, strict=True)]

    def _bytes(self, name: str) -> bytes:
        if self._pictures is None:
            self.load()
        assert self._pictures is not None
        return bytes(self._pictures[int(name)])

    def __getstate__(self) -> dict[str, object]:
        # A loading process reads the file itself: that is quicker than to send it on.
        return {**self.__dict__, "_pictures": None}


def read_shards(folder: Path, name: str) -> People:
    """All people of ``folder/NAME_NN.npz`` in the order in which they were packed.

    Coordinates are pixels of their squares, which are their photos.

    Raises:
        DataError: there is no shard, or one is damaged.
    """
    paths = sorted(folder.glob(f"{name}_*.npz"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise DataError(
            f"there are no shards {name}_NN.npz in {folder}: hrtrack data pack writes them"
        )
    return joined([_people_of(path) for path in paths])


def _people_of(path: Path) -> People:
    try:
        with np.load(path) as file:
            labels = Labels(*(file[f.name] for f in fields(Labels)))
            skeleton = skeleton_of(json.loads(str(file["skeleton"])), path)
    except (OSError, KeyError, ValueError, BadZipFile, ModelError) as error:
        raise _unreadable(path, error) from None
    count = len(labels.boxes)
    return People(
        skeleton=skeleton,
        sources=(Shard(path, count),),
        source=np.zeros(count, np.int32),
        files=tuple(map(str, range(count))),
        ids=np.arange(count),
        boxes=labels.boxes,
        areas=labels.areas,
        keypoints=labels.points,
        weights=labels.weights,
        heads=labels.heads,
        repeats=labels.repeats,
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read the shard {path}: {error!r}")


def device_crops(people: People, config: TrainConfig, device: torch.device) -> CropCache:
    """Everybody as a square on a device: those of shards as they are, others cut out of photos.

    Raises:
        ConfigError: they do not fit into the memory of a CPU's machine.
        DataError: the shards were packed with different sides.
    """
    if not isinstance(people.sources[0], Shard):
        return CropCache.of(people, config, device)
    return CropCache(packed_crops(people, device), people.skeleton, config)


def packed_crops(people: People, device: torch.device) -> CachedCrops:
    """The squares of `read_shards`' people, decoded onto ``device``."""
    for shard in people.sources:
        assert isinstance(shard, Shard)
        shard.load()
    side = len(people.photo(0))
    require_room(len(people), side, device)
    crops = torch.zeros((len(people), side, side, 3), dtype=torch.uint8, device=device)
    unreadable = []

    def decoded(row: int) -> NDArray[np.uint8] | None:
        try:
            return people.photo(row)
        except DataError:
            return None

    with ThreadPoolExecutor() as threads:
        for first in range(0, len(people), CHUNK):
            rows = range(first, min(first + CHUNK, len(people)))
            for row, square in zip(rows, threads.map(decoded, rows), strict=True):
                if square is None:
                    unreadable.append(row)
                elif square.shape != (side, side, 3):
                    where = people.sources[people.source[row]].where
                    raise DataError(
                        f"{where} was packed with a side of {len(square)} pixels, "
                        f"{people.sources[0].where} with {side}: pack all with one --side"
                    )
                else:
                    crops[row] = torch.from_numpy(square).to(device)

    def tensor(array: Float32Array) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    weights = tensor(people.weights).clone()
    weights[unreadable] = 0
    return CachedCrops(
        crops, tensor(people.boxes), tensor(people.keypoints), weights, frozenset(unreadable)
    )
