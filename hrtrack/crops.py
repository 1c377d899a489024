"""People cut out of pictures by an affine map: by OpenCV, or on tensors on whatever device.

`hrtrack.geometry` says where a crop lies (`box_affines`, `rotated_affine`). Both cutters read the
picture bilinearly there and show black, or another grey, beyond its edges; `tests/test_crops.py`
holds them together. The tracker's own cutter (`hrtrack.tracker.inference.crop`) moves upright
crops to whole pixels instead, which takes a third of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .types import ByteArray, FloatArray

if TYPE_CHECKING:
    from torch import Tensor


def cut(
    image_HW3: ByteArray, to_crop: FloatArray, input_hw: tuple[int, int], border: int = 0
) -> ByteArray:
    """One crop (H, W, 3) by a map (2, 3) from image to crop pixels; ``border`` lies beyond."""
    import cv2

    height, width = input_hw
    crop = cv2.warpAffine(
        image_HW3, to_crop, (width, height), flags=cv2.INTER_LINEAR, borderValue=(border,) * 3
    )
    return np.asarray(crop, np.uint8)


def sample(images: Tensor, to_image: Tensor, input_hw: tuple[int, int]) -> Tensor:
    """Crops (N, 3, H, W), float in 0 to 255, black beyond the image.

    Args:
        images: uint8, one picture (h, w, 3) for all crops or one for each (N, h, w, 3).
        to_image: (N, 2, 3) maps from crop pixels to image pixels, on the same device.
        input_hw: the crops' height and width.
    """
    import torch
    from torch.nn import functional as F

    height, width = input_hw
    device = images.device
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(1, -1, 3)
    at = points @ to_image.transpose(1, 2)
    # Corners at the outer edges: what PyTorch computes itself. For the others it would ask cuDNN,
    # which wants a copy of the whole frame for each person.
    rows, columns = images.shape[-3:-1]
    size = torch.tensor([columns, rows], device=device, dtype=torch.float32)
    grid = ((at * 2 + 1) / size - 1).reshape(-1, height, width, 2)
    if images.ndim == 3:
        planes = images.permute(2, 0, 1)[None].float().expand(len(to_image), -1, -1, -1)
    else:
        planes = images.permute(0, 3, 1, 2).float()
    return F.grid_sample(planes, grid, mode="bilinear", align_corners=False)
