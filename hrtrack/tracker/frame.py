"""What a source gives: one decoded picture and where it stands in time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    ``image`` is (H, W, 3) uint8 RGB, upright (rotation metadata applied). ``index`` counts
    the source's frames from 0, skipped ones included; ``time`` is in seconds on the
    source's clock and equals ``pts * time_base`` where the source has timestamps.
    ``dropped`` is how many frames a live source has thrown away so far to stay current,
    ``arrived`` the `time.monotonic` instant at which a live frame was received, else None.
    """

    index: int
    time: float
    image: NDArray[np.uint8]
    pts: int | None = None
    time_base: Fraction | None = None
    dropped: int = 0
    arrived: float | None = None
