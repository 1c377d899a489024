"""Mirror images of crops that a network's cells fall on exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .decode import STRIDE


def mirrored(crops_NHW3: NDArray[np.uint8], border: int = 0) -> NDArray[np.uint8]:
    """The mirror images of crops (N, H, W, 3) about the middle of their heatmap cells.

    Cell u stands for pixel 4 u, and reversing all W columns puts it at W - 1 - 4 u, between
    two cells: Huang et al. ("The Devil is in the Details", CVPR 2020, UDP) show what that costs.
    About the middle of the cells pixel x goes to W - 4 - x, for which the first three columns
    leave the crop and three of the grey level ``border`` enter.
    """
    spare = STRIDE - 1
    turned = np.full_like(crops_NHW3, border)
    turned[:, :, :-spare] = crops_NHW3[:, :, ::-1][:, :, spare:]
    return turned
