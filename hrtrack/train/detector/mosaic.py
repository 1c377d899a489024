"""What a training canvas is made of, before it is rendered: photos in a grid and pasted people.

A mosaic's specification is a few numbers, so that a worker process can draw it, and it is rendered
where the pixels are (`hrtrack.train.detector.render`).

Photos of one person teach nothing of two who overlap (Ghiasi et al., "Simple Copy-Paste", CVPR
2021, who cut by masks; with boxes alone the corners are faded out instead).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...configs.detector_schema import MosaicSection
from ...models.detector.letterbox import FILL
from ..appearance import Blur, Compress, Look, Noise, Recolour, Saturate
from .photos import IGNORE, PERSON, Photo, PhotoStore

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

    def look(self) -> Look:
        """The same as steps of a painter."""
        lit = (self.gamma, self.gains, self.shift) != (1.0, (1.0, 1.0, 1.0), 0.0)
        return (
            Saturate(self.saturation) if self.saturation != 1 else None,
            Recolour(self.table()) if lit else None,
            Blur("deviation", self.blur) if self.blur else None,
            Noise(self.noise, coloured=True) if self.noise else None,
            Compress(self.jpeg) if self.jpeg else None,
        )

    def table(self) -> NDArray[np.uint8]:
        """The value (256, 3) that each value of each channel becomes."""
        ramp = np.arange(256, dtype=np.float32)[:, None]
        values = (ramp / 255) ** self.gamma * 255
        values = (values - FILL) * np.array(self.gains, np.float32) + FILL + self.shift
        table: NDArray[np.uint8] = values.clip(0, 255).round().astype(np.uint8)
        return table


@dataclass(frozen=True, slots=True)
class MosaicSpec:
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
    full_area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, dw)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, dh)
    size = boxes[:, 2:] - boxes[:, :2]
    seen = size.prod(-1) / np.maximum(full_area, 1e-3)
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


MOST = 4
TRIES = 6
TALL_LEAST = 48
"""Pixels of height that someone needs in their own photo to be pasted."""
ENLARGE_MOST = 1.6
MARGIN = 0.03
COVERED_MOST = 0.6
"""People of whom more than this share is behind someone pasted are ignored."""


def paste_people(
    canvas_hw: tuple[int, int],
    boxes: NDArray[np.float32],
    kinds: NDArray[np.int8],
    store: PhotoStore,
    rng: np.random.Generator,
) -> tuple[list[Layer], NDArray[np.float32], NDArray[np.int8]]:
    """Up to `MOST` people for a canvas; their layers, and all boxes (B, 4) and kinds."""
    layers: list[Layer] = []
    for _ in range(rng.integers(1, MOST + 1)):
        found = _cut_person(store, rng)
        if found is None:
            continue
        photo, cut, body = found
        mirrored = bool(rng.random() < 0.5)
        if mirrored:
            body = np.array([1 - body[2], body[1], 1 - body[0], body[3]])
        place = _place((cut[3] - cut[1], cut[2] - cut[0]), canvas_hw, boxes[kinds == PERSON], rng)
        if place is None:
            continue
        x0, y0, x1, y1 = place.astype(int).tolist()
        layers.append(Layer(photo.index, cut, (x0, y0, x1, y1), mirrored, smooth=True, faded=True))
        own = _within(place, body, canvas_hw)
        kinds = np.where(_covered(boxes, own) > COVERED_MOST, IGNORE, kinds)
        boxes = np.concatenate([boxes, own[None]])
        kinds = np.append(kinds, np.int8(PERSON)).astype(np.int8)
    return layers, boxes, kinds


def _cut_person(
    store: PhotoStore, rng: np.random.Generator
) -> tuple[Photo, Corners, NDArray[np.float64]] | None:
    """Somebody in a photo drawn by weight, with a margin where the photo has one.

    Returns the photo, the corners of the cut, and the person's box in shares of its sides.
    """
    for _ in range(TRIES):
        photo = store.draw(rng)
        size = photo.boxes[:, 2:] - photo.boxes[:, :2]
        tall = np.flatnonzero((photo.kinds == PERSON) & (size[:, 1] >= TALL_LEAST))
        if not len(tall):
            continue
        one = rng.choice(tall)
        pad = MARGIN * size[one]
        low = np.maximum(photo.boxes[one, :2] - pad, 0).astype(int)
        high = (photo.boxes[one, 2:] + pad).astype(int)
        sides = np.minimum(high, photo.image.shape[1::-1]) - low
        if sides.min() >= 16:
            body = (photo.boxes[one].reshape(2, 2) - low) / sides
            (x0, y0), (x1, y1) = low.tolist(), (low + sides).tolist()
            return photo, (x0, y0, x1, y1), body.clip(0, 1).reshape(4)
    return None


def _place(
    cut_hw: tuple[int, int],
    canvas_hw: tuple[int, int],
    people: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32] | None:
    """Where the cut goes: x0, y0, x1, y1, beside one of the ``people`` and about as tall."""
    height, width = cut_hw
    if len(people):
        x0, y0, x1, y1 = people[rng.integers(len(people))]
        tall = (y1 - y0) * np.exp(rng.uniform(-0.35, 0.35))
        middle = (x0 + x1) / 2 + (x1 - x0) * rng.choice([-1, 1]) * rng.uniform(0.25, 1.1)
        bottom = y1 + (y1 - y0) * rng.normal(0, 0.12)
    else:
        tall = canvas_hw[0] * np.exp(rng.uniform(np.log(0.15), np.log(0.9)))
        middle, bottom = rng.random() * canvas_hw[1], canvas_hw[0] * rng.uniform(0.5, 1.1)
    tall = min(tall * (1 + 2 * MARGIN), height * ENLARGE_MOST)
    wide = tall * width / height * np.exp(rng.uniform(-0.1, 0.1))
    place = np.array([middle - wide / 2, bottom - tall, middle + wide / 2, bottom], np.float32)
    place = place.round()
    seen_w = min(place[2], canvas_hw[1]) - max(place[0], 0)
    seen_h = min(place[3], canvas_hw[0]) - max(place[1], 0)
    least = 0.4 * (place[2] - place[0]) * (place[3] - place[1])
    if seen_w < 8 or seen_h < 12 or seen_w * seen_h < least:
        return None
    return place


def _within(
    place: NDArray[np.float32], body: NDArray[np.float64], canvas_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """The person's box on the canvas: ``body``'s shares of ``place``, cut at the edges."""
    box = (place[:2] + body.reshape(2, 2) * (place[2:] - place[:2])).reshape(4)
    cut: NDArray[np.float32] = np.minimum(np.maximum(box, 0), canvas_hw[::-1] * 2)
    return cut.astype(np.float32)


def _covered(boxes: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of each box (B, 4) that lies behind another (4,)."""
    low, high = np.maximum(boxes[:, :2], by[:2]), np.minimum(boxes[:, 2:], by[2:])
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(-1), 1e-3)
    shared: NDArray[np.float32] = (high - low).clip(min=0).prod(-1) / area
    return shared


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


