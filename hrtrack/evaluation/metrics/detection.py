"""How well a detector finds people: COCO's AP and recall with ignore regions."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...pictures import PictureError, decode_picture
from ...types import Detect

SIZES = ("all", "small", "medium", "large")
"""COCO's area ranges: small is below 32^2, large above 96^2 square pixels."""
CROWD_IDS = 10_000_000


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """One detector on one data set.

    ``ap``, ``ap50`` and ``recall`` (at 100 detections a photo, mean over IoU .50:.95) are keyed by
    size; -1 where there is nobody of that size. ``ms`` is the median time a photo.
    """

    ap: dict[str, float]
    ap50: dict[str, float]
    recall: dict[str, float]
    recall50: dict[str, float]
    people: int
    photos: int
    ms: float


def load_people(annotations: Path) -> dict[str, Any]:
    """A COCO keypoint file as detection ground truth.

    Annotations marked ``pseudo`` come from a teacher, not from a person: they become crowd
    regions, in which detections count neither for nor against.
    """
    try:
        data = json.loads(annotations.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the annotations {annotations}: {error}") from None
    kept = []
    for i, old in enumerate(data["annotations"]):
        crowd = bool(old.get("pseudo") or old.get("iscrowd"))
        x, y, w, h = old["bbox"]
        kept.append(
            {
                "id": CROWD_IDS + i if crowd else i + 1,
                "image_id": old["image_id"],
                "category_id": 1,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": int(crowd),
            }
        )
    return {
        "images": data["images"],
        "annotations": kept,
        "categories": [{"id": 1, "name": "person"}],
    }


def photos(data: dict[str, Any], folder: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Image ids and decoded RGB photos (H, W, 3)."""
    for entry in data["images"]:
        path = folder / entry["file_name"]
        try:
            image = decode_picture(path.read_bytes())
        except OSError:
            raise DataError(f"cannot read the photo {path}") from None
        except PictureError as error:
            raise DataError(f"cannot read the photo {path}: it {error}") from None
        yield entry["id"], image


def evaluate_detectors(
    detectors: Mapping[str, Detect], data: dict[str, Any], folder: Path
) -> dict[str, DetectionResult]:
    """All detectors over the same photos in turn, so that a busy machine is busy for all.

    ``data`` is what `load_people` gives. Every detector sees each photo twice and the quicker
    pass is timed: the first one may build buffers.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in detectors}
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for image_id, image in photos(data, folder):
        for name, detect in detectors.items():
            spent = []
            for _ in range(2):
                start = time.perf_counter()
                boxes, scores = detect(image)
                spent.append(time.perf_counter() - start)
            times[name].append(min(spent))
            for (x0, y0, x1, y1), score in zip(boxes.tolist(), scores.tolist(), strict=True):
                box = [x0, y0, x1 - x0, y1 - y0]
                row = {"image_id": image_id, "category_id": 1, "bbox": box, "score": score}
                rows[name].append(row)
    return {
        name: score_detections(data, rows[name], float(np.median(times[name]) * 1e3))
        for name in detectors
    }


def score_detections(
    data: dict[str, Any], rows: list[dict[str, Any]], ms: float = 0.0
) -> DetectionResult:
    """COCO's box metrics of detections in COCO results form (Lin et al., ECCV 2014)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data
        truth.createIndex()
        # pycocotools fails on an empty result list: one box of score 0 outside every photo.
        blank = {"image_id": data["images"][0]["id"], "category_id": 1, "score": 0.0}
        found = truth.loadRes(rows or [{**blank, "bbox": [-9.0, -9.0, 1.0, 1.0]}])
        judge = COCOeval(truth, found, "bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]  # IoU x recall x class x size x detections
    recall = judge.eval["recall"]  # IoU x class x size x detections

    def mean(values: NDArray[np.float64]) -> float:
        valid = values[values > -1]
        return float(valid.mean()) if len(valid) else -1.0

    people = sum(not annotation["iscrowd"] for annotation in data["annotations"])
    return DetectionResult(
        ap={s: mean(precision[:, :, 0, i, 2]) for i, s in enumerate(SIZES)},
        ap50={s: mean(precision[0, :, 0, i, 2]) for i, s in enumerate(SIZES)},
        recall={s: mean(recall[:, 0, i, 2]) for i, s in enumerate(SIZES)},
        recall50={s: mean(recall[:1, 0, i, 2]) for i, s in enumerate(SIZES)},
        people=people,
        photos=len(data["images"]),
        ms=ms,
    )


def table(results: Mapping[str, DetectionResult]) -> str:
    """Results as a Markdown table: all / medium / large."""

    def sizes(values: dict[str, float]) -> str:
        shown = (values["all"], values["medium"], values["large"])
        return " / ".join("-" if v < 0 else f"{v:.3f}".lstrip("0") for v in shown)

    lines = [
        "| detector | AP50 all / M / L | AP all / M / L | recall@100 all / M / L | ms |",
        "|---|---|---|---|---|",
    ]
    for name, result in results.items():
        lines.append(
            f"| {name} | {sizes(result.ap50)} | {sizes(result.ap)} | {sizes(result.recall)} "
            f"| {result.ms:.1f} |"
        )
    return "\n".join(lines)
