"""A COCO file as it comes from labelling tools: read, and checked before anyone relies on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError

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
    for number, entry in enumerate(content["annotations"]):
        if entry.get("id") is None or isinstance(entry["id"], str):
            entry["id"] = -1 - number  # nothing refers to an annotation
        _check_annotation(entry, path)
    return dict(content)


def _check_annotation(entry: dict[str, Any], path: Path) -> None:
    def wrong(key: str, expected: str) -> DataError:
        return DataError(
            f"{path}: annotation {entry['id']} has {shown(entry.get(key))} for its '{key}', "
            f"expected {expected}"
        )

    if not whole(entry["id"]) or abs(entry["id"]) >= 1 << 63:
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


def whole(value: Any) -> bool:
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
