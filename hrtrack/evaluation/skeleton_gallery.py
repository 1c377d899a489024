"""Typical and worst answers as bare skeletons: a picture that may be shown where photos may not.

Model cards use it. Every person is scaled to one tile; the label is grey, the prediction has the
colours of the body's sides, and a red line joins a misplaced joint to where it belongs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..skeleton import Skeleton
from ..types import ByteArray, FloatArray
from .error_gallery import FAR, distances, save_sheet
from .labels import Labels

COLUMNS = 8
TILE, FINE = 176, 3
"""Side of a tile, and how many times finer it is drawn than it is shown."""
HEADING, CAPTION, MARGIN = 30, 20, 6
PADDING = 1.3
SEEN = 0.2
"""Predicted joints with a lower score are not drawn."""
PAPER, GROUND, INK, LABEL, MISSED = (
    (255, 255, 255), (246, 246, 248), (60, 60, 66), (165, 165, 172), (235, 110, 110),
)  # fmt: skip


def draw_skeletons(poses: FloatArray, labels: Labels, path: Path) -> None:
    """Draws poses (N, K, 3) against their labels: eight from best to worse, and the worst eight.

    The first row takes the people who stand at evenly spaced ranks between the 5th and the
    75th percentile of the mean distance to the labels; the second row the worst. SinkError
    when the picture cannot be written.
    """
    off, badness = distances(poses, labels)
    order = np.argsort(badness, kind="stable")
    shares = np.linspace(0.05, 0.75, COLUMNS)
    ranks = np.unique(np.round(shares * (len(order) - 1)).astype(int))
    typical = [(int(order[rank]), f"{_percent(rank, order)}:") for rank in ranks]
    worst = [(int(person), "") for person in order[::-1][:COLUMNS]]
    width = COLUMNS * (TILE + MARGIN) + MARGIN
    sheets = []
    for heading, chosen in (
        ("From good to bad: percentile of people, mean distance in box diagonals", typical),
        ("The worst", worst),
    ):
        band = np.full((HEADING + TILE + CAPTION + MARGIN, width, 3), PAPER, np.uint8)
        _write(band, heading, (MARGIN, HEADING - 10), 0.5)
        for place, (person, caption) in enumerate(chosen):
            left = MARGIN + place * (TILE + MARGIN)
            band[HEADING : HEADING + TILE, left : left + TILE] = _tile(
                poses[person], labels, person, off[person] > FAR
            )
            found = np.isfinite(badness[person])
            text = f"{caption} {badness[person]:.3f}" if found else f"{caption} not found"
            _write(band, text.strip(), (left + 4, HEADING + TILE + 14), 0.4)
        sheets.append(band)
    save_sheet(np.concatenate([*sheets, _legend(width)]), path)


def _percent(rank: int, order: NDArray[np.int64]) -> str:
    return f"{100 * rank / max(len(order) - 1, 1):.0f} %"


def _tile(pose: FloatArray, labels: Labels, person: int, off: NDArray[np.bool_]) -> ByteArray:
    import cv2

    people, labelled = labels.people, labels.labelled[person]
    side = TILE * FINE
    affine = geometry.box_affines(people.boxes[person][None], (side, side), PADDING)[0]
    canvas = np.full((side, side, 3), GROUND, np.uint8)
    wanted: FloatArray = geometry.transform(people.keypoints[person], affine)
    _limbs(canvas, wanted, labelled, people.skeleton, 5 * FINE // 2, LABEL)
    if np.isfinite(pose).all():
        points: FloatArray = geometry.transform(pose[:, :2], affine)
        seen = pose[:, 2] >= SEEN
        _limbs(canvas, points, seen, people.skeleton, 2 * FINE, None)
        for joint in np.flatnonzero(seen):
            colour = people.skeleton.limb_colour((int(joint), int(joint)))
            cv2.circle(canvas, _pixel(points[joint]), 3 * FINE, colour, -1, cv2.LINE_AA)
        for joint in np.flatnonzero(off & seen):
            ends = _pixel(points[joint]), _pixel(wanted[joint])
            cv2.line(canvas, *ends, MISSED, FINE, cv2.LINE_AA)
    return np.asarray(cv2.resize(canvas, (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8)


def _limbs(
    canvas: ByteArray,
    points: FloatArray,
    known: NDArray[np.bool_],
    skeleton: Skeleton,
    width: int,
    colour: tuple[int, int, int] | None,
) -> None:
    import cv2

    for a, b in skeleton.limbs:
        if known[a] and known[b]:
            shade = colour or skeleton.limb_colour((a, b))
            cv2.line(canvas, _pixel(points[a]), _pixel(points[b]), shade, width, cv2.LINE_AA)


def _legend(width: int) -> ByteArray:
    import cv2

    band = np.full((26, width, 3), PAPER, np.uint8)
    left = MARGIN
    for colour, thick, caption in (
        (LABEL, 3, "label"),
        (MISSED, 1, f"from a joint off by more than {FAR:g} diagonals to its label"),
    ):
        cv2.line(band, (left, 13), (left + 26, 13), colour, thick, cv2.LINE_AA)
        _write(band, caption, (left + 34, 17), 0.4)
        left += 34 + cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0] + 24
    _write(band, "coloured by the body's side: prediction", (left, 17), 0.4)
    return band


def _write(sheet: ByteArray, text: str, place: tuple[int, int], size: float) -> None:
    import cv2

    cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)


def _pixel(point: Any) -> tuple[int, int]:
    # OpenCV overflows on coordinates far outside the picture.
    x, y = np.clip(np.round(point), -10_000, 10_000)
    return int(x), int(y)
