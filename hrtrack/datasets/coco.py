"""COCO person keypoints, or any set in that format with its own joints, read and checked.

Beyond the official fields these are understood, all optional: in the category ``flip_pairs``
(pairs of joint names, or of 1-based numbers as in ``skeleton``) and ``sigmas``; in annotations
``pseudo``, ``score``, ``pseudo_keypoints`` (0-based numbers), and ``neck`` and ``head_top``
([x, y, v]) for PCKh.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.pose_schema import SetSection
from ..errors import DataError, ModelError
from ..skeleton import BY_COUNT, COCO17, IN_FILE, Skeleton, by_name
from .people import People, Photos, in_share, segment_head_sizes
from .plausible import Given, require_plausible

LOG = logging.getLogger(__name__)
DEFAULT_SIGMA = 0.079
SIDE = re.compile(r"left|right|(?<![a-z0-9])[lr](?![a-z0-9])", re.IGNORECASE)
COCO_AREA_SHARE = 0.53
"""Mean share of a person's box that the person covers in COCO."""

SMALLEST = 2.0
"""Pixels; in a smaller box nobody can be seen."""
THINNEST = 0.25
"""Boxes around joints in a line are widened to this share of their longer side."""


def read_coco(spec: SetSection, annotations: Path, images: Path) -> People:
    """The people of a COCO file; `people_of` says which, and what it raises."""
    return people_of(read_coco_file(annotations), spec, annotations, images)


def people_of(content: dict[str, Any], spec: SetSection, annotations: Path, images: Path) -> People:
    """The people of a COCO file's checked ``content`` that have labelled joints and are no crowd.

    Raises:
        DataError: a file is missing or damaged, joints do not match, labels are surely wrong
            (`require_plausible`), or nobody is left.
    """
    skeleton = skeleton_of(content, annotations)
    category = _category(content, annotations)
    own = category.get("id")
    everybody = [e for e in content["annotations"] if e.get("category_id", own) == own]
    if content["annotations"] and not everybody:
        others = sorted({shown(e["category_id"]) for e in content["annotations"]})
        raise DataError(
            f"{annotations}: its keypoint category {shown(category.get('name'))} has the id "
            f"{shown(own)}, but the annotations are of category {', '.join(others[:5])}"
        )
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
    require_plausible(_given(kept, skeleton, content["images"], names, annotations), photos)
    labelled = len(kept)
    kept = [(row, e) for row, e in kept if max(_sides(_box(e, row))) >= SMALLEST]
    if len(kept) < labelled:
        LOG.warning(
            "%s: left out %d of %d people, whose boxes are smaller than %g pixels; "
            "without a bbox it takes two joints to make one",
            annotations, labelled - len(kept), labelled, SMALLEST,
        )  # fmt: skip
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
        ids=np.array([e["id"] for e in entries], np.int64),
        boxes=boxes,
        areas=np.array(areas, np.float32),
        keypoints=joints[..., :2],
        weights=joints[..., 2],
        heads=segment_head_sizes(neck, top).astype(np.float32),
        repeats=np.full(len(kept), spec.repeat, np.int32),
    )


def _given(
    kept: Sequence[tuple[NDArray[np.float32], dict[str, Any]]],
    skeleton: Skeleton,
    images: Sequence[dict[str, Any]],
    names: dict[Any, str],
    path: Path,
) -> Given:
    """What the file says of the people who are left, unchanged."""
    unknown = (np.nan, np.nan)
    sizes = {image["id"]: picture_size(image) or unknown for image in images}
    rows = np.array([row for row, _ in kept], np.float64).reshape(-1, len(skeleton), 3)
    return Given(
        path=path,
        ids=[entry["id"] for _, entry in kept],
        files=[names[entry["image_id"]] for _, entry in kept],
        boxes=np.array([e.get("bbox") or unknown * 2 for _, e in kept], np.float64).reshape(-1, 4),
        sizes=np.array([sizes[e["image_id"]] for _, e in kept], np.float64).reshape(-1, 2),
        names=skeleton.joints,
        points=rows[..., :2],
        labelled=rows[..., 2] > 0,
    )


def skeleton_of(content: dict[str, Any], path: Path) -> Skeleton:
    """The keypoint set that a COCO file's person category describes, or else its first one."""
    category = _category(content, path)
    names = tuple(category["keypoints"])
    if names == COCO17.joints:
        return COCO17
    if category.get("sigmas") is None and category.get("flip_pairs") is None:
        for name in BY_COUNT.get(len(names), ()):
            if name in IN_FILE and by_name(name).joints == names:
                return by_name(name)
    try:
        pairs = category.get("flip_pairs")
        flips = _pairs_by_name(names) if pairs is None else _each_once(names, pairs)
        return Skeleton(
            name=str(category.get("skeleton_name") or category.get("name") or "custom"),
            joints=names,
            limbs=_pairs(names, category.get("skeleton") or [], "skeleton"),
            flip_pairs=flips,
            sigmas=_sigmas(names, category.get("sigmas") or [DEFAULT_SIGMA] * len(names)),
        )
    except (DataError, ModelError) as error:
        raise DataError(f"{path}: its keypoint category does not fit together: {error}") from None


