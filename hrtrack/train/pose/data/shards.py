"""People as JPEG or WebP crops in a few files: a training set that travels without its photos.

A borrowed GPU may take a few dozen megabytes a transfer and lack packages that read
configurations or photos. `write_shards` does what needs them beforehand; reading needs numpy,
OpenCV and torch only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ....datasets.people import People
from ....errors import DataError
from ....geometry import crop_boxes
from ....models.info import PoseInfo
from ....models.pose.graph import PoseGraph
from ....models.pose.hrnet import HRNet
from ....models.precision import in_bf16
from ....types import Float32Array
from ....writable import atomic_write
from ..validate import mean_oks, mean_pckh
from .crop_cache import ROOM, CachedCrops, CropCache, cache_crops
from .plan import Draw

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
        quality: of the pictures, 1 to 100.
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
        _save(pictures, _joined(rows), path)
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


def _save(pictures: Sequence[bytes], labels: Labels, path: Path) -> None:
    columns = {f.name: getattr(labels, f.name) for f in fields(labels)}
    ends = np.cumsum([len(picture) for picture in pictures])
    flat = np.frombuffer(b"".join(pictures), np.uint8)
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, pictures=flat, ends=ends, **columns)


def read_shards(paths: Sequence[Path], device: torch.device) -> tuple[CachedCrops, Labels]:
    """All people of several shards, their pictures decoded onto ``device``.

    DataError when there is no shard, or one is damaged.
    """
    parts: list[Labels] = []
    crops: list[torch.Tensor] = []
    for path in paths:
        try:
            with np.load(path) as file:
                labels = Labels(*(file[f.name] for f in fields(Labels)))
                flat, ends = file["pictures"], file["ends"]
            with ThreadPoolExecutor() as threads:
                pieces = np.split(flat, ends[:-1])
                squares = np.stack(list(threads.map(_decoded, pieces)))
        except (OSError, KeyError, ValueError, BadZipFile, cv2.error) as error:
            raise DataError(f"cannot read the shard {path}: {error!r}") from None
        parts.append(labels)
        crops.append(torch.from_numpy(squares).to(device))
    if not parts:
        raise DataError("there are no shards to read")
    labels = _joined(parts)

    def tensor(array: Float32Array) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    cached = CachedCrops(
        torch.cat(crops), tensor(labels.boxes), tensor(labels.points), tensor(labels.weights)
    )
    return cached, labels


def _decoded(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = cv2.imdecode(picture, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a picture is damaged")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


BATCH = 64


class ShardedPeople:
    """PCKh and mean OKS on packed people, cut as the network sees them and left unchanged.

    Args:
        kept, labels: from `hrtrack.train.pose.data.shards.read_packs`, on the device that is to
            compute.
        described: the network's input and joints.
        config: a training's configuration, or its sections as plain attributes.
    """

    def __init__(
        self, cached: CachedCrops, labels: Labels, described: PoseInfo, config: Any
    ) -> None:
        still: Any = SimpleNamespace(**vars(config))
        still.augment = SimpleNamespace(**dict.fromkeys(vars(config.augment), 0))
        self.described = described
        self.bf16 = in_bf16(config.fit.precision, cached.crops.device)
        count, size = len(cached.crops), (described.input_hw[0], described.input_hw[1])
        scale = size[1] / crop_boxes(labels.boxes, size[1] / size[0], config.input.padding)[:, 2]
        draws = [Draw(row, row, size, described.sigma) for row in range(count)]
        parts = [draws[i : i + BATCH] for i in range(0, count, BATCH)]
        self.batches = list(CropCache(cached, described.skeleton, still).batches(parts))
        self.people = People(
            skeleton=described.skeleton,
            sources=(),
            source=np.zeros(count, np.int32),
            files=("",) * count,
            ids=np.arange(count),
            boxes=labels.boxes * scale[:, None].astype(np.float32),
            areas=(labels.areas * scale**2).astype(np.float32),
            keypoints=torch.cat([batch.points for batch in self.batches]).cpu().numpy(),
            weights=labels.weights,
            heads=(labels.heads * scale).astype(np.float32),
            repeats=labels.repeats,
        )

    @torch.inference_mode()
    def __call__(self, network: HRNet) -> tuple[float | None, float]:
        """Of one network, without flip test; PCKh in percent, None where no head is known."""
        device = self.batches[0].crops.device
        graph = PoseGraph(network, self.described).to(device)
        found = []
        for batch in self.batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                found.append(graph(batch.crops)[0].float().cpu())
        points = torch.cat(found).numpy().astype(np.float64)[..., :2]
        people = self.people
        oks = mean_oks(points, people, people.weights > 0, people.skeleton)
        return mean_pckh(points, people), oks
