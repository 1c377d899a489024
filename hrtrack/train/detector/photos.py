"""Photos with person boxes, decoded once into one flat file that every worker maps."""

from __future__ import annotations

import json
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from ...configs.detector_schema import SetSection
from ...datasets.coco import picture_size, read_coco_file
from ...datasets.people import Photos
from ...datasets.plausible import Given, require_plausible
from ...errors import DataError
from ...pictures import PictureError, decode_picture
from ...progress import shown
from ...writable import atomic_write

T = TypeVar("T")
PERSON, PADDING, IGNORE = 1, 0, -1
UNREADABLE_MOST = 20


@dataclass(frozen=True, slots=True)
class Photo:
    """One decoded photo: boxes (B, 4) xyxy in its pixels, kinds (B,) PERSON or IGNORE.

    ``image`` (H, W, 3) is read from the disk where it is looked at; ``index`` is its place in the
    store.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    kinds: NDArray[np.int8]
    index: int


class PhotoStore:
    """A folder written by `build_store`.

    ``trust``: boxes of a teacher that scores below are regions to ignore. ``cumulative`` are the
    running sampling weights of the photos, ending at 1.
    """

    def __init__(self, folder: Path, trust: float, repeats: Sequence[float]) -> None:
        self.entries: list[dict[str, Any]] = json.loads((folder / "index.json").read_text())
        self._file = folder / "pixels.bin"
        self.pixels = np.memmap(self._file, dtype=np.uint8, mode="r")
        self.trust = trust
        weights = np.array([repeats[entry["set"]] for entry in self.entries], np.float64)
        self.cumulative = np.cumsum(weights / weights.sum())

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would carry all photos to every worker.
        return {name: value for name, value in self.__dict__.items() if name != "pixels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.pixels = np.memmap(self._file, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Photo:
        rows = np.asarray(self.entries[index]["boxes"], np.float32).reshape(-1, 5)
        kinds = np.where(rows[:, 4] >= self.trust, PERSON, IGNORE)
        return Photo(self.image(index), rows[:, :4], kinds.astype(np.int8), index)

    def image(self, index: int) -> NDArray[np.uint8]:
        """A photo's pixels (H, W, 3) alone."""
        entry = self.entries[index]
        height, width = entry["height"], entry["width"]
        flat = self.pixels[entry["offset"] : entry["offset"] + height * width * 3]
        return flat.reshape(height, width, 3)

    def draw(self, rng: np.random.Generator) -> Photo:
        """A photo by weight."""
        return self[min(int(np.searchsorted(self.cumulative, rng.random())), len(self) - 1)]


def build_store(
    sets: Sequence[SetSection], root: Path, folder: Path, *, quiet: bool = False
) -> None:
    """Decodes all photos of COCO-format sets into ``folder``, at most ``long_side`` pixels long.

    Box rows are x0, y0, x1, y1, score: 1 for a person's label, the teacher's score for a
    ``pseudo`` annotation, -1 for a crowd. Does nothing where the store is already there.

    Raises:
        DataError: annotations or too many photos cannot be read, or boxes are surely wrong.
    """
    # The index goes to its name last, so a store that has one is whole.
    if (folder / "index.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    unreadable: list[str] = []
    offset = 0
    with (folder / "pixels.bin").open("wb") as pixels:
        for number, part in enumerate(sets):
            data = read_coco_file(root / part.annotations, ("images", "annotations"))
            _require_plausible(data, root / part.annotations, root / part.images)
            boxes = _boxes_by_photo(data)
            paths = [root / part.images / photo["file_name"] for photo in data["images"]]
            decoded = zip(data["images"], _decoded(paths, part.long_side), strict=True)
            for photo, (path, (rgb, scale)) in _tracked(decoded, part.images, len(paths), quiet):
                if rgb is None:
                    unreadable.append(str(path))
                    if len(unreadable) > UNREADABLE_MOST:
                        raise DataError(f"too many unreadable photos, the first {unreadable[0]}")
                    continue
                pixels.write(rgb.tobytes())
                rows = boxes[photo["id"]]
                entries.append(
                    {
                        "set": number,
                        "offset": offset,
                        "height": rgb.shape[0],
                        "width": rgb.shape[1],
                        "boxes": [[*(v * scale for v in row[:4]), row[4]] for row in rows],
                    }
                )
                offset += rgb.size
    if not entries:
        raise DataError(f"no photo in {', '.join(part.annotations for part in sets)}")
    with atomic_write(folder / "index.json") as index:
        index.write_text(json.dumps(entries))


def _tracked(items: Iterator[T], images: str, total: int, quiet: bool) -> Iterator[T]:
    """The items, while a bar or lines tell how many photos are decoded."""
    bar = Progress(*Progress.get_default_columns(), console=Console(stderr=True, quiet=quiet))
    with shown(bar):
        task = bar.add_task(f"decoding {images}", total=total)
        for item in items:
            yield item
            bar.advance(task)


Decoded = tuple[NDArray[np.uint8] | None, float]
"""A photo in RGB, None where it cannot be read, and how much it was scaled."""


def _decoded(paths: Sequence[Path], long_side: int) -> Iterator[tuple[Path, Decoded]]:
    """Photos in order, decoded by threads a few at a time ahead."""
    ahead = 4 * (os.cpu_count() or 1)
    with ThreadPoolExecutor() as threads:
        waiting: deque[tuple[Path, Future[Decoded]]] = deque()
        for path in paths:
            waiting.append((path, threads.submit(read_photo, path, long_side)))
            if len(waiting) > ahead:
                first, photo = waiting.popleft()
                yield first, photo.result()
        for first, photo in waiting:
            yield first, photo.result()


def read_photo(path: Path, long_side: int) -> Decoded:
    try:
        image = decode_picture(path.read_bytes())
    except (OSError, PictureError):
        return None, 1.0
    scale = min(1.0, long_side / max(image.shape[:2]))
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(image, np.uint8), scale


def _require_plausible(data: dict[str, Any], annotations: Path, images: Path) -> None:
    """DataError for boxes that are surely no x, y, width, height in pixels of these photos."""
    photos = {photo["id"]: photo for photo in data["images"]}
    boxed = [e for e in data["annotations"] if e.get("bbox") and e.get("image_id") in photos]
    files = [photos[e["image_id"]]["file_name"] for e in boxed]
    sizes = [picture_size(photos[e["image_id"]]) or (np.nan, np.nan) for e in boxed]
    require_plausible(
        Given(
            annotations, [e["id"] for e in boxed], files,
            np.array([e["bbox"] for e in boxed], np.float64).reshape(-1, 4),
            np.array(sizes, np.float64).reshape(-1, 2),
        ),
        Photos(images),
    )  # fmt: skip


def _boxes_by_photo(data: dict[str, Any]) -> dict[int, list[list[float]]]:
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for annotation in data["annotations"]:
        if not annotation.get("bbox"):
            continue
        x, y, w, h = annotation["bbox"]
        score = annotation.get("score") if annotation.get("pseudo") else None
        score = 1.0 if score is None else score
        if annotation.get("iscrowd"):
            score = -1.0
        boxes[annotation["image_id"]].append([x, y, x + w, y + h, score])
    return boxes
