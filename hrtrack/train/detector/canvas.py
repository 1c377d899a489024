"""The canvases the detector is trained on: one photo or a mosaic of them, recoloured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ...configs.person_fast_schema import CanvasSection
from ...models.letterbox import FILL
from .paste import paste_people
from .photos import IGNORE, Photo, PhotoStore

Batch = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int8]]
SMALLEST = 9.0
"""People lower than this many pixels on the canvas are ignored: the finest stride is 8."""
SEEN_LEAST = 0.35
"""People of whom less than this share is on the canvas are ignored."""
GRIDS, GRID_ODDS = ((2, 1), (2, 2), (3, 2), (4, 3)), (0.25, 0.35, 0.25, 0.15)
TILE_LEAST = 64
CLOSEST = 1.8
"""A photo by itself is enlarged up to this much beyond filling the canvas: half bodies, faces."""
BOXES_MOST = 40


def place(
    canvas: NDArray[np.uint8],
    tile: tuple[int, int, int, int],
    photo: Photo,
    scale: tuple[float, float],
    shift: tuple[float, float],
    flip: bool,
    interpolation: int,
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Lay a scaled photo into the tile x0, y0, x1, y1; its boxes there, cut at the tile's edges.

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
    source = photo.image[sy0:sy1, sx0:sx1]
    part = cv2.resize(source, (dw, dh), interpolation=interpolation)
    boxes[:, 0::2] = (boxes[:, 0::2] - sx0) * (dw / (sx1 - sx0))
    boxes[:, 1::2] = (boxes[:, 1::2] - sy0) * (dh / (sy1 - sy0))
    if flip:
        part = part[:, ::-1]
        boxes[:, 0::2] = dw - boxes[:, 2::-2]
    canvas[y0 + dy : y0 + dy + dh, x0 + dx : x0 + dx + dw] = part
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, dw)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, dh)
    size = boxes[:, 2:] - boxes[:, :2]
    seen = size.prod(-1) / np.maximum(whole, 1e-3)
    kinds = photo.kinds.copy()
    kinds[(seen < SEEN_LEAST) | (size[:, 1] < SMALLEST) | (size[:, 0] < 4)] = IGNORE
    boxes += np.array([x0 + dx, y0 + dy, x0 + dx, y0 + dy], np.float32)
    keep = (size > 1).all(-1)
    return boxes[keep], kinds[keep]


def recolour(canvas: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random saturation, brightness, contrast, white balance; sometimes blur, noise or JPEG."""
    if rng.random() < 0.8:
        gray = cv2.cvtColor(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        amount = 0.0 if rng.random() < 0.06 else rng.uniform(0.5, 1.5)
        canvas = cv2.addWeighted(canvas, amount, gray, 1 - amount, 0)
        ramp = np.arange(256, dtype=np.float32)[:, None]
        gain = rng.uniform(0.6, 1.4) * rng.uniform(0.92, 1.08, 3)
        table = (ramp / 255) ** rng.uniform(0.75, 1.35) * 255
        table = (table - FILL) * gain + FILL + rng.uniform(-35, 35)
        canvas = cv2.LUT(canvas, table.clip(0, 255).astype(np.uint8)[None])
    kind = rng.random()
    if kind < 0.06:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 1.3))
    elif kind < 0.12:
        noise = rng.normal(0, rng.uniform(3, 12), canvas.shape).astype(np.int16)
        canvas = (canvas + noise).clip(0, 255).astype(np.uint8)
    elif kind < 0.20:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", canvas, quality)[1], cv2.IMREAD_COLOR))
    return canvas


def grid_lines(length: int, count: int, rng: np.random.Generator) -> list[int]:
    """Cut a side into ``count`` tiles with jittered borders."""
    lines = [0]
    for i in range(1, count):
        lines.append(round(length * (i + rng.uniform(-0.25, 0.25)) / count))
    return [*lines, length]


def draw_canvas(
    store: PhotoStore, section: CanvasSection, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int8]]:
    """One training canvas (H, W, 3) with boxes and kinds: a photo or a mosaic of 2 to 12.

    Mosaics make people down to about ten pixels, as in street scenes; people pasted in make
    groups.
    """
    height, width = section.size
    canvas = np.full((height, width, 3), FILL, np.uint8)
    columns, rows = 1, 1
    if rng.random() < section.mosaic:
        columns, rows = GRIDS[rng.choice(len(GRIDS), p=GRID_ODDS)]
        columns, rows = min(columns, width // TILE_LEAST), min(rows, height // TILE_LEAST)
    xs, ys = grid_lines(width, columns, rng), grid_lines(height, rows, rng)
    boxes: list[NDArray[np.float32]] = []
    kinds: list[NDArray[np.int8]] = []
    for y0, y1 in itertools.pairwise(ys):
        for x0, x1 in itertools.pairwise(xs):
            photo = store.draw(rng)
            h, w = photo.image.shape[:2]
            fit, cover = min((x1 - x0) / w, (y1 - y0) / h), max((x1 - x0) / w, (y1 - y0) / h)
            single = columns * rows == 1
            if single and rng.random() < 0.3:
                zoom = fit  # as at inference
            else:
                closest = cover * (CLOSEST if single else 1.4)
                zoom = np.exp(rng.uniform(np.log(fit * 0.8), np.log(closest)))
            stretch = np.exp(rng.uniform(-0.1, 0.1))
            b, k = place(
                canvas,
                (x0, y0, x1, y1),
                photo,
                (zoom * stretch, zoom / stretch),
                (rng.random(), rng.random()) if rng.random() < 0.8 else (0.0, 0.0),
                rng.random() < 0.5,
                cv2.INTER_AREA if zoom < 1 and rng.random() < 0.5 else cv2.INTER_LINEAR,
            )
            boxes.append(b)
            kinds.append(k)
    all_boxes, all_kinds = np.concatenate(boxes), np.concatenate(kinds)
    if rng.random() < section.paste:
        all_boxes, all_kinds = paste_people(canvas, all_boxes, all_kinds, store, rng)
    return recolour(canvas, rng), all_boxes, all_kinds


def draw_batch(
    store: PhotoStore, canvases: Sequence[CanvasSection], batch: int, seed: tuple[int, int]
) -> Batch:
    """Images (N, H, W, 3), boxes (N, G, 4) and kinds (N, G); a function of ``seed`` alone."""
    rng = np.random.default_rng(seed)
    shares = np.array([canvas.share for canvas in canvases])
    chosen = canvases[rng.choice(len(canvases), p=shares / shares.sum())]
    images = np.empty((batch, *chosen.size, 3), np.uint8)
    drawn = []
    for i in range(batch):
        images[i], boxes, kinds = draw_canvas(store, chosen, rng)
        largest = np.argsort(boxes[:, 1] - boxes[:, 3])[:BOXES_MOST]
        drawn.append((boxes[largest], kinds[largest]))
    longest = max(1, *(len(boxes) for boxes, _ in drawn))
    all_boxes = np.zeros((batch, longest, 4), np.float32)
    all_kinds = np.zeros((batch, longest), np.int8)
    for i, (boxes, kinds) in enumerate(drawn):
        all_boxes[i, : len(boxes)], all_kinds[i, : len(kinds)] = boxes, kinds
    return images, all_boxes, all_kinds
