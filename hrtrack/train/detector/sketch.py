"""What a training canvas is made of, before anything is painted.

A sketch is a few numbers a canvas, so it can be drawn in a worker process and painted where the
pixels are: by OpenCV on a CPU (`paint.py`) or beside the network on its GPU (`paint_device.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...models.letterbox import FILL
from .photos import IGNORE, Photo

SMALLEST = 9.0
"""People lower than this many pixels on the canvas are ignored: the finest stride is 8."""
SEEN_LEAST = 0.35
"""People of whom less than this share is on the canvas are ignored."""
Corners = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a photo and where it lies on the canvas, both x0, y0, x1, y1 in whole pixels.

    ``smooth``: shrinking averages what it leaves out. ``faded``: mixed into what is below, away
    from its corners; such a layer may reach beyond the canvas.
    """

    photo: int
    source: Corners
    target: Corners
    mirrored: bool
    smooth: bool
    faded: bool = False


@dataclass(frozen=True, slots=True)
class Colours:
    """How a canvas is recoloured: grey is mixed in, then values become those of `table`.

    At most one of ``blur`` (deviation in pixels), ``noise`` (deviation in values) and ``jpeg`` (its
    quality) is not 0.
    """

    saturation: float = 1.0
    gamma: float = 1.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0

    def table(self) -> NDArray[np.uint8]:
        """The value (256, 3) that each value of each channel becomes."""
        ramp = np.arange(256, dtype=np.float32)[:, None]
        values = (ramp / 255) ** self.gamma * 255
        values = (values - FILL) * np.array(self.gains, np.float32) + FILL + self.shift
        table: NDArray[np.uint8] = values.clip(0, 255).round().astype(np.uint8)
        return table


@dataclass(frozen=True, slots=True)
class Sketch:
    """One canvas: layers from the bottom up, and its boxes (B, 4) and kinds (B,)."""

    size: tuple[int, int]
    layers: tuple[Layer, ...]
    colours: Colours
    boxes: NDArray[np.float32]
    kinds: NDArray[np.int8]


def place(
    tile: Corners,
    photo: Photo,
    scale: tuple[float, float],
    shift: tuple[float, float],
    mirrored: bool,
    smooth: bool,
) -> tuple[Layer, NDArray[np.float32], NDArray[np.int8]]:
    """A scaled photo in the tile x0, y0, x1, y1, and its boxes there, cut at the tile's edges.

    ``shift`` in [0, 1] says which part of a larger photo is seen, or where a smaller one lies.
    """
    x0, y0, x1, y1 = tile
    h, w = photo.image.shape[:2]
    nw, nh = max(1, round(w * scale[0])), max(1, round(h * scale[1]))
    tw, th = x1 - x0, y1 - y0
    left, top = round((tw - nw) * shift[0]), round((th - nh) * shift[1])
    # Only the visible part of the photo is scaled.
    sx0, sy0 = max(0, -left) * w // nw, max(0, -top) * h // nh
    sx1 = min(w, -(-min(nw, tw - left) * w // nw))
    sy1 = min(h, -(-min(nh, th - top) * h // nh))
    dx, dy = max(0, left), max(0, top)
    dw, dh = min(nw, tw - dx, tw), min(nh, th - dy, th)
    boxes = photo.boxes.copy()
    boxes[:, 0::2] = (boxes[:, 0::2] - sx0) * (dw / (sx1 - sx0))
    boxes[:, 1::2] = (boxes[:, 1::2] - sy0) * (dh / (sy1 - sy0))
    if mirrored:
        boxes[:, 0::2] = dw - boxes[:, 2::-2]
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, dw)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, dh)
    size = boxes[:, 2:] - boxes[:, :2]
    seen = size.prod(-1) / np.maximum(whole, 1e-3)
    kinds = photo.kinds.copy()
    kinds[(seen < SEEN_LEAST) | (size[:, 1] < SMALLEST) | (size[:, 0] < 4)] = IGNORE
    left, top = x0 + dx, y0 + dy
    boxes += np.array([left, top, left, top], np.float32)
    keep = (size > 1).all(-1)
    target = (left, top, left + dw, top + dh)
    layer = Layer(photo.index, (sx0, sy0, sx1, sy1), target, mirrored, smooth)
    return layer, boxes[keep], kinds[keep]


def random_colours(rng: np.random.Generator) -> Colours:
    """Random saturation, brightness, contrast, white balance; sometimes blur, noise or JPEG."""
    said: dict[str, float | int | tuple[float, ...]] = {}
    if rng.random() < 0.8:
        said["saturation"] = 0.0 if rng.random() < 0.06 else rng.uniform(0.5, 1.5)
        said["gains"] = tuple(rng.uniform(0.6, 1.4) * rng.uniform(0.92, 1.08, 3))
        said["gamma"], said["shift"] = rng.uniform(0.75, 1.35), rng.uniform(-35, 35)
    kind = rng.random()
    if kind < 0.06:
        said["blur"] = rng.uniform(0.5, 1.3)
    elif kind < 0.12:
        said["noise"] = rng.uniform(3, 12)
    elif kind < 0.20:
        said["jpeg"] = int(rng.integers(25, 80))
    return Colours(**said)  # type: ignore[arg-type]
