"""A pose network with everything around it: uint8 crops in, keypoints and heatmaps out.

Stands with the models because the exporter and the torch back end both run it. Only operations
that ONNX, OpenVINO and TensorRT all have; outside the trunk everything is float32, because
the decoder's smallest numbers vanish in less. The decoder multiplies and sums where a matrix
product would be shorter: OpenVINO's bfloat16 mode keeps float32 from the outputs back to
the nearest convolution or matrix product.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..info import PoseInfo
from ..network import PIXEL_MEAN, PIXEL_STD
from . import decode
from .hrnet import HRNet, to_heatmaps


class Dark(nn.Module):
    """The torch twin of `hrtrack.models.pose.decode.decode` with ``dark``; scores end in [0, 1]."""

    rows: Tensor
    derivatives: Tensor

    def __init__(self, sigma: float, unbiased: bool = False) -> None:
        super().__init__()
        self.unbiased = unbiased
        self.register_buffer("rows", torch.from_numpy(decode.blur_rows(sigma)), persistent=False)
        weights = torch.from_numpy(decode.DERIVATIVES).flatten(1)
        self.register_buffer("derivatives", weights, persistent=False)

    def forward(self, heatmaps: Tensor) -> Tensor:
        """Float32 heatmaps (N, K, H, W) -> keypoints (N, K, 3) in crop pixels."""
        # Only the batch may differ between calls of an exported graph: the rest are plain numbers.
        joints, height, width = (int(size) for size in heatmaps.shape[1:])
        flat = heatmaps.reshape(-1, joints, height * width)
        # The highest row first, then the highest cell in it: a sixth of the time of one search
        # over the whole map on OpenVINO, and the same cell, the first of equals.
        row = heatmaps.amax(dim=3).argmax(dim=2, keepdim=True)
        cells = flat.gather(2, row * width + torch.arange(width, device=flat.device))
        column = cells.argmax(dim=2, keepdim=True)
        peak = cells.gather(2, column)
        x, y = column.squeeze(2).float(), row.squeeze(2).float()
        dx, dy, dxx, dxy, dyy = self._slopes(heatmaps, x, y).unbind(dim=2)
        determinant = dxx * dyy - dxy * dxy
        usable = (
            (determinant > decode.TINY) & (dxx < 0)
            & (x >= decode.REACH) & (x < width - decode.REACH)
            & (y >= decode.REACH) & (y < height - decode.REACH)
        )  # fmt: skip
        divisor = torch.where(usable, determinant, torch.ones_like(determinant))
        step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=2) / divisor[..., None]
        step = step.clamp(-decode.MAX_STEP, decode.MAX_STEP) * usable[..., None].float()
        points = (torch.stack([x, y], dim=2) + step) * (peak > 0).float()
        across, down = decode.strides(height, width, self.unbiased)
        points = torch.stack([points[..., 0] * across, points[..., 1] * down], dim=2)
        return torch.cat([points, peak.clamp(0.0, 1.0)], dim=2)

    def _slopes(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """First and second derivatives (N, K, 5) of the blurred map's logarithm at (x, y)."""
        joints, height, width = (int(size) for size in heatmaps.shape[1:])
        size = self.rows.shape[1]
        reach = size // 2
        padded_width = width + 2 * reach
        padded = F.pad(heatmaps, (reach, reach, reach, reach))
        padded = padded.reshape(-1, joints, (height + 2 * reach) * padded_width)
        span = torch.arange(size, device=heatmaps.device)
        window = (span[:, None] * padded_width + span).flatten()
        corner = (y * padded_width + x).long()
        patch = padded.gather(2, corner[..., None] + window).reshape(-1, joints, size, size)
        blurred = (patch[:, :, :, None, :] * self.rows).sum(dim=4)
        blurred = (blurred[:, :, None, :, :] * self.rows[:, :, None]).sum(dim=3)
        logs = torch.log(blurred.clamp(min=decode.TINY)).reshape(
            -1, joints, 1, blurred.shape[3] ** 2
        )
        return (logs * self.derivatives).sum(dim=3)


def pixel_scale() -> tuple[Tensor, Tensor]:
    """Factor and summand (3,) that turn RGB of 0-255 into a pose network's numbers."""
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    return 1 / (255 * std), -mean / std


class PoseGraph(nn.Module):
    """Crops (N, H, W, 3) uint8 RGB -> keypoints (N, K, 3) and heatmaps (N, K, H/4, W/4).

    With ``half`` the trunk computes in float16 behind casts; input, heatmaps and decoder stay
    as they are.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: HRNet, described: PoseInfo, *, half: bool = False) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_trunk = half
        if half:
            self.network.half()
        self.sigma = described.sigma
        self.dark = Dark(described.sigma, described.unbiased)
        scale, offset = pixel_scale()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        images = (crops.float() * self.scale + self.offset).permute(0, 3, 1, 2)
        maps = self.network(images.half() if self.half_trunk else images).float()
        heatmaps = to_heatmaps(maps, self.network.config.heatmaps, self.sigma)
        return self.dark(heatmaps), heatmaps
