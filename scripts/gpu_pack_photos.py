"""Packs a detector training's photos for a borrowed GPU; needs photos, but no GPU.

    python scripts/gpu_pack_photos.py CONFIG OUTPUT [--side 320] [--quality 80] [--format jpg]
        [KEY=VALUE ...]

CONFIG is a name or file as for `hrtrack train`, KEY=VALUE changes it. Writes
OUTPUT/part_NN.zip, none above --megabytes: photos of at most --side pixels as
JPEG or WebP, their boxes, and the configuration (docs/gpu_training.md). Unpacked into one folder,
there:

    python -m hrtrack train FOLDER/config.yaml data.root=FOLDER [teacher.model=FOLDER/...]
"""

import argparse
import json
import sys
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hrtrack.configs.detector_schema import SetSection, load_detector_config
from hrtrack.datasets.coco import read_coco_file
from hrtrack.errors import HrtrackError, ModelError, UsageError
from hrtrack.train.pose.data.shards import QUALITY

KEPT = ("pseudo", "score", "iscrowd")
ENTRY_BYTES = 256
"""What a file in an archive costs besides its content, at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("output", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--quality", type=int, default=80)
    parser.add_argument("--format", choices=QUALITY, default="jpg")
    parser.add_argument("--megabytes", type=float, default=30.0)
    options = parser.parse_intermixed_args()
    cv2.setNumThreads(1)
    try:
        pack(options)
    except HrtrackError as error:
        sys.exit(str(error))


def pack(options: argparse.Namespace) -> None:
    """Writes everything."""
    config = load_detector_config(options.config, options.overrides)
    if config.teacher is not None and not Path(config.teacher.model).is_file():
        raise ModelError(f"there is no teacher at {config.teacher.model}")
    options.output.mkdir(parents=True, exist_ok=True)
    for old in options.output.glob("part_*.zip"):
        old.unlink()  # which a set that was larger left
    parts = Parts(options.output, options.megabytes)
    sets = []
    for number, one in enumerate(config.data.sets):
        began = time.monotonic()
        name = f"set_{number}"
        data, size = pack_set(one, Path(config.data.root), name, parts, options)
        parts.add(f"{name}/boxes.json", json.dumps(data).encode())
        sets.append({**one.model_dump(), "annotations": f"{name}/boxes.json", "images": name})
        took = time.monotonic() - began
        print(f"{one.images}: {len(data['images'])} photos, {size / 1e6:.1f} MB, {took:.0f} s")
    said = config.model_dump(mode="json", exclude_none=True)

    said["data"] = {**said["data"], "root": ".", "sets": sets, "val": None}
    if config.teacher is not None:
        teacher = Path(config.teacher.model)
        parts.add(teacher.name, teacher.read_bytes())
        said["teacher"]["model"] = teacher.name
    parts.add("config.yaml", yaml.safe_dump(said, sort_keys=False).encode())
    parts.close()
    total = sum(path.stat().st_size for path in parts.written) / 1e6
    print(f"{len(parts.written)} parts, {total:.1f} MB")


def pack_set(
    one: SetSection, root: Path, name: str, parts: "Parts", options: argparse.Namespace
) -> tuple[dict[str, Any], int]:
    """Packs one set's photos; its annotations with boxes in their pixels, and their bytes."""
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
            print(f"left out: {photo['file_name']} cannot be read", file=sys.stderr)
            continue
        scale = min(1.0, min(options.side, one.long_side) / max(image.shape[:2]))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        words = [QUALITY[options.format], options.quality]
        picture = cv2.imencode(f".{options.format}", image, words)[1].tobytes()
        file_name = f"{len(images)}.{options.format}"
        parts.add(f"{name}/{file_name}", picture)
        size += len(picture)
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


if __name__ == "__main__":
    main()
