"""Labelled boxes redrawn by a detector that sees the same person.

    python -m scripts.refine_boxes ANNOTATIONS IMAGES DETECTOR OUTPUT

A box around labelled joints is off by the labels' errors and by how far a body reaches beyond its
joints. Where the detector has a box that overlaps it by ``--iou`` or more, that one takes its
place in OUTPUT; every other box, and all that is ``pseudo`` or a crowd, stays as it is. For
training only: what is measured is measured on the labels.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from hrtrack.cli import run
from hrtrack.datasets.coco import read_coco_file
from hrtrack.errors import DataError
from hrtrack.geometry import iou
from hrtrack.tracker.inference.open import open_detector
from hrtrack.writable import atomic_write


@click.command()
@click.argument("annotations", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("detector")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--iou", "least", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.4, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(
    annotations: Path,
    images: Path,
    detector: str,
    output: Path,
    least: float,
    min_score: float,
    threads: int,
) -> None:
    """Write OUTPUT: ANNOTATIONS with the boxes of labelled people redrawn by DETECTOR."""
    detect = open_detector(detector, threads=threads, min_score=min_score)
    data = read_coco_file(annotations, ("images", "annotations"))
    labelled: dict[int, list[dict]] = {}
    for entry in data["annotations"]:
        if entry.get("bbox") and not entry.get("pseudo") and not entry.get("iscrowd"):
            labelled.setdefault(entry["image_id"], []).append(entry)
    redrawn = 0
    for photo in track(data["images"], "looking", console=Console(stderr=True)):
        people = labelled.get(photo["id"])
        if not people:
            continue
        image = cv2.imread(str(images / photo["file_name"]))
        if image is None:
            raise DataError(f"cannot read the photo {images / photo['file_name']}")
        found, _ = detect(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if len(found):
            redrawn += redraw(people, found, least)
    with atomic_write(output) as part:
        part.write_text(json.dumps(data))
    total = sum(map(len, labelled.values()))
    click.echo(f"{output}: {redrawn} of {total} labelled boxes redrawn")


def redraw(people: list[dict], found_N4: np.ndarray, least: float) -> int:
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


if __name__ == "__main__":
    run(main, "refine_boxes")
