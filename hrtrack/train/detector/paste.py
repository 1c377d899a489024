"""People of other photos pasted beside and before those of a canvas: groups that cover each other.

Photos of one person teach nothing of two who overlap (Ghiasi et al., "Simple Copy-Paste", CVPR
2021, who cut by masks; with boxes alone the corners are faded out instead).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .photos import IGNORE, PERSON, Photo, PhotoStore
from .sketch import Corners, Layer

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