def _category(content: dict[str, Any], path: Path) -> dict[str, Any]:
    found = [category for category in content["categories"] if category.get("keypoints")]
    if not found:
        raise DataError(f"{path}: no category has 'keypoints'; boxes alone cannot train a pose")
    chosen: dict[str, Any] = next((c for c in found if c.get("name") == "person"), found[0])
    names = chosen["keypoints"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{path}: a category's 'keypoints' is {shown(names)}, expected a list of joints' names"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two joints are called '{twice}'")
    return chosen


def _pairs(names: tuple[str, ...], pairs: Any, key: str) -> tuple[tuple[int, int], ...]:
    """Pairs of joints from their names or their numbers from 1."""
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise DataError(f"'{key}' is {shown(pairs)}, expected a list of pairs of joints")
    return tuple((_joint(names, a, key), _joint(names, b, key)) for a, b in pairs)


def _joint(names: tuple[str, ...], joint: Any, key: str) -> int:
    if isinstance(joint, str) and joint in names:
        return names.index(joint)
    if whole_number(joint) and 1 <= joint <= len(names):
        return int(joint) - 1
    raise DataError(
        f"'{key}' names the joint {shown(joint)}; there are {', '.join(names)}, "
        f"or 1 to {len(names)}"
    )


def _each_once(names: tuple[str, ...], said: Any) -> tuple[tuple[int, int], ...]:
    pairs = _pairs(names, said, "flip_pairs")
    # Said in both directions, or of a joint in the middle, is the same pair or none.
    pairs = tuple({frozenset(pair): pair for pair in pairs if pair[0] != pair[1]}.values())
    joints = [joint for pair in pairs for joint in pair]
    twice = next((joint for joint in joints if joints.count(joint) > 1), None)
    if twice is not None:
        raise DataError(f"'flip_pairs' has the joint '{names[twice]}' more than once")
    return pairs


def _sigmas(names: tuple[str, ...], sigmas: Any) -> tuple[float, ...]:
    numbers = isinstance(sigmas, list) and all(isinstance(s, int | float) for s in sigmas)
    if not numbers or not all(0 < s < math.inf for s in sigmas):
        raise DataError(f"'sigmas' is {shown(sigmas)}, expected {len(names)} numbers above 0")
    return tuple(float(sigma) for sigma in sigmas)


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
) -> NDArray[np.float32] | None:
    """Joints (K, 3) as x, y, weight; None for crowds and for people who are to be left out."""
    flat = entry.get("keypoints")
    if entry.get("iscrowd") or not flat:
        return None
    if len(flat) != 3 * len(skeleton):
        raise DataError(
            f"{path}: annotation {entry.get('id')} has {len(flat)} keypoint numbers; "
            f"{len(skeleton)} joints need {3 * len(skeleton)}"
        )
    pseudo, score = bool(entry.get("pseudo")), entry.get("score")
    if pseudo and (spec.pseudo_weight == 0 or (1.0 if score is None else score) < spec.min_score):
        return None
    row = np.array(flat, np.float32).reshape(-1, 3)
    row[:, 2] = (row[:, 2] > 0) * spec.weight
    if pseudo:
        row[:, 2] *= spec.pseudo_weight
    else:
        row[entry.get("pseudo_keypoints") or [], 2] *= spec.pseudo_weight
    return row


