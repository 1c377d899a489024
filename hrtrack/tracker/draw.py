"""Skeletons, boxes, identities and actions onto a frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..poses import Poses
from ..skeleton import Colour, Skeleton

LAYERS = ("skeleton", "boxes", "ids", "heatmaps")
FONT = cv2.FONT_HERSHEY_SIMPLEX
SUBPIXEL_BITS = 3
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
    for i in range(len(poses)):
        x0, y0, x1, y1 = poses.boxes[i]
        width = int(np.clip(round(max(x1 - x0, y1 - y0) / 110), 1, max(2, height // 180)))
        colour = PALETTE[int(poses.ids[i]) % len(PALETTE)]
        if "boxes" in options.layers:
            corners = (round(float(x0)), round(float(y0))), (round(float(x1)), round(float(y1)))
            cv2.rectangle(image_HW3, *corners, colour, width)
        if "skeleton" in options.layers:
            _skeleton(
                image_HW3, poses.keypoints[i], poses.scores[i], skeleton, options.min_score, width
            )
        label = _label(poses, i, with_id="ids" in options.layers)
        if label:
            _tag(image_HW3, label, (float(x0), float(y0)), colour, height)
    return image_HW3


def _skeleton(
    image_HW3: NDArray[np.uint8],
    keypoints_K2: NDArray[np.float32],
    scores_K: NDArray[np.float32],
    skeleton: Skeleton,
    min_score: float,
    width: int,
) -> None:
    seen = scores_K >= min_score
    # Fixed-point coordinates; the clip keeps far-off points inside OpenCV's 16-bit range.
    points = np.clip(keypoints_K2, -4000, 4000) * (1 << SUBPIXEL_BITS)
    fixed = [(int(x), int(y)) for x, y in points]
    for limb in skeleton.limbs:
        a, b = limb
        if seen[a] and seen[b]:
            cv2.line(
                image_HW3, fixed[a], fixed[b], skeleton.limb_colour(limb), width,
                cv2.LINE_AA, SUBPIXEL_BITS,
            )  # fmt: skip
    radius = (width + 1) << SUBPIXEL_BITS
    for joint in np.flatnonzero(seen):
        cv2.circle(
            image_HW3, fixed[joint], radius, (255, 255, 255), cv2.FILLED, cv2.LINE_8, SUBPIXEL_BITS
        )


def _label(poses: Poses, i: int, *, with_id: bool) -> str:
    parts = [str(int(poses.ids[i]))] if with_id and poses.ids[i] >= 0 else []
    action = poses.actions[i] if poses.actions is not None else None
    if action is not None and action.label != "unknown":
        parts.append(f"{action.label.replace('_', ' ')} {action.score:.0%}")
    return "  ".join(parts)


def _tag(
    image_HW3: NDArray[np.uint8],
    text: str,
    corner: tuple[float, float],
    colour: Colour,
    height: int,
) -> None:
    scale = max(0.4, height / 1300)
    (wide, tall), base = cv2.getTextSize(text, FONT, scale, 1)
    x = int(np.clip(corner[0], 0, max(0, image_HW3.shape[1] - wide - 6)))
    y = int(max(corner[1], tall + base + 4))
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
