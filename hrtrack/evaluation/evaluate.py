"""`hrtrack eval`: PCKh and OKS AP of one or several networks on the same people.

With detector boxes the official HRNet post-processing decides what a person's score is and
which near-copies go (`metrics.oks`). PCKh then takes, for each labelled person, the found
person whose box overlaps best; without an IoU of at least 0.3 all joints are misses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from .. import geometry
from ..models.network import PoseNetwork
from ..types import Detect, FloatArray
from ..writable import require_file, require_picture
from .labels import Labels, read_labels
from .metrics import oks, pckh
from .predict import Boxes, Protocol, detect, evaluated, predict

FOUND_IOU = 0.3


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One network's accuracy; what the labels cannot support is None.

    PCKh in percent by group, ``mean`` first; ``oks`` in [0, 1]. ``people`` is the number with
    a head size, or of all labelled people where there are none.
    """

    name: str
    people: int
    pckh: dict[str, float | None] | None
    pckh_tenth: float | None
    pckh_interval: tuple[float, float] | None
    oks: oks.OksResult | None

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` writes."""
        run = self.oks
        interval = self.pckh_interval
        return {
            "n_people": self.people,
            "PCKh@0.5": None if self.pckh is None else {k: _2(v) for k, v in self.pckh.items()},
            "PCKh@0.1": None if self.pckh is None else {"mean": _2(self.pckh_tenth)},
            "AP": None if run is None else round(run.ap, 4),
            "AP50": None if run is None else round(run.ap50, 4),
            "AP75": None if run is None else round(run.ap75, 4),
            "AR": None if run is None else round(run.ar, 4),
            "ci95": {
                "PCKh@0.5": None if interval is None else [_2(end) for end in interval],
                "AP": None if run is None else [round(end, 4) for end in run.ap_interval],
            },
        }


def _2(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def evaluate(
    networks: Mapping[str, PoseNetwork],
    annotations: Path,
    images: Path,
    *,
    detector: Detect | None = None,
    protocol: Protocol | None = None,
    share: tuple[float, float] = (0.0, 1.0),
    sigmas: Sequence[float] | None = None,
    worst: Path | None = None,
    skeletons: Path | None = None,
    quiet: bool = False,
) -> list[EvalResult]:
    """Measures every network on the same crops.

    Args:
        networks: by the name their row will have.
        annotations: COCO format, MPII's converted JSON (``gt_valid.mat`` beside it) or the
            original MPII ``.mat``.
        images: the folder that the file names start from, or a zip.
        detector: finds the people; None takes the labelled boxes.
        protocol: how crops are cut and read.
        share: which photos, an interval of [0, 1) as in a training's configuration.
        sigmas: OKS constants of the joints instead of the skeleton's own.
        worst: where to draw the 16 worst people; with several networks the name gets theirs.
        skeletons: likewise typical and worst people as skeletons only, without any photo.
        quiet: no progress bar.

    Raises:
        DataError: labels or photos are missing or of the wrong kind.
        ModelError: a network's joints are not the labels'.
        SinkError: a picture cannot be written; known before anything is measured.
    """
    protocol = protocol or Protocol()
    for picture in (worst, skeletons):
        if picture is not None:
            require_picture(picture)
    labels = read_labels(annotations, images, share)
    readers = evaluated(networks, labels.people.skeleton, protocol)
    if detector is None:
        boxes = Boxes(labels.image, labels.people.boxes, np.ones(len(labels)))
    else:
        boxes = detect(detector, labels, quiet=quiet)
    found = predict(
        readers, boxes, labels.read_photo, len(labels.people.skeleton),
        padding=protocol.padding, border=protocol.border, quiet=quiet,
    )  # fmt: skip
    results = []
    for name, poses in found.items():
        kept, scores = _kept(poses, boxes, labels, protocol, detector is not None)
        matched = _matched(poses, boxes, labels, kept, detector is not None)
        results.append(
            EvalResult(
                name, *_pckh(matched, labels), _oks(poses, scores, boxes, labels, kept, sigmas)
            )
        )
        own = "" if len(found) == 1 else re.sub(r"[^\w.-]+", "_", f"-{name}")
        if worst is not None:
            from .error_gallery import draw_error_gallery

            draw_error_gallery(matched, labels, worst.with_stem(worst.stem + own))
        if skeletons is not None:
            from .skeleton_gallery import draw_skeletons

            draw_skeletons(matched, labels, skeletons.with_stem(skeletons.stem + own))
    return results


def _kept(
    poses: FloatArray, boxes: Boxes, labels: Labels, protocol: Protocol, found: bool
) -> tuple[NDArray[np.int64], FloatArray]:
    """Which poses (M, K, 3) remain after the suppression of copies, and every pose's score."""
    scores = np.asarray(oks.rescore(poses[..., 2], boxes.scores), np.float64)
    if not found:
        return np.arange(len(poses)), scores
    # The official code takes a crop's area for the person's; only its ratio to the distances
    # between near-copies matters.
    areas = geometry.crop_boxes(boxes.boxes, 3 / 4, protocol.padding)[:, 2:].prod(axis=1)
    spread = np.asarray(labels.people.skeleton.sigmas)
    kept: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for index in np.unique(boxes.image):
        here = np.flatnonzero(boxes.image == index)
        kept.append(here[oks.oks_nms(poses[here, :, :2], scores[here], areas[here], spread)])
    return np.concatenate(kept), scores


def _matched(
    poses: FloatArray, boxes: Boxes, labels: Labels, kept: NDArray[np.int64], found: bool
) -> FloatArray:
    """The pose (N, K, 3) of each labelled person; NaN for people nobody found."""
    if not found:
        return poses
    matched = np.full((len(labels), *poses.shape[1:]), np.nan)
    for person, (image, box) in enumerate(zip(labels.image, labels.people.boxes, strict=True)):
        here = kept[boxes.image[kept] == image]
        if not len(here):
            continue
        overlap = geometry.iou(box[None], boxes.boxes[here])[0]
        if overlap.max() >= FOUND_IOU:
            matched[person] = poses[here[overlap.argmax()]]
    return matched


def _pckh(
    matched: FloatArray, labels: Labels
) -> tuple[int, dict[str, float | None] | None, float | None, tuple[float, float] | None]:
    groups = pckh.joint_groups(labels.people.skeleton)
    judged = ~np.isnan(labels.people.heads)
    if not groups or not judged.any():
        return len(labels), None, None, None
    errors = pckh.normalised_errors(
        matched[judged, :, :2], labels.people.keypoints[judged], labels.people.heads[judged]
    )
    errors = np.where(np.isnan(errors), np.inf, errors)
    labelled = labels.labelled[judged]
    return (
        int(judged.sum()),
        pckh.pckh(errors, labelled, groups),
        pckh.pckh(errors, labelled, groups, 0.1)["mean"],
        pckh.bootstrap_mean(errors, labelled, groups["mean"]),
    )


def _oks(
    poses: FloatArray,
    scores: FloatArray,
    boxes: Boxes,
    labels: Labels,
    kept: NDArray[np.int64],
    sigmas: Sequence[float] | None,
) -> oks.OksResult | None:
    if not labels.has_areas:
        return None
    results = [
        {
            "image_id": int(boxes.image[i]) + 1,
            "category_id": 1,
            "keypoints": poses[i].ravel().tolist(),
            "score": float(scores[i]),
        }
        for i in kept
    ]
    return oks.evaluate_oks(_as_coco(labels), results, sigmas or labels.people.skeleton.sigmas)


def _as_coco(labels: Labels) -> dict[str, Any]:
    """The labels as pycocotools wants them; its matching takes the id 0 for "no match"."""
    people = labels.people
    entries: list[dict[str, Any]] = []
    for index, box in enumerate(people.boxes):
        visible = 2.0 * labels.labelled[index][:, None]
        points = np.concatenate([people.keypoints[index], visible], axis=1)
        entries.append(_entry(labels.image[index], box, points, people.areas[index], crowd=0))
    for image, *box in labels.ignored:
        corners = np.asarray(box)
        area = geometry.area(corners[None])[0]
        entries.append(_entry(image, corners, np.zeros((len(people.skeleton), 3)), area, crowd=1))
    return {
        "images": [{"id": index + 1} for index in range(len(labels.files))],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(entries, start=1)],
        "categories": [{"id": 1, "name": "person"}],
    }


def _entry(
    image: float, box: FloatArray, points: FloatArray, area: float, crowd: int
) -> dict[str, Any]:
    return {
        "image_id": int(image) + 1,
        "category_id": 1,
        "iscrowd": crowd,
        "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
        "area": float(area),
        "keypoints": points.ravel().tolist(),
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }


def results_json(results: Sequence[EvalResult]) -> dict[str, Any]:
    """One network's object as it stands, several under their names."""
    if len(results) == 1:
        return results[0].as_json()
    return {result.name: result.as_json() for result in results}


def write_json(results: Sequence[EvalResult], path: Path) -> None:
    """Writes `results_json` to ``path``."""
    require_file(path)
    path.write_text(json.dumps(results_json(results), indent=1) + "\n")


def results_table(results: Sequence[EvalResult], title: str = "") -> Table:
    """The results as a table for the terminal; columns that no row fills are left out."""
    table = Table(title=title or None)
    table.add_column("model")
    table.add_column("people", justify="right")
    groups = next((list(r.pckh) for r in results if r.pckh), [])
    for group in groups:
        table.add_column("PCKh@0.5 mean" if group == "mean" else group, justify="right")
    if groups:
        table.add_column("@0.1", justify="right")
    with_oks = any(result.oks for result in results)
    for column in ("AP", "AP50", "AP75", "AR") if with_oks else ():
        table.add_column(column, justify="right")
    for result in results:
        row = [result.name, str(result.people)]
        for group in groups:
            value = _number((result.pckh or {}).get(group), 1)
            row.append(value + _interval(result.pckh_interval, 1) if group == "mean" else value)
        if groups:
            row.append(_number(result.pckh_tenth, 1))
        if with_oks:
            run = result.oks
            row.append(_number(run.ap if run else None, 3)
                       + _interval(run.ap_interval if run else None, 3))  # fmt: skip
            row += [_number(getattr(run, name, None), 3) for name in ("ap50", "ap75", "ar")]
        table.add_row(*row)
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(ends: tuple[float, float] | None, digits: int) -> str:
    return "" if ends is None else f" [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"
