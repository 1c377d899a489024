"""Text on a picture, placed so that no piece covers another."""

from __future__ import annotations

import functools
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from ....skeleton import Colour

FONT = cv2.FONT_HERSHEY_SIMPLEX
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
FARTHEST = 3
STEPS = range(-FARTHEST, FARTHEST + 1)
ELSEWHERE = sorted(
    (step for step in product(STEPS, STEPS) if abs(step[0]) + abs(step[1]) <= FARTHEST),
    key=lambda step: abs(step[0]) + abs(step[1]),
)
"""By how many heights and half widths a text may lie from where it belongs, the nearest first.
Farther off nobody knows whose it is."""


def font_scale(height: int) -> float:
    """OpenCV's scale of letters that can be read on a picture of ``height`` pixels."""
    return max(0.4, height / 1300)


@functools.lru_cache(512)
def _size(text: str, scale: float, thick: int) -> tuple[int, int, int]:
    """Width, height above the line and depth below it, in pixels."""
    (wide, tall), base = cv2.getTextSize(text, FONT, scale, thick)
    return wide, tall, base


class Labels:
    """The texts of one picture, which is changed in place."""

    def __init__(self, image_HW3: NDArray[np.uint8]) -> None:
        self._image = image_HW3
        self._height, self._width = image_HW3.shape[:2]
        self._taken: list[tuple[int, int, int, int]] = []
        self._scale = font_scale(self._height)

    def tag(self, text: str, x: int, y: int, colour: Colour) -> bool:
        """Writes black on a field of ``colour``, whose lower left corner is at ``x``, ``y`` or as
        near to it as there is room; False if there is none."""
        scale = self._scale
        thick = max(1, round(scale))
        wide, tall, base = _size(text, scale, thick)
        across, down = wide + 6, tall + base + 4
        place = self._room(x, y - down, across, down)
        if place is None:
            return False
        left, top = place
        corner = (left + across - 1, top + down - 1)
        cv2.rectangle(self._image, (left, top), corner, colour, cv2.FILLED)
        foot = (left + 3, top + down - base - 1)
        cv2.putText(self._image, text, foot, FONT, scale, BLACK, thick, cv2.LINE_AA)
        return True

    def note(self, text: str, x: int, y: int) -> bool:
        """Writes small white letters on a dark field right of ``x``, ``y``, if that is free."""
        scale = 0.75 * self._scale
        wide, tall, base = _size(text, scale, 1)
        left, top = x + 4, y - tall // 2
        if not self._free(left, top, wide, tall + base):
            return False
        self._taken.append((left, top, left + wide, top + tall + base))
        field = self._image[top : top + tall + base, left : left + wide]
        field //= 3
        cv2.putText(self._image, text, (left, top + tall), FONT, scale, WHITE, 1, cv2.LINE_AA)
        return True

    def _room(self, x: int, y: int, across: int, down: int) -> tuple[int, int] | None:
        for far, aside in ELSEWHERE:
            left = max(0, min(x + aside * across // 2, self._width - across))
            top = max(0, min(y + far * down, self._height - down))
            if self._free(left, top, across, down):
                self._taken.append((left, top, left + across, top + down))
                return left, top
        return None

    def _free(self, left: int, top: int, across: int, down: int) -> bool:
        right, bottom = left + across, top + down
        if left < 0 or top < 0 or right > self._width or bottom > self._height:
            return False
        return not any(
            left < x1 and x0 < right and top < y1 and y0 < bottom for x0, y0, x1, y1 in self._taken
        )


def draw_overlay(image_HW3: NDArray[np.uint8], lines: list[str]) -> None:
    """Writes status lines on a darkened field in the top left corner, in place.

    Of a line that is too long for the picture the middle is left out.
    """
    if not lines:
        return
    scale = max(0.45, image_HW3.shape[0] / 1300)
    step = int(34 * scale)
    lines = [_shortened(text, image_HW3.shape[1] - 20, scale) for text in lines]
    width = max(_size(text, scale, 1)[0] for text in lines) + 20
    field = image_HW3[: step * len(lines) + step // 2, :width]
    field //= 3
    for row, text in enumerate(lines):
        place = (10, step * (row + 1))
        cv2.putText(image_HW3, text, place, FONT, scale, WHITE, 1, cv2.LINE_AA)


def _shortened(text: str, width: int, scale: float) -> str:
    """As much of a text's beginning and end as fits into so many pixels."""
    short, kept = text, len(text)
    while kept > 2 and _size(short, scale, 1)[0] > width:
        kept -= 1
        short = f"{text[: kept - kept // 2]}...{text[-(kept // 2) :]}"
    return short
