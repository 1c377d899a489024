"""Labels that are numbers and yet wrong: shares for pixels, corners for sizes, other pictures.

What is surely wrong is refused, what may be right gets one warning; both name the first
annotation, so that training and evaluation never give figures that mean nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..types import BoolArray, FloatArray
from .people import Photos

LOG = logging.getLogger(__name__)

MOST_SHARE = 1.5
"""Shares of a picture lie in [0, 1] and a little around; nobody is as small as that in pixels."""
MANY = 0.5
"""From this part of a set on, a fault is the set's and not a slip."""
SOME_CORNERS, NEARLY_ALL = 0.1, 0.98
PICTURE_SLACK = 0.02
"""A joint so far outside its picture, as a share of the longer side, may be a labeller's."""
BOX_SLACK = 0.25
"""Likewise outside its box; crops reach an eighth of a side past theirs."""
LOOKED_AT = 2000
"""Photos whose real size is asked for, evenly spread over a set."""


@dataclass(frozen=True, slots=True)
class Given:
    """N annotations as their file gives them.

    ``points`` (N, K, 2) and ``labelled`` (N, K) are of the joints ``names``, of which a set of
    boxes has none. ``boxes`` (N, 4) are x, y, width, height and ``sizes`` (N, 2) the pictures'
    widths and heights, both NaN where the file says nothing.
    """

    path: Path
    ids: Sequence[int]
    files: Sequence[str]
    boxes: FloatArray
    sizes: FloatArray
    names: Sequence[str] = ()
    points: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 2)))
    labelled: BoolArray = field(default_factory=lambda: np.zeros((0, 0), bool))

    def of(self, wrong: Any) -> str:
        """The annotations that ``wrong`` (N,) marks: the first by its id, the others counted."""
        rows = np.flatnonzero(wrong)
        more = "" if len(rows) == 1 else f" and {len(rows) - 1} more of {len(wrong)}"
        return f"{self.path}: annotation {self.ids[rows[0]]}{more}"


def require_plausible(given: Given, photos: Photos | None) -> None:
    """Looks at labels before anyone trains on them or is judged by them.

    ``photos`` is where the pictures lie, or None to believe the file.

    Raises:
        DataError: joints or boxes are shares of the picture, boxes are corners, the pictures are
            of another size than the file says, or most of the joints lie outside.
    """
    if not len(given.ids):
        return
    if not given.names:
        nothing = np.zeros((len(given.ids), 0))
        given = Given(
            given.path, given.ids, given.files, given.boxes, given.sizes, (),
            nothing[..., None].repeat(2, 2), nothing.astype(bool),
        )  # fmt: skip
    _refuse_shares(given)
    sizes = given.sizes if photos is None else _real_sizes(given, photos)
    _refuse_corners(given, sizes)
    _joints_in_pictures(given, sizes)
    _boxes_in_pictures(given, sizes)
    _joints_in_boxes(given)


def _refuse_shares(given: Given) -> None:
    low, high = _extent(given)
    small = (high <= MOST_SHARE).all(axis=1) & (low >= -MOST_SHARE).all(axis=1)
    apart = small & (high > low).any(axis=1)  # joints that are all at 0, 0 are something else
    everywhere = small.sum() == (np.isfinite(low).all(axis=1)).sum() and (high[small] > 0).any()
    if apart.any() or everywhere:
        wrong = apart if apart.any() else small
        raise DataError(
            f"{given.of(wrong)} has all its joints between {low[wrong].min():.3g} and "
            f"{high[wrong].max():.3g}, which are shares of the picture; expected pixels: multiply "
            "x by the width and y by the height"
        )
    known = np.isfinite(given.boxes).all(axis=1)
    tiny = known & (np.abs(given.boxes) <= MOST_SHARE).all(axis=1)
    tiny &= (given.boxes[:, 2:] > 0).all(axis=1)
    if tiny.any() and tiny.sum() > MANY * known.sum():
        box = _numbers(given.boxes[np.flatnonzero(tiny)[0]])
        raise DataError(
            f"{given.of(tiny)} has the bbox [{box}], which are shares of the picture; expected "
            "x, y, width, height in pixels"
        )


