"""Where a film is cut: the picture has nothing to do with the one before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ...types import Float32Array

Spectra = NDArray[np.complex128]
SAMPLES = 5000
"""So many pixels stand for a picture, whatever its size."""
CELLS_HW = (18, 32)
"""Rows and columns of cells of which the mean colours are compared."""
PADDED = (2 * CELLS_HW[0], 2 * CELLS_HW[1])
ONES: Spectra = np.fft.rfft2(np.ones(CELLS_HW), PADDED)
COUNT = np.maximum(np.fft.irfft2(ONES * ONES.conj(), PADDED), 1.0)
"""How many cells two pictures have in common at each shift."""
FLAT = 6.0
"""A picture whose grey levels deviate less from their mean, as a black one, says nothing."""
WHITE, DAZZLED, DAZZLE_FRAMES = 250, 0.35, 5
"""So large a share of the cells turned white is a flash, for so many frames at most."""


@dataclass(frozen=True)
class CutOptions:
    """Similarities are correlations, at most 1; the figures behind them stand in the tests' clips
    and in docs/tracking.md."""

    surely_same: float = 0.8
    """Cells that correlate so well in place need no closer look."""
    same: float = 1.53
    """A cut leaves less similarity than this: the best correlation of the shifted cells plus the
    common part of the colour histograms."""
    drop: float = 0.15
    """And less by this than the frames before left, as fast pans at few frames a second do."""
    overlap: float = 0.4
    """The shifts that are tried leave so large a share of the picture in common."""


@dataclass
class _View:
    """A picture in few numbers: samples (h, w, 3) uint8 and mean colours (18, 32, 3) of cells.

    What only a closer look needs is computed when it is asked for, and once.
    """

    samples: NDArray[np.uint8]
    cells: Float32Array
    grey: Float32Array

    @cached_property
    def histogram(self) -> Float32Array:
        return _histogram(self.samples)

    @cached_property
    def spectra(self) -> Spectra:
        """Of the grey levels (18, 32) less their mean, and of their squares."""
        values = self.grey - self.grey.mean()
        return np.fft.rfft2(np.stack([values, values**2]), PADDED)


class CutDetector:
    """Tells hard cuts of one stream from everything else that changes a picture.

    Each picture is compared with the last one on which there was something to see, so that a few
    black frames in between, or the flash of a camera, make no difference. The comparison takes no
    notice of brightness and contrast (a fade), nor of where things are in the picture (shaking and
    panning). A cross-fade is no hard cut; a short one may count as one.
    """

    def __init__(self, options: CutOptions | None = None) -> None:
        self.options = options or CutOptions()
        self._before: _View | None = None
        self._usual = 2.0
        self._dazzled = 0

    def update(self, image_HW3: NDArray[np.uint8]) -> bool:
        """Whether the next picture of the stream, (H, W, 3) uint8, is the first after a cut."""
        view = _view(image_HW3)
        before = self._before
        if view.grey.std() < FLAT or self._is_flash(view, before):
            return False
        self._before = view
        if before is None:
            return False
        similarity = self.similarity(before, view)
        cut = similarity < min(self.options.same, self._usual - self.options.drop)
        # After a cut, nothing is known yet of how much moves in the new picture.
        self._usual = 2.0 if cut else self._usual + 0.3 * (similarity - self._usual)
        return cut

    def similarity(self, one: _View, other: _View) -> float:
        """How alike two pictures are, from about 0 to 2."""
        in_place = _correlation(one.cells, other.cells)
        if in_place > self.options.surely_same:
            return 2.0 * in_place
        shifted = _best_shifted(one.spectra, other.spectra, self.options.overlap)
        common = np.minimum(one.histogram, other.histogram).sum()
        return max(shifted, in_place) + float(common)

    def _is_flash(self, view: _View, before: _View | None) -> bool:
        share = float((view.grey > WHITE).mean())
        usual = 0.0 if before is None else float((before.grey > WHITE).mean())
        dazzled = before is not None and share - usual > DAZZLED
        self._dazzled = self._dazzled + 1 if dazzled else 0
        return 0 < self._dazzled <= DAZZLE_FRAMES


def _view(image_HW3: NDArray[np.uint8]) -> _View:
    height, width = image_HW3.shape[:2]
    step = max(1, round((height * width / SAMPLES) ** 0.5))
    # Single pixels, for touching every one of them would cost more than all the rest.
    samples = np.ascontiguousarray(image_HW3[step // 2 :: step, step // 2 :: step])
    if not samples.size:
        samples = np.ascontiguousarray(image_HW3[:1, :1])
    size = CELLS_HW[::-1]
    cells = cv2.resize(samples, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return _View(samples, cells, cells.mean(axis=2))


def _correlation(one: Float32Array, other: Float32Array) -> float:
    """Pearson's, of all numbers of two arrays."""
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-6))


def _best_shifted(one: Spectra, other: Spectra, overlap: float) -> float:
    """The best of Pearson's correlations of the common part at every shift of two pictures.

    All sums over common parts come from Fourier transforms of padded arrays, as in Padfield,
    "Masked object registration in the Fourier domain" (IEEE TIP 2012).
    """
    (a, aa), (b, bb) = one, other.conj()
    ones = ONES.conj()
    products = np.stack([a * b, a * ones, aa * ones, ONES * b, ONES * bb])
    ab, sum_a, sum_aa, sum_b, sum_bb = np.fft.irfft2(products, PADDED)
    spread = (sum_aa - sum_a**2 / COUNT) * (sum_bb - sum_b**2 / COUNT)
    # Where the common part is flat, a correlation says nothing.
    varied = (overlap * COUNT.max() <= COUNT) & (spread > (FLAT**2 * COUNT) ** 2)
    found = (ab - sum_a * sum_b / COUNT)[varied] / np.sqrt(spread[varied])
    return float(found.max(initial=0.0))


def _histogram(samples: NDArray[np.uint8]) -> Float32Array:
    """Shares (8, 8, 8) of colours, at a set mean and contrast, spread over neighbouring bins."""
    flat = samples.reshape(-1, 3).astype(np.float32)
    grey = flat.mean(axis=1)
    flat = (flat - grey.mean()) * (50.0 / max(float(grey.std()), 1.0)) + 128.0
    bins = np.clip(flat, 0, 255).astype(np.int64) >> 5
    places = bins @ np.array([64, 8, 1])
    counts = np.bincount(places, minlength=512).reshape(8, 8, 8).astype(np.float32)
    for axis in range(3):
        # Half stays, a quarter goes to each neighbour, at the ends back into the bin itself.
        padded = np.pad(counts, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
        moved = np.moveaxis(padded, axis, 0)
        counts = np.moveaxis(0.25 * moved[:-2] + 0.5 * moved[1:-1] + 0.25 * moved[2:], 0, axis)
    return (counts / len(flat)).astype(np.float32)
