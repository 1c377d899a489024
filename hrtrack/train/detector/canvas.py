"""The canvases the detector is trained on: one photo or a mosaic of them, recoloured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...configs.person_fast_schema import CanvasSection
from .paint import paint
from .paste import paste_people
from .photos import PhotoStore
from .sketch import Layer, Sketch, place, random_colours

Batch = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int8]]
GRIDS, GRID_ODDS = ((2, 1), (2, 2), (3, 2), (4, 3)), (0.25, 0.35, 0.25, 0.15)
TILES_MOST = max(columns * rows for columns, rows in GRIDS)
TILE_LEAST = 64
CLOSEST = 1.8
"""A photo by itself is enlarged up to this much beyond filling the canvas: half bodies, faces."""
BOXES_MOST = 40


def grid_lines(length: int, count: int, rng: np.random.Generator) -> list[int]:
    """Cut a side into ``count`` tiles with jittered borders."""
    lines = [0]
    for i in range(1, count):
        lines.append(round(length * (i + rng.uniform(-0.25, 0.25)) / count))
    return [*lines, length]


def draw_sketch(store: PhotoStore, section: CanvasSection, rng: np.random.Generator) -> Sketch:
    """One training canvas with boxes and kinds: a photo or a mosaic of 2 to 12.

    Mosaics make people down to about ten pixels, as in street scenes; people pasted in make
    groups.
    """
    height, width = section.size
    columns, rows = 1, 1
    if rng.random() < section.mosaic:
        columns, rows = GRIDS[rng.choice(len(GRIDS), p=GRID_ODDS)]
        columns, rows = min(columns, width // TILE_LEAST), min(rows, height // TILE_LEAST)
    xs, ys = grid_lines(width, columns, rng), grid_lines(height, rows, rng)
    layers: list[Layer] = []
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
            layer, b, k = place(
                (x0, y0, x1, y1),
                photo,
                (zoom * stretch, zoom / stretch),
                (rng.random(), rng.random()) if rng.random() < 0.8 else (0.0, 0.0),
                bool(rng.random() < 0.5),
                bool(zoom < 1 and rng.random() < 0.5),
            )
            layers.append(layer)
            boxes.append(b)
            kinds.append(k)
    all_boxes, all_kinds = np.concatenate(boxes), np.concatenate(kinds)
    if rng.random() < section.paste:
        pasted, all_boxes, all_kinds = paste_people(section.size, all_boxes, all_kinds, store, rng)
        layers += pasted
    return Sketch(section.size, tuple(layers), random_colours(rng), all_boxes, all_kinds)


def draw_sketches(
    store: PhotoStore, canvases: Sequence[CanvasSection], batch: int, rng: np.random.Generator
) -> list[Sketch]:
    """The sketches of one batch, all of the same size."""
    shares = np.array([canvas.share for canvas in canvases])
    chosen = canvases[rng.choice(len(canvases), p=shares / shares.sum())]
    return [draw_sketch(store, chosen, rng) for _ in range(batch)]


def pad_boxes(
    sketches: Sequence[Sketch], room: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Boxes (N, G, 4) and kinds (N, G) of a batch, the tallest `BOXES_MOST` of each canvas.

    G is ``room``, or else that of the fullest canvas.
    """
    largest = [np.argsort(one.boxes[:, 1] - one.boxes[:, 3])[:BOXES_MOST] for one in sketches]
    room = room or max(1, *(len(rows) for rows in largest))
    boxes = np.zeros((len(sketches), room, 4), np.float32)
    kinds = np.zeros((len(sketches), room), np.int8)
    for i, (one, rows) in enumerate(zip(sketches, largest, strict=True)):
        boxes[i, : len(rows)], kinds[i, : len(rows)] = one.boxes[rows], one.kinds[rows]
    return boxes, kinds


def draw_batch(
    store: PhotoStore, canvases: Sequence[CanvasSection], batch: int, seed: tuple[int, int]
) -> Batch:
    """Images (N, H, W, 3), boxes (N, G, 4) and kinds (N, G); a function of ``seed`` alone."""
    rng = np.random.default_rng(seed)
    sketches = draw_sketches(store, canvases, batch, rng)
    images = np.stack([paint(sketch, store, rng) for sketch in sketches])
    return images, *pad_boxes(sketches)