def _extent(given: Given) -> tuple[FloatArray, FloatArray]:
    """Each person's lowest and highest labelled coordinates (N, 2), infinite without any."""
    seen = given.labelled[..., None]
    low = np.where(seen, given.points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(seen, given.points, -np.inf).max(axis=1, initial=-np.inf)
    none = ~given.labelled.any(axis=1)
    low[none], high[none] = -np.inf, np.inf
    return low, high


def _real_sizes(given: Given, photos: Photos) -> FloatArray:
    """The pictures' sizes (N, 2): the real ones where they were looked at.

    DataError where many differ from what the file says, or where labels leave the real picture
    but not the one of the file.
    """
    names = list(dict.fromkeys(given.files))
    chosen = {
        names[i] for i in np.linspace(0, len(names) - 1, min(len(names), LOOKED_AT)).astype(int)
    }
    found = {name: size for name in chosen if (size := photos.size(name)) is not None}
    real = np.array([found.get(name, (np.nan, np.nan)) for name in given.files], np.float64)
    other: BoolArray = np.asarray(
        (np.abs(real - given.sizes) > 1).any(axis=1)
    )  # False where either is unknown
    for row in np.flatnonzero(other).tolist():
        # The header is what differs; the reader has the last word (it may turn pictures).
        file = given.files[row]
        try:
            height, width = photos.read(file).shape[:2]
        except DataError:
            width, height = given.sizes[row]
        if abs(width - given.sizes[row, 0]) <= 1 and abs(height - given.sizes[row, 1]) <= 1:
            real[row], other[row] = given.sizes[row], False
            continue
        break
    sizes = np.where(np.isfinite(real), real, given.sizes)
    if not other.any():
        return sizes
    looked = np.isfinite(real).all(axis=1) & np.isfinite(given.sizes).all(axis=1)
    first = int(np.flatnonzero(other)[0])
    fault = (
        f"{given.of(other)} is on a picture that the file calls "
        f"{given.sizes[first, 0]:.0f}x{given.sizes[first, 1]:.0f}, but {given.files[first]} is "
        f"{real[first, 0]:.0f}x{real[first, 1]:.0f}"
    )
    leaves = _outside_picture(given, real).any(axis=1)
    leaves &= ~_outside_picture(given, given.sizes).any(axis=1) & other
    if leaves.any() or other.sum() > MANY * looked.sum():
        raise DataError(f"{fault}: labels and photos do not belong together")
    LOG.warning("%s", fault)
    return sizes


def _refuse_corners(given: Given, sizes: FloatArray) -> None:
    x, y, width, height = given.boxes.T
    known = np.isfinite(given.boxes).all(axis=1) & np.isfinite(sizes).all(axis=1)
    if not known.any():
        return
    room = 1.02 * sizes + 2
    corners = known & (width > x) & (height > y) & (width <= room[:, 0]) & (height <= room[:, 1])
    out = corners & ((x + width > room[:, 0]) | (y + height > room[:, 1]))
    corners &= _inside(given, given.boxes)
    out &= corners
    if corners.sum() >= NEARLY_ALL * known.sum() and out.sum() >= SOME_CORNERS * known.sum():
        row = int(np.flatnonzero(out)[0])
        raise DataError(
            f"{given.of(out)} has the bbox [{_numbers(given.boxes[row])}], which leaves its "
            f"picture of {sizes[row, 0]:.0f}x{sizes[row, 1]:.0f} and fits in it as two corners; "
            "expected x, y, width, height"
        )


def _inside(given: Given, corners: FloatArray) -> BoolArray:
    """Whose labelled joints all lie about within x0, y0, x1, y1 (N, 4): (N,)."""
    low, high = corners[:, None, :2], corners[:, None, 2:]
    slack = 0.1 * np.abs(high - low).max(axis=2, keepdims=True, initial=0)
    within = ((given.points >= low - slack) & (given.points <= high + slack)).all(axis=2)
    return np.asarray((within | ~given.labelled).all(axis=1))


def _outside_picture(given: Given, sizes: FloatArray) -> BoolArray:
    """Labelled joints (N, K) that lie clearly outside pictures of these sizes."""
    slack = np.maximum(2, PICTURE_SLACK * sizes.max(axis=1, initial=0))[:, None, None]
    beyond = (given.points < -slack) | (given.points > sizes[:, None] - 1 + slack)
    return np.asarray(beyond.any(axis=2) & given.labelled)


def _joints_in_pictures(given: Given, sizes: FloatArray) -> None:
    outside = _outside_picture(given, sizes)
    wrong = outside.any(axis=1)
    if not wrong.any():
        return
    row, joint = (int(i) for i in np.argwhere(outside)[0])
    _report(
        f"{given.of(wrong)} has a joint outside its picture: {_joint(given, row, joint)}, but "
        f"{given.files[row]} is {sizes[row, 0]:.0f}x{sizes[row, 1]:.0f}",
        sure=wrong.sum() > MANY * np.isfinite(sizes).all(axis=1).sum(),
    )


def _boxes_in_pictures(given: Given, sizes: FloatArray) -> None:
    x, y, width, height = given.boxes.T
    wrong = (x >= sizes[:, 0]) | (y >= sizes[:, 1]) | (x + width <= 0) | (y + height <= 0)
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    size = sizes[row]
    _report(
        f"{given.of(wrong)} has its whole bbox [{_numbers(given.boxes[row])}] outside its "
        f"picture {given.files[row]}"
        + (f" of {size[0]:.0f}x{size[1]:.0f}" if np.isfinite(size).all() else ""),
        sure=wrong.sum() > MANY * len(wrong),
    )


def _joints_in_boxes(given: Given) -> None:
    low, sides = given.boxes[:, None, :2], given.boxes[:, None, 2:]
    usable = (sides > 0).all(axis=2, keepdims=True)  # without a box it is made from the joints
    slack = BOX_SLACK * sides.max(axis=2, keepdims=True, initial=0)
    beyond = ((given.points < low - slack) | (given.points > low + sides + slack)) & usable
    outside = beyond.any(axis=2) & given.labelled
    wrong = outside.any(axis=1)
    if not wrong.any():
        return
    mostly = outside.sum(axis=1) > MANY * given.labelled.sum(axis=1)
    row, joint = (int(i) for i in np.argwhere(outside)[0])
    _report(
        f"{given.of(wrong)} has a joint far outside its bbox: {_joint(given, row, joint)}, but "
        f"the bbox (x, y, width, height) is [{_numbers(given.boxes[row])}]",
        sure=mostly.sum() > MANY * usable.sum(),
    )


def _report(fault: str, *, sure: bool) -> None:
    if sure:
        raise DataError(f"{fault}: labels and photos do not belong together")
    LOG.warning("%s", fault)


def _joint(given: Given, row: int, joint: int) -> str:
    return f"{given.names[joint]} at {_numbers(given.points[row, joint])}"


def _numbers(values: FloatArray) -> str:
    return ", ".join(f"{value:g}" for value in np.round(values, 2))
