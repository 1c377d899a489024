"""Sketches painted by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ...models.letterbox import FILL
from .photos import PhotoStore
from .sketch import Colours, Layer, Sketch

FADE, REACH = 6.0, 1.15
"""How sharply a pasted person fades towards the corners of its box, and from where on."""


def paint(sketch: Sketch, store: PhotoStore, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The canvas (H, W, 3); ``rng`` draws the noise."""
    canvas = np.full((*sketch.size, 3), FILL, np.uint8)
    for layer in sketch.layers:
        lay(canvas, store.image(layer.photo), layer)
    return recolour(canvas, sketch.colours, rng)


def lay(canvas: NDArray[np.uint8], image: NDArray[np.uint8], layer: Layer) -> None:
    """Paints one layer, whose photo is ``image``, over what is there."""
    (sx0, sy0, sx1, sy1), (x0, y0, x1, y1) = layer.source, layer.target
    how = cv2.INTER_AREA if layer.smooth else cv2.INTER_LINEAR
    part = cv2.resize(image[sy0:sy1, sx0:sx1], (x1 - x0, y1 - y0), interpolation=how)
    if layer.mirrored:
        part = part[:, ::-1]
    if not layer.faded:
        canvas[y0:y1, x0:x1] = part
        return
    x = np.linspace(-1, 1, x1 - x0, dtype=np.float32) ** 4
    y = np.linspace(-1, 1, y1 - y0, dtype=np.float32) ** 4
    share = ((REACH - x - y[:, None]) * FADE).clip(0, 1)[..., None]
    h, w = canvas.shape[:2]
    cx0, cy0, cx1, cy1 = max(x0, 0), max(y0, 0), min(x1, w), min(y1, h)
    seen = slice(cy0 - y0, cy1 - y0), slice(cx0 - x0, cx1 - x0)
    mixed = share[seen] * part[seen] + (1 - share[seen]) * canvas[cy0:cy1, cx0:cx1]
    canvas[cy0:cy1, cx0:cx1] = mixed.astype(np.uint8)


def recolour(
    canvas: NDArray[np.uint8], colours: Colours, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A canvas (H, W, 3) in other colours."""
    if colours.saturation != 1:
        gray = cv2.cvtColor(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        canvas = cv2.addWeighted(canvas, colours.saturation, gray, 1 - colours.saturation, 0)
        canvas = cv2.LUT(canvas, colours.table()[None])
    if colours.blur:
        canvas = cv2.GaussianBlur(canvas, (0, 0), colours.blur)
    elif colours.noise:
        noise = rng.normal(0, colours.noise, canvas.shape).astype(np.int16)
        canvas = (canvas + noise).clip(0, 255).astype(np.uint8)
    elif colours.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, colours.jpeg]
        coded = cv2.imencode(".jpg", canvas, quality)[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return canvas