def _box(entry: dict[str, Any], row: NDArray[np.float32]) -> list[float]:
    """x0, y0, x1, y1; around the labelled joints where there is no box."""
    box = entry.get("bbox")
    if box and box[2] > 0 and box[3] > 0:
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    points = row[row[:, 2] > 0, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    half = np.maximum(half, THINNEST * half.max())
    return [*(middle - half), *(middle + half)]


def _sides(box: list[float]) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


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


KEYS = ("images", "annotations", "categories")
LARGEST = 1e9
"""Pixels; no picture has more on a side, and not-a-number is not below it."""


def read_json(path: Path) -> Any:
    """What an annotation file holds; DataError when it is missing, unreadable or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"no such annotation file: {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the annotations {path}: {error}") from None


def read_coco_file(path: Path, keys: Sequence[str] = KEYS) -> dict[str, Any]:
    """A COCO file whose entries are what `check_coco` asks for; DataError else."""
    return check_coco(read_json(path), path, keys)


def check_coco(content: Any, path: Path, keys: Sequence[str] = KEYS) -> dict[str, Any]:
    """``content`` with lists under ``keys``, whose objects' fields have the right kinds.

    Annotations without an id get one, below 0.

    Raises:
        DataError: one line that names the file and the first entry that is wrong.
    """
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path} is not in COCO format: it has no '{missing[0]}'")
    for key in keys:
        if not isinstance(content[key], list):
            raise DataError(f"{path}: '{key}' is {shown(content[key])}, expected a list")
        for number, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise DataError(
                    f"{path}: entry {number} of '{key}' is {shown(entry)}, expected an object"
                )
    for number, image in enumerate(content["images"]):
        for key, kinds in (("id", (int, float, str)), ("file_name", (str,))):
            if key not in image:
                raise DataError(f"{path}: entry {number} of 'images' has no '{key}'")
            if not isinstance(image[key], kinds) or image[key] == "":
                raise DataError(
                    f"{path}: entry {number} of 'images' has the {key} {shown(image[key])}"
                )
    _join_whole_bodies(content, path)
    for number, entry in enumerate(content["annotations"]):
        if entry.get("id") is None or isinstance(entry["id"], str):
            entry["id"] = -1 - number  # nothing refers to an annotation
        _check_annotation(entry, path)
    return dict(content)


PARTS = {"foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
"""COCO-WholeBody's lists beside ``keypoints``, and how many joints each has."""


def _join_whole_bodies(content: dict[str, Any], path: Path) -> None:
    """Makes COCO-WholeBody's five lists of joints one, of 133, in place.

    Its category still names the 17 of COCO only (Jin et al., ECCV 2020).
    """
    entries = [entry for entry in content["annotations"] if any(part in entry for part in PARTS)]
    people = [c for c in content.get("categories", ()) if c.get("keypoints") == [*COCO17.joints]]
    if not entries or not people:
        return
    for category in people:
        category["keypoints"] = [*by_name("wholebody133").joints]
    ids = [category.get("id") for category in people]
    for entry in content["annotations"]:
        if entry.get("category_id", ids[0]) not in ids or not entry.get("keypoints"):
            continue
        lists = [entry["keypoints"]]
        for part, count in PARTS.items():
            values = entry.get(part) or [0] * 3 * count
            if _numbers(values) != 3 * count:
                raise DataError(
                    f"{path}: annotation {entry.get('id')} has {shown(values)} for its '{part}', "
                    f"expected x, y and a flag for each of {count} joints"
                )
            lists.append(values)
        if isinstance(entry["keypoints"], list):
            entry["keypoints"] = [value for values in lists for value in values]


def _check_annotation(entry: dict[str, Any], path: Path) -> None:
    def wrong(key: str, expected: str) -> DataError:
        return DataError(
            f"{path}: annotation {entry['id']} has {shown(entry.get(key))} for its '{key}', "
            f"expected {expected}"
        )

    if not whole_number(entry["id"]) or abs(entry["id"]) >= 1 << 63:
        raise wrong("id", "a whole number")
    if not isinstance(entry.get("image_id"), int | float | str):
        raise wrong("image_id", "the id of one of the 'images'")
    if entry.get("area") is not None and not (_finite(entry["area"]) and entry["area"] >= 0):
        raise wrong("area", "a number of square pixels")
    if entry.get("score") is not None and not _finite(entry["score"]):
        raise wrong("score", "a number")
    if entry.get("bbox") and _numbers(entry["bbox"]) != 4:
        raise wrong("bbox", "x, y, width, height")
    if entry.get("keypoints") and _numbers(entry["keypoints"]) is None:
        raise wrong("keypoints", "x, y and a flag for each joint, in one list of numbers")
    for key in ("neck", "head_top"):
        if entry.get(key) and _numbers(entry[key]) != 3:
            raise wrong(key, "x, y and a flag")
    filled = entry.get("pseudo_keypoints")
    count = len(entry.get("keypoints") or ()) // 3
    if filled is not None and not (
        isinstance(filled, list)
        and all(type(joint) is int and 0 <= joint < count for joint in filled)
    ):
        raise wrong("pseudo_keypoints", f"numbers of joints, from 0 to {count - 1}")


def picture_size(image: dict[str, Any]) -> tuple[float, float] | None:
    """Width and height that the file gives for a picture; None where it gives none."""
    size = image.get("width"), image.get("height")
    known = all(isinstance(side, int | float) and 0 < side < LARGEST for side in size)
    return (float(image["width"]), float(image["height"])) if known else None


def _numbers(values: Any) -> int | None:
    """How many sensible numbers a list holds; None where it holds anything else."""
    if not isinstance(values, list):
        return None
    try:
        array = np.array(values)
    except ValueError:
        return None
    fine = array.ndim == 1 and array.dtype.kind in "iuf" and (np.abs(array) < LARGEST).all()
    return len(values) if fine else None


def whole_number(value: Any) -> bool:
    """Whether a value is a whole number, be it written 7.0."""
    if isinstance(value, float):  # tables write 7.0 for 7
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < LARGEST**2


def shown(value: Any) -> str:
    """A value as the file writes it, cut short."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