def random_mosaic(
    store: PhotoStore, section: MosaicSection, rng: np.random.Generator
) -> MosaicSpec:
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
    return MosaicSpec(section.size, tuple(layers), random_colours(rng), all_boxes, all_kinds)


def random_mosaics(
    store: PhotoStore, canvases: Sequence[MosaicSection], batch: int, rng: np.random.Generator
) -> list[MosaicSpec]:
    """The mosaics of one batch, all of the same size."""
    shares = np.array([canvas.share for canvas in canvases])
    chosen = canvases[rng.choice(len(canvases), p=shares / shares.sum())]
    return [random_mosaic(store, chosen, rng) for _ in range(batch)]


def pad_boxes(
    mosaics: Sequence[MosaicSpec], room: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Boxes (N, G, 4) and kinds (N, G) of a batch, the tallest `BOXES_MOST` of each canvas.

    G is ``room``, or else that of the fullest canvas.
    """
    largest = [np.argsort(one.boxes[:, 1] - one.boxes[:, 3])[:BOXES_MOST] for one in mosaics]
    room = room or max(1, *(len(rows) for rows in largest))
    boxes = np.zeros((len(mosaics), room, 4), np.float32)
    kinds = np.zeros((len(mosaics), room), np.int8)
    for i, (one, rows) in enumerate(zip(mosaics, largest, strict=True)):
        boxes[i, : len(rows)], kinds[i, : len(rows)] = one.boxes[rows], one.kinds[rows]
    return boxes, kinds
