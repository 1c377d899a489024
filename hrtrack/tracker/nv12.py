"""NV12 pictures to RGB on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from .frame import Matrix

LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
}
"""Weights of red and blue in the luma (ITU-R BT.601 and BT.709); green has the rest."""


@torch.inference_mode()
def nv12_to_rgb(luma_HW: Tensor, chroma_hw2: Tensor, matrix: Matrix, full_range: bool) -> Tensor:
    """Planes (H, W) and (H/2, W/2, 2) uint8 to a picture (H, W, 3) uint8.

    The colours are worked out at the chroma's size and added to its four lumas in one pass.
    Limited range is luma 16-235 and chroma 16-240.
    """
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    scale, lift, spread = (1.0, 0.0, 1.0) if full_range else (255 / 219, 16.0, 255 / 224)
    weights = [
        [0.0, -2 * blue * (1 - blue) / green, 2 * (1 - blue)],
        [2 * (1 - red), -2 * red * (1 - red) / green, 0.0],
    ]
    to_rgb = torch.tensor(weights, device=luma_HW.device) * spread
    rows, columns = chroma_hw2.shape[:2]
    colours = (chroma_hw2.float() - 128) @ to_rgb + (0.5 - lift * scale)
    lumas = luma_HW.reshape(rows, 2, columns, 2, 1)
    pixels = torch.add(colours[:, None, :, None], lumas, alpha=scale)
    return pixels.clamp_(0, 255).to(torch.uint8).reshape(2 * rows, 2 * columns, 3)
