"""What a source gives: one decoded picture and where it stands in time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = Literal["bt601", "bt709"]


@dataclass(frozen=True, slots=True)
class Nv12:
    """A picture as the decoder made it: luma (H, W) and chroma (H/2, W/2, 2: Cb, Cr) uint8."""

    luma: NDArray[np.uint8]
    chroma: NDArray[np.uint8]
    matrix: Matrix
    full_range: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    ``image`` is (H, W, 3) uint8 RGB, upright (rotation metadata applied). ``index`` counts
    the source's frames from 0, skipped ones included; ``time`` is in seconds on the
    source's clock and equals ``pts * time_base`` where the source has timestamps.
    ``nv12`` is the same picture in fewer bytes, where the decoder gave it so, for the way to a
    GPU. ``dropped`` is how many frames a live source has thrown away so far to stay current,
    ``arrived`` the `time.monotonic` instant at which a live frame was received, else None.
    """

    index: int
    time: float
    image: NDArray[np.uint8]
    pts: int | None = None
    time_base: Fraction | None = None
    dropped: int = 0
    arrived: float | None = None
    nv12: Nv12 | None = None
