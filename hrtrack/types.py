"""Array types by the kind of their numbers, and what detectors give; shapes stand in names and
docstrings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
"""Any floating-point numbers: arithmetic that serves float32 and float64 alike."""
Float32Array = NDArray[np.float32]
"""What networks, files and results hold."""
Float64Array = NDArray[np.float64]
"""What is computed over many frames: motion, association, smoothing."""
IntArray = NDArray[np.int64]
"""Row numbers and identities."""
BoolArray = NDArray[np.bool_]
ByteArray = NDArray[np.uint8]
"""Pixels."""
Detections = tuple[Float32Array, Float32Array]
"""People found in a picture: boxes (N, 4) x0, y0, x1, y1 in its pixels, and scores (N,)."""
Detect = Callable[[ByteArray], Detections]
"""A person detector as a function of an RGB picture (H, W, 3)."""
