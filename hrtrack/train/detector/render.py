"""Renders mosaics: by OpenCV on a CPU, or beside the network from photos in a GPU's memory.

Rendering a canvas with OpenCV takes a core several milliseconds, more than a GPU needs to learn
from it. Here a canvas is one look-up a pixel: which layer is seen, and which four pixels of its
photo. Shrunk photos are read from copies at a half, a quarter and an eighth of the size. All of it
is what `render` does by OpenCV, within a few grey values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ...configs.detector_schema import MosaicSection
from ...models.detector.letterbox import FILL
from .. import appearance
from ..appearance import Look
from .mosaic import MOST, TILES_MOST, Batch, Layer, MosaicSpec, pad_boxes, random_mosaics
from .photos import PhotoStore

FADE, REACH = 6.0, 1.15
"""How sharply a pasted person fades towards the corners of its box, and from where on."""


def render(mosaic: MosaicSpec, store: PhotoStore, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The canvas (H, W, 3); ``rng`` draws the noise."""
    canvas = np.full((*mosaic.size, 3), FILL, np.uint8)
    for layer in mosaic.layers:
        paste_layer(canvas, store.image(layer.photo), layer)
    return appearance.paint(canvas, mosaic.colours.look(), rng)


def paste_layer(canvas: NDArray[np.uint8], image: NDArray[np.uint8], layer: Layer) -> None:
    """Pastes one layer, whose photo is ``image``, over what is there."""
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


LEVELS = 4
"""A photo's copies: at its size, half of it, and so on."""
COPIES = sum(0.25**level for level in range(LEVELS))
FREE_SHARE = 0.4
"""The photos may take this much of a GPU's free memory."""
CHUNK = 64
"""Canvases rendered at once."""
LOAD = 64 << 20


class MosaicTensors(NamedTuple):
    """A batch of mosaics as numbers, which travel between processes and to a device.

    A row of ``tiles`` (N, 12, 11) and ``pasted`` (N, 4, 11) is a layer: photo, copy, x0, y0, x1, y1
    of the source and of the target, and whether it is mirrored. ``frame``: height, width, seed.
    """

    tiles: Tensor
    pasted: Tensor
    frame: Tensor
    looks: list[Look]


def mosaic_tensors(mosaics: Sequence[MosaicSpec], seed: int) -> MosaicTensors:
    """Mosaics of one size as tensors for a device; ``seed`` is that of the noise."""
    tiles = np.zeros((len(mosaics), TILES_MOST, 11), np.int32)
    pasted = np.zeros((len(mosaics), MOST, 11), np.int32)
    for i, mosaic in enumerate(mosaics):
        for faded, rows in ((False, tiles), (True, pasted)):
            layers = [layer for layer in mosaic.layers if layer.faded == faded]
            for row, layer in zip(rows[i], layers, strict=False):
                row[:] = _row(layer)
    height, width = mosaics[0].size
    frame = np.array([height, width, seed], np.int64)
    return MosaicTensors(
        torch.from_numpy(tiles),
        torch.from_numpy(pasted),
        torch.from_numpy(frame),
        [mosaic.colours.look() for mosaic in mosaics],
    )


def _row(layer: Layer) -> tuple[int, ...]:
    (sx0, sy0, sx1, sy1), (x0, y0, x1, y1) = layer.source, layer.target
    shrinks = math.sqrt((sx1 - sx0) * (sy1 - sy0) / ((x1 - x0) * (y1 - y0)))
    copy = min(max(round(math.log2(shrinks)), 0), LEVELS - 1) if layer.smooth else 0
    return layer.photo, copy, *layer.source, *layer.target, int(layer.mirrored)


def fits(store: PhotoStore, device: torch.device) -> bool:
    """Whether a GPU has the memory for all photos and their copies."""
    free, _ = torch.cuda.mem_get_info(device)
    return store.pixels.size * COPIES < FREE_SHARE * free


