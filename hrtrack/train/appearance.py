"""What light, lenses and files do to training pictures: drawn once, painted in either of two ways.

A look is a tuple of steps (`Look`) that some other module draws. `paint` applies it to one picture
with OpenCV, as a loader on a CPU wants it; `paint_all` to a batch of tensors on whatever device.
Both round to whole grey values after every step, so that they differ by a few of them at most
(`tests/train/test_appearance.py`); only noise is of a generator of each one's own.

Two painters are there because of the detector's speed on two CPU cores: a canvas of 320x320 costs
a core 1.7 ms by OpenCV, 6.6 with its look on tensors and 23 with all of it (`DeviceRenderer`),
beside 39 to learn from it, so that a training would make .89 or .65 times the canvases a second. A
pose training on tensors alone reaches .91 to .95 times the crops, but a loader on a CPU would feed
a GPU at half the rate (`benchmarks/painters.py`, Xeon with AMX, 2026-11-29).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..types import ByteArray

GREY = 0.299, 0.587, 0.114
"""Red's, green's and blue's shares of grey, of ITU-R BT.601."""


class Step(Protocol):
    """One change of a picture; all of its numbers are drawn already."""

    def paint(self, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
        """The picture (H, W, 3) changed, by OpenCV; ``rng`` draws noise."""
        ...

    @staticmethod
    def paint_all(pictures: Tensor, steps: Sequence[Any], dice: torch.Generator) -> Tensor:
        """Pictures (M, H, W, 3), float, each changed by its own step of this kind."""
        ...


Look = tuple[Step | None, ...]
"""Steps in order. In a batch those at the same place are of the same kind; None leaves one out."""


def paint(picture: ByteArray, look: Look, rng: np.random.Generator) -> ByteArray:
    """A picture (H, W, 3) uint8 RGB with all steps done."""
    for step in look:
        if step is not None:
            picture = step.paint(picture, rng)
    return picture


def paint_all(pictures: Tensor, looks: Sequence[Look], dice: torch.Generator) -> Tensor:
    """Pictures (N, H, W, 3) uint8 RGB on any device, each with its own look.

    ``dice`` draws noise, on the pictures' device.
    """
    pictures = pictures.clone()
    for column in zip(*looks, strict=True):
        chosen = [(row, step) for row, step in enumerate(column) if step is not None]
        if chosen:
            rows = torch.tensor([row for row, _ in chosen]).to(pictures.device, non_blocking=True)
            steps = [step for _, step in chosen]
            changed = type(steps[0]).paint_all(pictures[rows].float(), steps, dice)
            pictures[rows] = changed.round().clamp(0, 255).to(torch.uint8)
    return pictures


BlurKind = Literal["shrunk", "size", "deviation", "across", "down"]


@dataclass(frozen=True, slots=True)
class Blur:
    """``shrunk`` to the share ``amount`` and enlarged again; a Gaussian of a ``size`` of 3 or 5
    pixels or of a ``deviation``; or moved by ``amount`` pixels ``across`` or ``down``."""

    kind: BlurKind
    amount: float

    def paint(self, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
        """See `Step`."""
        if self.kind == "shrunk":
            height, width = picture.shape[:2]
            share = self.amount
            small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
            return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.kind == "size":
            return cv2.GaussianBlur(picture, (int(self.amount),) * 2, 0)
        if self.kind == "deviation":
            return cv2.GaussianBlur(picture, (0, 0), self.amount)
        length = int(self.amount)
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        return cv2.filter2D(picture, -1, kernel if self.kind == "across" else kernel.T)

    @staticmethod
    def paint_all(pictures: Tensor, steps: Sequence[Blur], dice: torch.Generator) -> Tensor:
        """See `Step`. All kinds are separable and linear: a matrix a side."""
        height, width = pictures.shape[1:3]
        down = _mixing(steps, height, pictures.device, vertical=True)
        across = _mixing(steps, width, pictures.device, vertical=False)
        pictures = (down @ pictures.flatten(2)).view_as(pictures)
        turned = pictures.transpose(1, 2)
        return (across @ turned.flatten(2)).view_as(turned).transpose(1, 2)

    def taps(self, vertical: bool) -> NDArray[np.float32]:
        """Weights of the pixels around one, along a side; (2 REACH + 1,)."""
        steps = np.arange(-REACH, REACH + 1)
        weights = np.asarray(steps == 0, np.float32)
        if self.kind == "size":
            row = [1, 2, 1] if self.amount == 3 else [1, 4, 6, 4, 1]
            weights[np.abs(steps) <= len(row) // 2] = row
        elif self.kind == "deviation":
            # OpenCV's kernel of a picture of bytes reaches three deviations far.
            reach = round(self.amount * 6 + 1) // 2
            weights = np.exp(-0.5 * (steps / self.amount) ** 2) * (np.abs(steps) <= reach)
        elif self.kind == ("down" if vertical else "across"):
            weights = np.asarray(np.abs(steps) <= self.amount // 2, np.float32)
        return (weights / weights.sum()).astype(np.float32)


REACH = 4
"""Pixels on either side of the widest kernel."""


def _mixing(steps: Sequence[Blur], length: int, device: torch.device, *, vertical: bool) -> Tensor:
    """What a side's pixels are mixed of: (M, length, length)."""
    pixel = torch.arange(length, device=device)
    # Beyond the edge OpenCV mirrors the picture, without repeating the outermost pixel.
    near = (pixel[:, None] + torch.arange(-REACH, REACH + 1, device=device)).abs()
    near = torch.where(near >= length, 2 * (length - 1) - near, near)
    taps = torch.from_numpy(np.stack([step.taps(vertical) for step in steps])).to(device)
    mixing = torch.zeros((len(steps), length, length), device=device)
    mixing.scatter_add_(
        2, near.expand(len(steps), -1, -1), taps[:, None].expand(-1, length, -1).contiguous()
    )
    shrunk = [row for row, step in enumerate(steps) if step.kind == "shrunk"]
    if shrunk:
        shares = torch.tensor([steps[row].amount for row in shrunk]).to(device)[:, None]
        mixing[shrunk] = _shrunk(shares, length)
    return mixing


def _shrunk(shares: Tensor, length: int) -> Tensor:
    """What pixels are mixed of in a picture shrunk by ``shares`` (M, 1) by areas, then enlarged
    linearly: (M, length, length)."""
    pixel = torch.arange(length, device=shares.device)
    count = (shares * length).round()
    place = ((pixel + 0.5) * count / length - 0.5).clamp(min=0)
    first = torch.minimum(place.floor(), count - 1)
    second = torch.minimum(first + 1, count - 1)
    part = (place - first)[..., None]

    def averaged(small: Tensor) -> Tensor:
        low, high = small / shares, ((small + 1) / shares).clamp(max=length)
        inside = torch.minimum(pixel + 1, high[..., None]) - torch.maximum(pixel, low[..., None])
        inside = inside.clamp(min=0)
        return inside / inside.sum(2, keepdim=True)

    return torch.lerp(averaged(first), averaged(second), part)


@dataclass(frozen=True, slots=True)
class Recolour:
    """Every value of each channel becomes that of a ``table`` (256, 3) uint8."""

    table: ByteArray

    def paint(self, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
        """See `Step`."""
        return cv2.LUT(picture, self.table[None])

    @staticmethod
    def paint_all(pictures: Tensor, steps: Sequence[Recolour], dice: torch.Generator) -> Tensor:
        """See `Step`."""
        tables = np.stack([step.table for step in steps]).transpose(0, 2, 1)
        there = torch.from_numpy(np.ascontiguousarray(tables)).to(pictures.device)
        planes = pictures.permute(0, 3, 1, 2).flatten(2).long()
        found = there.gather(2, planes).view(len(steps), 3, *pictures.shape[1:3])
        return found.permute(0, 2, 3, 1).float()


@dataclass(frozen=True, slots=True)
class Saturate:
    """Grey is mixed in: ``share`` of the colours stay, 0 leaves none, more than 1 adds to them."""

    share: float

    def paint(self, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
        """See `Step`."""
        grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self.share == 0:
            return grey
        return cv2.addWeighted(picture, self.share, grey, 1 - self.share, 0)

    @staticmethod
    def paint_all(pictures: Tensor, steps: Sequence[Saturate], dice: torch.Generator) -> Tensor:
        """See `Step`."""
        shares = torch.tensor([step.share for step in steps]).to(pictures.device)
        weights = torch.tensor(GREY).to(pictures.device)
        grey = (pictures @ weights)[..., None].round()
        return torch.lerp(grey, pictures, shares[:, None, None, None])


@dataclass(frozen=True, slots=True)
class Noise:
    """Normal noise of that ``deviation`` in grey values, for each channel by itself if
    ``coloured``."""

    deviation: float
    coloured: bool

    def paint(self, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
        """See `Step`."""
        shape = (*picture.shape[:2], 3 if self.coloured else 1)
        noise = rng.normal(0, self.deviation, shape).astype(np.int16)
        return (picture + noise).clip(0, 255).astype(np.uint8)

    @staticmethod
    def paint_all(pictures: Tensor, steps: Sequence[Noise], dice: torch.Generator) -> Tensor:
        """See `Step`."""
        deviations = torch.tensor([step.deviation for step in steps]).to(pictures.device)
        shape = (*pictures.shape[:3], 3 if steps[0].coloured else 1)
        noise = torch.randn(shape, generator=dice, device=pictures.device)
        return pictures + (noise * deviations[:, None, None, None]).trunc()


@dataclass(frozen=True, slots=True)
class Compress:
    """Written as JPEG of that ``quality``, 1 to 100, and read again."""

    quality: int

    def paint(self, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
        """See `Step`."""
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)

    @staticmethod
    def paint_all(pictures: Tensor, steps: Sequence[Compress], dice: torch.Generator) -> Tensor:
        """See `Step`. What JPEG loses (ITU-T T.81), without its coding: cosine transforms of 8 by 8
        pixels, rounded to the steps of a table, and colours at half the size."""
        device = pictures.device
        height, width = pictures.shape[1:3]
        planes = pictures.permute(0, 3, 1, 2)
        planes = F.pad(planes, (0, -width % 16, 0, -height % 16), mode="replicate")
        # OpenCV takes the first channel for blue, as in its own pictures.
        blue, green, red = planes.unbind(1)
        light = GREY[0] * red + GREY[1] * green + GREY[2] * blue
        tints = torch.stack([(blue - light) / 1.772, (red - light) / 1.402], 1)
        tables = np.stack([_tables(step.quality) for step in steps])
        there = torch.from_numpy(tables).to(device)
        light = _quantised((light - 128).round()[:, None], there[:, :1])[:, 0] + 128
        tints = _quantised(F.avg_pool2d(tints, 2).round(), there[:, 1:])
        tints = F.interpolate(tints, scale_factor=2, mode="bilinear", align_corners=False)
        blue, red = light + 1.772 * tints[:, 0], light + 1.402 * tints[:, 1]
        green = (light - GREY[0] * red - GREY[2] * blue) / GREY[1]
        return torch.stack([blue, green, red], 3)[:, :height, :width]


@cache
def _tables(quality: int) -> NDArray[np.float32]:
    """Steps of the coefficients of light and of colour, (2, 8, 8): Annex K of T.81, scaled to a
    quality as the Independent JPEG Group's library does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (np.array([LIGHT, TINT]).reshape(2, 8, 8) * scale + 50) // 100
    return steps.clip(1, 255).astype(np.float32)


LIGHT = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
TINT = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes (M, C, h, w) of which only multiples of ``steps`` (M, C or 1, 8, 8) are left."""
    at = np.arange(8)
    cosines = np.cos((2 * at + 1) * at[:, None] * np.pi / 16) / 2
    cosines[0] /= np.sqrt(2)
    basis = torch.from_numpy(cosines.astype(np.float32)).to(planes.device)
    count, channels, height, width = planes.shape
    rows, columns = height // 8, width // 8
    # One large product along each side: one of 8 by 8 for every block takes a CPU twice as long.
    found = basis @ planes.view(count, channels, rows, 8, width)
    found = found.view(count, channels, rows, 8, columns, 8) @ basis.T
    steps = steps[:, :, None, :, None]
    found = ((found / steps).round() * steps) @ basis
    found = basis.T @ found.view(count, channels, rows, 8, width)
    return found.view(planes.shape).round()


Rectangle = tuple[int, int, int, int, tuple[int, int, int] | None, tuple[int, int]]
"""Top, left, height and width; its colour, or from which top and left it shows the picture."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Things in the way: rectangles, one after the other, of one colour or of another part of the
    picture."""

    rectangles: tuple[Rectangle, ...]

    def paint(self, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
        """See `Step`."""
        picture = picture.copy()
        for y, x, h, w, colour, (v, u) in self.rectangles:
            part = picture[v : v + h, u : u + w].copy() if colour is None else colour
            picture[y : y + h, x : x + w] = part
        return picture

    @staticmethod
    def paint_all(pictures: Tensor, steps: Sequence[Cover], dice: torch.Generator) -> Tensor:
        """See `Step`."""
        colours = [colour or (0, 0, 0) for step in steps for *_, colour, _ in step.rectangles]
        there = iter(torch.tensor(colours, dtype=pictures.dtype).to(pictures.device))
        for picture, step in zip(pictures, steps, strict=True):
            for y, x, h, w, colour, (v, u) in step.rectangles:
                plain = next(there)
                part = picture[v : v + h, u : u + w].clone() if colour is None else plain
                picture[y : y + h, x : x + w] = part
        return pictures
