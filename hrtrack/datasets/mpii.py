"""MPII Human Pose: the official HRNet code's converted JSON, or the original ``.mat``.

Boxes are made so that a crop padded by 1.25 is the official one: MPII's ``scale`` is a person's
height in units of 200 px and ``center`` lies near the middle of the body; the official code
moves it down by 15 ``scale`` and takes a square of 250 ``scale``. MPII counts pixels from 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.pose_schema import SetSection
from ..errors import DataError
from ..skeleton import MPII16
from .people import People, Photos, in_share, mpii_head_sizes
from .plausible import Given, require_plausible

PIXELS_PER_SCALE = 200.0
DOWN_PER_SCALE = 15.0
JOINTS = len(MPII16)
HEADS_FILE = "gt_valid.mat"
Row = tuple[str, NDArray[np.float32], float, NDArray[np.float32], float]
"""File, centre (2,), scale, joints (16, 3) as x, y, visible, head size; all counted from 0."""


def read_mpii(spec: SetSection, annotations: Path, images: Path) -> People:
    """The people of MPII's training images (the only ones with public joints).

    A JSON named ``valid.json`` finds head sizes in ``gt_valid.mat`` beside it, as the official
    evaluation does; the original ``.mat`` holds them itself.

    Raises:
        DataError: a file is missing, damaged or of another layout, labels are surely wrong
            (`require_plausible`), or nobody is left.
    """
    if not annotations.is_file():
        raise DataError(f"no such annotation file: {annotations}")
    rows = _from_mat(annotations) if annotations.suffix == ".mat" else _from_json(annotations)
    rows = [
        row
        for row in rows
        if int((row[3][:, 2] > 0).sum()) >= spec.min_joints and in_share(row[0], spec.share)
    ]
    if not rows:
        raise DataError(f"{annotations} has nobody with labelled joints in the share {spec.share}")
    photos = Photos(images)
    if not any(photos.has(row[0]) for row in rows[:50]):
        raise DataError(
            f"{photos.where} holds none of the annotated photos, the first of which is "
            f"'{rows[0][0]}': wrong folder?"
        )
    joints = np.stack([row[3] for row in rows])
    nothing = np.full((len(rows), 4), np.nan)
    require_plausible(
        Given(
            annotations, range(len(rows)), [row[0] for row in rows], nothing, nothing[:, :2],
            MPII16.joints, joints[..., :2].astype(np.float64), joints[..., 2] > 0,
        ),
        photos,
    )  # fmt: skip
    centres = np.stack([row[1] for row in rows])
    scales = np.array([row[2] for row in rows], np.float32)
    centres[:, 1] += DOWN_PER_SCALE * scales
    half = PIXELS_PER_SCALE / 2 * scales[:, None]
    return People(
        skeleton=MPII16,
        sources=(photos,),
        source=np.zeros(len(rows), np.int32),
        files=tuple(row[0] for row in rows),
        ids=np.arange(len(rows), dtype=np.int64),
        boxes=np.concatenate([centres - half, centres + half], axis=1).astype(np.float32),
        areas=((2 * half[:, 0]) ** 2).astype(np.float32),
        keypoints=joints[..., :2],
        weights=(joints[..., 2] > 0) * np.float32(spec.weight),
        heads=np.array([row[4] for row in rows], np.float32),
        repeats=np.full(len(rows), spec.repeat, np.int32),
    )


def _from_json(path: Path) -> list[Row]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        rows = []
        for entry in entries:
            joints = np.zeros((JOINTS, 3), np.float32)
            if "joints" in entry:
                joints[:, :2] = np.asarray(entry["joints"], np.float32) - 1
                joints[:, 2] = np.asarray(entry["joints_vis"], np.float32)
            centre = np.asarray(entry["center"], np.float32) - 1
            rows.append((str(entry["image"]), centre, float(entry["scale"]), joints, np.nan))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is not the official converted MPII JSON "
            f"(a list of joints, joints_vis, image, scale, center): {error!r}"
        ) from None
    heads = path.with_name(HEADS_FILE)
    if path.stem == "valid" and heads.is_file():
        sizes = _json_heads(heads, len(rows))
        rows = [(*row[:4], float(size)) for row, size in zip(rows, sizes, strict=True)]
    return rows


def _json_heads(path: Path, count: int) -> NDArray[np.floating]:
    boxes = _load_mat(path).get("headboxes_src")
    if boxes is None or np.shape(boxes) != (2, 2, count):
        raise DataError(
            f"{path}: expected head boxes (2, 2, {count}) for the {count} people of valid.json, "
            f"found {None if boxes is None else np.shape(boxes)}"
        )
    return mpii_head_sizes(np.asarray(boxes, np.float64).transpose(2, 0, 1).reshape(count, 4))


def _load_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return dict(loadmat(path, struct_as_record=False, squeeze_me=False))
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path} is not a MATLAB file that can be read: {error}") from None


def _from_mat(path: Path) -> list[Row]:
    content = _load_mat(path)
    try:
        release = content["RELEASE"][0, 0]
        photos = release.annolist[0]
        for_training = np.asarray(release.img_train).ravel()
        rows: list[Row] = []
        for photo, used in zip(photos, for_training, strict=True):
            if used:
                rows += _people_of(photo)
    except (KeyError, AttributeError, IndexError, ValueError) as error:
        raise DataError(f"{path} is not MPII's original release file: {error!r}") from None
    return rows


def _people_of(photo: Any) -> list[Row]:
    name = str(photo.image[0, 0].name[0])
    rows: list[Row] = []
    for person in np.asarray(photo.annorect).ravel():
        # Some people have a head box only, some photos nobody.
        points = _field(person, "annopoints")
        place = _field(person, "objpos")
        scale = _field(person, "scale")
        if points is None or place is None or scale is None:
            continue
        joints = np.zeros((JOINTS, 3), np.float32)
        for point in np.asarray(points.ravel()[0].point).ravel():
            joints[int(point.id.item())] = point.x.item() - 1, point.y.item() - 1, 1
        place = place.ravel()[0]
        centre = np.array([place.x.item() - 1, place.y.item() - 1], np.float32)
        corners = [_field(person, side) for side in ("x1", "y1", "x2", "y2")]
        head = np.nan
        if all(corner is not None for corner in corners):
            box = np.array([[corner.item() for corner in corners if corner is not None]])
            head = float(mpii_head_sizes(box)[0])
        rows.append((name, centre, float(scale.item()), joints, head))
    return rows


def _field(record: Any, name: str) -> NDArray[Any] | None:
    value = getattr(record, name, None)
    return None if value is None or np.size(value) == 0 else np.asarray(value)
