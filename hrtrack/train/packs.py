"""People as JPEG or WebP squares in a few files: a training set that fits where its photos do not.

A borrowed GPU may take a few dozen megabytes a transfer and lack packages that read
configurations or photos. `write_packs` does what needs them beforehand; reading needs numpy,
OpenCV and torch only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..geometry import crop_boxes
from ..writable import whole
from .data.people import People
from .resident import ROOM, Kept, keep

CHUNK = 64
QUALITY = {"jpg": cv2.IMWRITE_JPEG_QUALITY, "webp": cv2.IMWRITE_WEBP_QUALITY}
"""OpenCV's words for them."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known about N packed people, in pixels of their squares; see `Kept` and `People`."""

    boxes: Floats  # (N, 4)
    points: Floats  # (N, K, 2)
    weights: Floats  # (N, K)
    heads: Floats  # (N,)
    areas: Floats  # (N,)
    repeats: NDArray[np.int32]  # (N,)


def write_packs(
    people: People,
    folder: Path,
    name: str,
    *,
    side: int,
    padding: float,
    quality: int = 85,
    kind: Literal["jpg", "webp"] = "jpg",
    megabytes: float = 30.0,
) -> list[Path]:
    """Writes ``folder/NAME_NN.npz``, none larger than ``megabytes`` (of 1e6 bytes).

    People whose photo cannot be read are left out; DataError when nobody is left.

    Args:
        people: with their labels as they are to be trained on.
        folder: must exist.
        name: of the packs.
        side: of the squares, which reach as far as those of `hrtrack.train.resident`.
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
        kept = keep(part, side, padding, torch.device("cpu"))
        scale = side / crop_boxes(part.boxes, 1.0, padding * ROOM)[:, 2]
        for row in range(len(part)):
            if row in kept.unreadable:
                continue
            square = cv2.cvtColor(kept.crops[row].numpy(), cv2.COLOR_RGB2BGR)
            picture = cv2.imencode(f".{kind}", square, [QUALITY[kind], quality])[1]
            one = slice(row, row + 1)
            yield (
                picture.tobytes(),
                Labels(
                    boxes=kept.boxes[one].numpy(),
                    points=kept.points[one].numpy(),
                    weights=kept.weights[one].numpy(),
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
    with whole(path) as part, part.open("wb") as file:
        np.savez(file, pictures=flat, ends=ends, **columns)


def read_packs(paths: Sequence[Path], device: torch.device) -> tuple[Kept, Labels]:
    """All people of several packs, their pictures decoded onto ``device``.

    DataError when there is no pack, or one is damaged.
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
            raise DataError(f"cannot read the pack {path}: {error!r}") from None
        parts.append(labels)
        crops.append(torch.from_numpy(squares).to(device))
    if not parts:
        raise DataError("there are no packs to read")
    labels = _joined(parts)

    def tensor(array: Floats) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    kept = Kept(
        torch.cat(crops), tensor(labels.boxes), tensor(labels.points), tensor(labels.weights)
    )
    return kept, labels


def _decoded(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = cv2.imdecode(picture, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a picture is damaged")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
