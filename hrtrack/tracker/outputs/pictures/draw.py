"""Skeletons, boxes, identities and actions onto a frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ....errors import UsageError
from ....poses import Poses
from ....skeleton import Colour, Skeleton
from ....types import Float32Array

LAYERS = ("skeleton", "boxes", "ids", "heatmaps")
FONT = cv2.FONT_HERSHEY_SIMPLEX
SUBPIXEL_BITS = 3
MARGIN = 4000
"""Pixels around the picture; what lies further off is drawn there: long lines cost time."""
WHITE: Colour = (255, 255, 255)
PALETTE: tuple[Colour, ...] = (
    (78, 205, 196), (255, 107, 107), (255, 217, 61), (162, 155, 254), (107, 203, 119),
    (255, 159, 243), (84, 160, 255), (254, 202, 87), (29, 209, 161), (200, 214, 229),
)  # fmt: skip


@dataclass
class DrawOptions:
    """What is drawn; the window's keys change it while the loop runs."""

    layers: set[str]
    min_score: float = 0.3
    help: bool = False

    @classmethod
    def parse(cls, text: str, min_score: float) -> DrawOptions:
        """Reads ``skeleton,boxes``; UsageError names what is unknown."""
        layers = {part.strip() for part in text.split(",") if part.strip()} - {"none"}
        unknown = sorted(layers - set(LAYERS))
        if unknown:
            raise UsageError(f"--draw knows {', '.join(LAYERS)} and none, not '{unknown[0]}'")
        return cls(layers, min_score)


def draw(
    image_HW3: NDArray[np.uint8], poses: Poses, skeleton: Skeleton, options: DrawOptions
) -> NDArray[np.uint8]:
    """Draws one frame's people onto ``image_HW3`` (RGB, changed in place) and returns it.

    Line width follows each person's size, so that far people stay readable.
    """
    height = image_HW3.shape[0]
    sides = poses.boxes[:, 2:] - poses.boxes[:, :2]
    thickest = max(2, height // 180)
    widths = np.clip(np.rint(sides.max(axis=1) / 110), 1, thickest).astype(int).tolist()
    colours = [PALETTE[number % len(PALETTE)] for number in poses.ids.tolist()]
    corners = _within_reach(np.rint(poses.boxes).reshape(-1, 2), image_HW3)
    boxes = corners.reshape(-1, 4).astype(int).tolist()
    if "boxes" in options.layers:
        for box, colour, width in zip(boxes, colours, widths, strict=True):
            _frame(image_HW3, box, colour, width)
    if "skeleton" in options.layers:
        _skeletons(image_HW3, poses, skeleton, options.min_score, widths)
    for i, (box, colour) in enumerate(zip(boxes, colours, strict=True)):
        label = _label(poses, i, with_id="ids" in options.layers)
        if label:
            _tag(image_HW3, label, box, colour)
    return image_HW3


def _frame(image_HW3: NDArray[np.uint8], box: list[int], colour: Colour, width: int) -> None:
    """Four filled bars, which OpenCV paints in half the time of a rectangle with thick lines."""
    x0, y0, x1, y1 = box
    a, b = width // 2, width - width // 2 - 1
    for corners in (
        ((x0 - a, y0 - a), (x1 + b, y0 + b)), ((x0 - a, y1 - a), (x1 + b, y1 + b)),
        ((x0 - a, y0 - a), (x0 + b, y1 + b)), ((x1 - a, y0 - a), (x1 + b, y1 + b)),
    ):  # fmt: skip
        cv2.rectangle(image_HW3, *corners, colour, cv2.FILLED)


def _skeletons(
    image_HW3: NDArray[np.uint8],
    poses: Poses,
    skeleton: Skeleton,
    min_score: float,
    widths: list[int],
) -> None:
    limbs = [(a, b, skeleton.limb_colour((a, b))) for a, b in skeleton.limbs]
    places = _within_reach(poses.keypoints, image_HW3)
    fixed = (places * (1 << SUBPIXEL_BITS)).astype(int).tolist()
    whole = np.rint(places).astype(int).tolist()
    seen = (poses.scores >= min_score).tolist()
    for points, dots, shown, width in zip(fixed, whole, seen, widths, strict=True):
        for a, b, colour in limbs:
            if shown[a] and shown[b]:
                cv2.line(image_HW3, points[a], points[b], colour, width, cv2.LINE_AA, SUBPIXEL_BITS)
        for dot, is_seen in zip(dots, shown, strict=True):
            if is_seen:
                cv2.circle(image_HW3, dot, width + 1, WHITE, cv2.FILLED)


def _within_reach(points: Float32Array, image_HW3: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Points (..., 2) no further than `MARGIN` from the picture."""
    height, width = image_HW3.shape[:2]
    return np.clip(points, -MARGIN, (width + MARGIN, height + MARGIN))


def _label(poses: Poses, i: int, *, with_id: bool) -> str:
    parts = [str(int(poses.ids[i]))] if with_id and poses.ids[i] >= 0 else []
    action = poses.actions[i] if poses.actions is not None else None
    if action is not None and action.label != "unknown":
        parts.append(f"{action.label.replace('_', ' ')} {action.score:.0%}")
    return "  ".join(parts)


def _tag(image_HW3: NDArray[np.uint8], text: str, box: list[int], colour: Colour) -> None:
    image_height, image_width = image_HW3.shape[:2]
    scale = max(0.4, image_height / 1300)
    (wide, tall), base = cv2.getTextSize(text, FONT, scale, 1)
    x = max(0, min(box[0], image_width - wide - 6))
    y = max(box[1], tall + base + 4)
    cv2.rectangle(image_HW3, (x, y - tall - base - 4), (x + wide + 6, y), colour, cv2.FILLED)
    cv2.putText(image_HW3, text, (x + 3, y - base - 1), FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)


def draw_heatmaps(
    image_HW3: NDArray[np.uint8],
    heatmaps_NKHW: NDArray[np.float32],
    to_image: NDArray[np.float64],
    input_hw: tuple[int, int],
) -> None:
    """Blends each person's strongest response over all joints into the image, in place.

    ``to_image`` (N, 2, 3) maps crop pixels, of a crop of ``input_hw``, to image pixels.
    """
    size = image_HW3.shape[1], image_HW3.shape[0]
    heat = np.zeros(image_HW3.shape[:2], np.float32)
    for maps_KHW, affine in zip(heatmaps_NKHW, to_image, strict=True):
        grow = np.diag([input_hw[1] / maps_KHW.shape[2], input_hw[0] / maps_KHW.shape[1], 1.0])
        one = cv2.warpAffine(maps_KHW.max(axis=0), affine @ grow, size)
        np.maximum(heat, one, out=heat)
    shade = cv2.applyColorMap((np.clip(heat, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    weight = (np.clip(heat, 0, 1) * 0.7)[..., None]
    blended = image_HW3 * (1 - weight) + shade[..., ::-1] * weight
    image_HW3[...] = blended.astype(np.uint8)


def draw_overlay(image_HW3: NDArray[np.uint8], lines: list[str]) -> None:
    """Writes status lines into the top left corner, in place."""
    scale = max(0.45, image_HW3.shape[0] / 1300)
    step = int(34 * scale)
    for row, text in enumerate(lines):
        x, y = 10, step * (row + 1)
        # Not a thicker outline: OpenCV 5 spaces thick letters differently.
        cv2.putText(image_HW3, text, (x + 1, y + 1), FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
        cv2.putText(image_HW3, text, (x, y), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
