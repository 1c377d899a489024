"""Labelled boxes replaced by those of a detector that sees the same person.

A box around labelled joints is off by the labels' errors and by how far a body reaches beyond its
joints. For training only: what is measured is measured on the labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from ..errors import DataError
from ..geometry import iou
from ..types import Detect, FloatArray
from ..writable import atomic_write, require_file
from .coco import read_coco_file


def refine_boxes(
    annotations: Path, images: Path, detect: Detect, output: Path, *, least: float, quiet: bool
) -> tuple[int, int]:
    """Writes ``output``: COCO annotations in which the detector's boxes took the labels' place.

    A box changes where the detector has one that overlaps it by ``least`` (intersection over
    union) or more; every other box, and all that is ``pseudo`` or a crowd, stays as it is.

    Returns:
        How many boxes changed, and how many could have.

    Raises:
        DataError: the annotations or a photo cannot be read.
        SinkError: the output cannot be written.
    """
    data = read_coco_file(annotations, ("images", "annotations"))
    require_file(output)
    labelled: dict[int, list[dict[str, Any]]] = {}
    for entry in data["annotations"]:
        if entry.get("bbox") and not entry.get("pseudo") and not entry.get("iscrowd"):
            labelled.setdefault(entry["image_id"], []).append(entry)
    changed = 0
    for photo in track(data["images"], "photos", console=Console(stderr=True), disable=quiet):
        people = labelled.get(photo["id"])
        if not people:
            continue
        image = cv2.imread(str(images / photo["file_name"]))
        if image is None:
            raise DataError(f"cannot read the photo {images / photo['file_name']}")
        found, _ = detect(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
        if len(found):
            changed += redraw(people, found, least)
    with atomic_write(output) as part:
        part.write_text(json.dumps(data))
    return changed, sum(map(len, labelled.values()))


def redraw(people: list[dict[str, Any]], found_N4: FloatArray, least: float) -> int:
    """Gives each annotation the box (x0, y0, x1, y1) that overlaps its own most; how many did."""
    boxes = np.array([entry["bbox"] for entry in people], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    overlap = iou(boxes, found_N4.astype(np.float32))
    done = 0
    # The surest pair first, so that two people are never given one box.
    while overlap.size and overlap.max() >= least:
        person, best = np.unravel_index(int(overlap.argmax()), overlap.shape)
        x0, y0, x1, y1 = found_N4[best].tolist()
        people[person]["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        overlap[person], overlap[:, best] = -1, -1
        done += 1
    return done