@dataclass(slots=True)
class _Taps:
    """Where the pixels of N x L layers come from: along x (N, L, W), along y (N, L, H)."""

    left: Tensor
    right: Tensor
    across: Tensor
    covers_x: Tensor
    top: Tensor
    bottom: Tensor
    down: Tensor
    covers_y: Tensor


class DeviceRenderer:
    """Renders batches of mosaics on ``device``, with the photos of ``store`` copied there."""

    def __init__(self, store: PhotoStore, device: torch.device) -> None:
        self.device = device
        sizes = np.array([(entry["height"], entry["width"]) for entry in store.entries])
        halved = [-(-sizes // 2**level) for level in range(LEVELS)]
        counts = np.stack([size.prod(1) for size in halved], 1)
        starts = np.concatenate([[0], counts.T.ravel().cumsum()])
        self._pixels = torch.empty((int(starts[-1]), 3), dtype=torch.uint8, device=device)
        whole = self._pixels[: counts[:, 0].sum()].view(-1)
        for first in range(0, len(whole), LOAD):
            part = np.array(store.pixels[first : first + LOAD])
            whole[first : first + len(part)] = torch.from_numpy(part).to(device)
        offsets = starts[:-1].reshape(LEVELS, -1).T
        for photo in range(len(sizes)):
            self._shrink(offsets[photo], [tuple(size[photo]) for size in halved])
        self._offsets = torch.from_numpy(offsets).to(device)
        self._widths = torch.from_numpy(np.stack([size[:, 1] for size in halved], 1)).to(device)

    def _shrink(self, offsets: NDArray[np.int64], sizes: list[tuple[int, int]]) -> None:
        """Writes a photo's smaller copies."""
        views = [
            self._pixels[start : start + h * w].view(h, w, 3)
            for start, (h, w) in zip(offsets, sizes, strict=True)
        ]
        image = views[0].permute(2, 0, 1)[None].float()
        for view in views[1:]:
            image = F.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)
            view.copy_(image[0].permute(1, 2, 0).round())

    def __call__(self, mosaics: MosaicTensors) -> Tensor:
        """The canvases (N, H, W, 3), uint8 RGB on the device."""
        height, width, seed = mosaics.frame.tolist()
        dice = torch.Generator(self.device).manual_seed(seed)
        done = []
        for first in range(0, len(mosaics.tiles), CHUNK):
            some = slice(first, first + CHUNK)
            images = self._tiled(self._on(mosaics.tiles[some]), height, width)
            for number in range(MOST):
                rows = mosaics.pasted[some, number]
                there = (rows[:, 8] > rows[:, 6]).nonzero()[:, 0]
                if len(there):
                    layers, at = self._on(rows[there][:, None]), self._on(there)
                    images[at] = self._pasted(images[at], layers)
            canvases = images.round().clamp(0, 255).to(torch.uint8)
            done.append(appearance.paint_all(canvases, mosaics.looks[some], dice))
        return torch.cat(done)

    def _on(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _taps(self, layers: Tensor, height: int, width: int) -> _Taps:
        """Of layers (N, L, 11) on a canvas of that size."""
        photo, copy, *corners, mirrored = layers.long().unbind(-1)
        (sx0, sy0, sx1, sy1, x0, y0, x1, y1), shrink = corners, 2**copy
        start, stride = self._offsets[photo, copy], self._widths[photo, copy]
        across = _along(width, x0, x1, sx0, sx1, shrink, mirrored > 0)
        down = _along(height, y0, y1, sy0, sy1, shrink, torch.zeros_like(mirrored > 0))
        row, column = start[..., None], stride[..., None]
        return _Taps(*across, row + down[0] * column, row + down[1] * column, *down[2:])

    def _tiled(self, layers: Tensor, height: int, width: int) -> Tensor:
        """Canvases (N, H, W, 3), float, from layers (N, L, 11) beside each other."""
        taps = self._taps(layers, height, width)
        covers = taps.covers_x[:, :, None, :] & taps.covers_y[:, :, :, None]
        seen, layer = covers.to(torch.uint8).max(1)
        canvas = torch.arange(len(layers), device=self.device)[:, None, None]
        x = torch.arange(width, device=self.device)
        y = torch.arange(height, device=self.device)[:, None]
        left, right, across = (
            table[canvas, layer, x] for table in (taps.left, taps.right, taps.across)
        )
        top, bottom, down = (
            table[canvas, layer, y] for table in (taps.top, taps.bottom, taps.down)
        )
        images = self._mixed(left, right, across, top, bottom, down)
        return torch.where(seen[..., None] > 0, images, float(FILL))

    def _pasted(self, images: Tensor, layers: Tensor) -> Tensor:
        """Canvases (M, H, W, 3) with one faded layer (M, 1, 11) over each."""
        height, width = images.shape[1:3]
        taps = self._taps(layers, height, width)
        left, right, across = (t[:, 0, None, :] for t in (taps.left, taps.right, taps.across))
        top, bottom, down = (t[:, 0, :, None] for t in (taps.top, taps.bottom, taps.down))
        over = self._mixed(left, right, across, top, bottom, down)
        x0, y0, x1, y1 = layers[:, 0, 6:10].float().unbind(-1)
        share = REACH - _out(width, x0, x1)[:, None, :] - _out(height, y0, y1)[:, :, None]
        covers = taps.covers_x[:, 0, None, :] & taps.covers_y[:, 0, :, None]
        share = ((share * FADE).clamp(0, 1) * covers)[..., None]
        return torch.lerp(images, over, share)

    def _mixed(
        self, left: Tensor, right: Tensor, across: Tensor, top: Tensor, bottom: Tensor, down: Tensor
    ) -> Tensor:
        """Four pixels' mean (N, H, W, 3); their columns and rows broadcast to (N, H, W)."""
        rows = [
            torch.lerp(
                self._pixels[row + left].float(),
                self._pixels[row + right].float(),
                across[..., None],
            )
            for row in (top, bottom)
        ]
        return torch.lerp(rows[0], rows[1], down[..., None])


def _along(
    length: int,
    low: Tensor,
    high: Tensor,
    source_low: Tensor,
    source_high: Tensor,
    shrink: Tensor,
    mirrored: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Along a side of layers (N, L): the pixel before, the one after, its share, the cover."""
    place = torch.arange(length, device=low.device)
    covers = (place >= low[..., None]) & (place < high[..., None])
    extent = (high - low).clamp(min=1)[..., None]
    along = (place + 0.5 - low[..., None]) / extent
    along = torch.where(mirrored[..., None], 1 - along, along)
    at = (source_low[..., None] + along * (source_high - source_low)[..., None]) / shrink[..., None]
    first = source_low // shrink
    last = torch.maximum((source_high + shrink - 1) // shrink - 1, first)
    at = torch.minimum((at - 0.5).clamp(min=first[..., None]), last[..., None].to(at.dtype))
    before = at.floor()
    after = torch.minimum(before + 1, last[..., None].to(at.dtype))
    return before.long(), after.long(), (at - before).float(), covers


def _out(length: int, low: Tensor, high: Tensor) -> Tensor:
    """How far out of the middle of ``low`` to ``high`` (M,) each pixel is, to the fourth power."""
    place = torch.arange(length, device=low.device, dtype=torch.float32)
    reach = (high - low - 1).clamp(min=1)[:, None]
    return (2 * (place - low[:, None]) / reach - 1) ** 4


def render_batch(
    store: PhotoStore, canvases: Sequence[MosaicSection], batch: int, seed: tuple[int, int]
) -> Batch:
    """Images (N, H, W, 3), boxes (N, G, 4) and kinds (N, G); a function of ``seed`` alone."""
    rng = np.random.default_rng(seed)
    mosaics = random_mosaics(store, canvases, batch, rng)
    images = np.stack([render(mosaic, store, rng) for mosaic in mosaics])
    return images, *pad_boxes(mosaics)
