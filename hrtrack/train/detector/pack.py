"""A detector training's photos, made smaller and packed for a machine that has none of them.

Unpacked into one folder there (docs/gpu_training.md):

    hrtrack train FOLDER/config.yaml data.root=FOLDER [teacher.model=FOLDER/...]
"""

from __future__ import annotations

import json
import logging
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import yaml

from ...configs.detector_schema import DetectorTrainConfig, SetSection
from ...datasets.coco import read_coco_file
from ...errors import ModelError, UsageError
from ...writable import make_folder
from ..pose.data.shards import QUALITY, Kind

LOG = logging.getLogger(__name__)
KEPT = ("pseudo", "score", "iscrowd")
ENTRY_BYTES = 256
"""What a file in an archive costs besides its content, at most."""


def pack_photos(
    config: DetectorTrainConfig,
    output: Path,
    *,
    side: int = 320,
    quality: int = 80,
    kind: Kind = "jpg",
    megabytes: float = 30.0,
) -> Iterator[str]:
    """Packs the photos of the training sets; yields a line on each set and one on all.

    Writes ``output/part_NN.zip``, none larger than ``megabytes`` (of 1e6 bytes): photos, their
    boxes, the configuration and its teacher.

    Args:
        config: of the training.
        output: a folder, in which earlier packs are replaced.
        side: most pixels of a photo's longer side.
        quality: of the pictures, 1 to 100.
        kind: of the pictures.
        megabytes: the limit.

    Raises:
        ModelError: the teacher is missing.
        DataError: a set cannot be read.
        SinkError: the folder cannot be written into.
        UsageError: one file alone is larger than a pack may be.
    """
    cv2.setNumThreads(1)
    if config.teacher is not None and not Path(config.teacher.model).is_file():
        raise ModelError(f"there is no teacher at {config.teacher.model}")
    make_folder(output)
    for old in output.glob("part_*.zip"):
        old.unlink()  # which a set that was larger left
    parts = Parts(output, megabytes)
    sets = []
    for number, one in enumerate(config.data.sets):
        began = time.monotonic()
        name = f"set_{number}"
        data, size = _pack_set(one, Path(config.data.root), name, parts, side, (kind, quality))
        parts.add(f"{name}/boxes.json", json.dumps(data).encode())
        sets.append({**one.model_dump(), "annotations": f"{name}/boxes.json", "images": name})
        took = time.monotonic() - began
        yield f"{one.images}: {len(data['images'])} photos, {size / 1e6:.1f} MB, {took:.0f} s"
    said = config.model_dump(mode="json", exclude_none=True)

    said["data"] = {**said["data"], "root": ".", "sets": sets, "val": None}
    if config.teacher is not None:
        teacher = Path(config.teacher.model)
        parts.add(teacher.name, teacher.read_bytes())
        said["teacher"]["model"] = teacher.name
    parts.add("config.yaml", yaml.safe_dump(said, sort_keys=False).encode())
    parts.close()
    total = sum(path.stat().st_size for path in parts.written) / 1e6
    yield f"{len(parts.written)} parts, {total:.1f} MB"


def _pack_set(
    one: SetSection, root: Path, name: str, parts: Parts, side: int, picture: tuple[Kind, int]
) -> tuple[dict[str, Any], int]:
    """Packs one set's photos; its annotations with boxes in their pixels, and their bytes."""
    kind, quality = picture
    data = read_coco_file(root / one.annotations, ("images", "annotations"))
    by_photo = defaultdict(list)
    for entry in data["annotations"]:
        if entry.get("bbox"):
            by_photo[entry["image_id"]].append(entry)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    size = 0
    for photo in data["images"]:
        image = cv2.imread(str(root / one.images / photo["file_name"]))
        if image is None:
            LOG.warning("left out: %s cannot be read", photo["file_name"])
            continue
        scale = min(1.0, min(side, one.long_side) / max(image.shape[:2]))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        words = [QUALITY[kind], quality]
        coded = cv2.imencode(f".{kind}", image, words)[1].tobytes()
        file_name = f"{len(images)}.{kind}"
        parts.add(f"{name}/{file_name}", coded)
        size += len(coded)
        images.append({"id": photo["id"], "file_name": file_name})
        for entry in by_photo[photo["id"]]:
            box = [round(value * scale, 2) for value in entry["bbox"]]
            said = {key: entry[key] for key in KEPT if key in entry}
            annotations.append({"image_id": photo["id"], "bbox": box, **said})
    return {"images": images, "annotations": annotations}, size


class Parts:
    """Archives that are filled one after the other, none above ``megabytes`` (of 1e6 bytes)."""

    def __init__(self, folder: Path, megabytes: float) -> None:
        self.folder, self.limit = folder, 1e6 * megabytes
        self.written: list[Path] = []
        self._file: zipfile.ZipFile | None = None
        self._size = 0

    def add(self, name: str, content: bytes) -> None:
        """Puts a file into the part at hand, or into a new one where it would be too large."""
        more = len(content) + ENTRY_BYTES
        if more > self.limit:
            raise UsageError(f"{name} alone has {more / 1e6:.1f} MB, more than --megabytes allows")
        if self._file is None or self._size + more > self.limit:
            self.close()
            self.written.append(self.folder / f"part_{len(self.written):02d}.zip")
            self._file, self._size = zipfile.ZipFile(self.written[-1], "w"), 0
        packed = zipfile.ZIP_DEFLATED if name.endswith((".json", ".yaml")) else zipfile.ZIP_STORED
        self._file.writestr(name, content, packed)
        self._size += more

    def close(self) -> None:
        """Ends the part at hand."""
        if self._file is not None:
            self._file.close()
