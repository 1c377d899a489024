"""COCO person keypoints, or any set in that format with its own joints.

Beyond the official fields these are understood, all optional: in the category ``flip_pairs``
(pairs of joint names, or of 1-based numbers as in ``skeleton``) and ``sigmas``; in annotations
``pseudo``, ``score``, ``pseudo_keypoints`` (0-based numbers), and ``neck`` and ``head_top``
([x, y, v]) for PCKh.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.schema import SetSection
from ...errors import DataError, ModelError
from ...skeleton import COCO17, Skeleton
from ..metrics.pckh import segment_head_sizes
from .people import People, in_share
from .photos import Photos

DEFAULT_SIGMA = 0.079
SIDE = re.compile(r"left|right|(?<![a-z0-9])[lr](?![a-z0-9])", re.IGNORECASE)
COCO_AREA_SHARE = 0.53
"""Mean share of a person's box that the person covers in COCO."""


def read_coco(spec: SetSection, annotations: Path, images: Path) -> People:
    """The people of a COCO file that have labelled joints and are no crowd.

    Raises:
        DataError: a file is missing or damaged, joints do not match, or nobody is left.
    """
    content = _content(annotations)
    skeleton = skeleton_of(content, annotations)
    own = _category(content, annotations).get("id")
    everybody = [e for e in content["annotations"] if e.get("category_id", own) == own]
    photos = Photos(images)
    names = {image["id"]: str(image["file_name"]) for image in content["images"]}
    rows = [_row(entry, spec, skeleton, annotations) for entry in everybody]
    kept = [
        (row, entry)
        for row, entry in zip(rows, everybody, strict=True)
        if row is not None
        and int((row[:, 2] > 0).sum()) >= spec.min_joints
        and in_share(_name(names, entry, annotations), spec.share)
    ]
    if not kept:
        raise DataError(
            f"{annotations} has nobody to train on: {len(rows)} annotations, none with "
            f"{spec.min_joints} or more labelled joints that its set allows"
        )
    _require_photos(photos, [names[entry["image_id"]] for _, entry in kept])
    entries = [entry for _, entry in kept]
    joints = np.stack([row for row, _ in kept])
    boxes = np.array([_box(e, row) for row, e in kept], np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = [
        entry.get("area") or COCO_AREA_SHARE * side.prod()
        for entry, side in zip(entries, sides, strict=True)
    ]
    neck, top = (
        np.array([e.get(name) or (0, 0, 0) for e in entries], np.float32)
        for name in ("neck", "head_top")
    )
    return People(
        skeleton=skeleton,
        sources=(photos,),
        source=np.zeros(len(kept), np.int32),
        files=tuple(names[e["image_id"]] for e in entries),
        ids=np.array([e.get("id", i) for i, e in enumerate(entries)], np.int64),
        boxes=boxes,
        areas=np.array(areas, np.float32),
        keypoints=joints[..., :2],
        weights=joints[..., 2],
        heads=segment_head_sizes(neck, top).astype(np.float32),
        repeats=np.full(len(kept), spec.repeat, np.int32),
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no such annotation file: {path}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the annotations {path}: {error}") from None
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise DataError(f"{path} is not in COCO format: it has no '{missing[0]}'")
    return dict(content)


def skeleton_of(content: dict[str, Any], path: Path) -> Skeleton:
    """The keypoint set that a COCO file's person category describes, or else its first one."""
    category = _category(content, path)
    names = tuple(str(name) for name in category["keypoints"])
    if names == COCO17.joints:
        return COCO17
    limbs = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton", ()))
    sigmas = category.get("sigmas") or [DEFAULT_SIGMA] * len(names)
    pairs = category.get("flip_pairs")
    try:
        flips = _pairs_by_name(names) if pairs is None else tuple(_pair(names, p) for p in pairs)
        return Skeleton(
            name=str(category.get("skeleton_name") or category.get("name") or "custom"),
            joints=names,
            limbs=limbs,
            flip_pairs=flips,
            sigmas=tuple(float(sigma) for sigma in sigmas),
        )
    except (ValueError, TypeError, ModelError) as error:
        raise DataError(f"{path}: its keypoint category does not fit together: {error}") from None


def _category(content: dict[str, Any], path: Path) -> dict[str, Any]:
    found = [category for category in content["categories"] if category.get("keypoints")]
    if not found:
        raise DataError(f"{path}: no category has 'keypoints'; boxes alone cannot train a pose")
    return next((c for c in found if c.get("name") == "person"), found[0])


def _pair(names: tuple[str, ...], pair: Any) -> tuple[int, int]:
    a, b = (names.index(p) if isinstance(p, str) else int(p) - 1 for p in pair)
    return a, b


def _pairs_by_name(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Joints that are called the same but for ``left`` and ``right``, or ``l`` and ``r`` apart."""
    sides = [_sided(name) for name in names]
    return tuple(
        (left, sides.index((stem, "r")))
        for left, (stem, side) in enumerate(sides)
        if side == "l" and (stem, "r") in sides
    )


def _sided(name: str) -> tuple[str, str]:
    """A joint's name without its side, and the side: l, r or nothing."""
    found = SIDE.search(name)
    if found is None:
        return name.lower(), ""
    return f"{name[: found.start()]}*{name[found.end() :]}".lower(), found[0][0].lower()


def _row(
    entry: dict[str, Any], spec: SetSection, skeleton: Skeleton, path: Path
) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """Joints (K, 3) as x, y, weight; None for crowds and for people who are to be left out."""
    flat = entry.get("keypoints")
    if entry.get("iscrowd") or not flat:
        return None
    if len(flat) != 3 * len(skeleton):
        raise DataError(
            f"{path}: annotation {entry.get('id')} has {len(flat)} keypoint numbers; "
            f"{len(skeleton)} joints need {3 * len(skeleton)}"
        )
    pseudo = bool(entry.get("pseudo"))
    if pseudo and (spec.pseudo_weight == 0 or entry.get("score", 1.0) < spec.min_score):
        return None
    row = np.array(flat, np.float32).reshape(-1, 3)
    row[:, 2] = (row[:, 2] > 0) * spec.weight
    if pseudo:
        row[:, 2] *= spec.pseudo_weight
    else:
        row[entry.get("pseudo_keypoints", []), 2] *= spec.pseudo_weight
    return row


def _box(entry: dict[str, Any], row: np.ndarray[Any, np.dtype[np.float32]]) -> list[float]:
    """x0, y0, x1, y1; around the labelled joints where there is no box."""
    box = entry.get("bbox")
    if box and box[2] > 0 and box[3] > 0:
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    points = row[row[:, 2] > 0, :2]
    return [*points.min(axis=0), *points.max(axis=0)]


def _name(names: dict[Any, str], entry: dict[str, Any], path: Path) -> str:
    try:
        return names[entry["image_id"]]
    except KeyError:
        raise DataError(
            f"{path}: annotation {entry.get('id')} belongs to no image of the file"
        ) from None


def _require_photos(photos: Photos, names: list[str]) -> None:
    """DataError when not one of the first photos is there: most likely a wrong folder."""
    first = list(dict.fromkeys(names))[:50]
    if not any(photos.has(name) for name in first):
        raise DataError(
            f"{photos.where} holds none of the annotated photos, the first of which is "
            f"'{first[0]}': wrong folder?"
        )
