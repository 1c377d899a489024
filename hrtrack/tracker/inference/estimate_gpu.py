"""Top-down estimation that stays on the GPU: one upload a frame, one sample for all crops.

The frame is the one that the detector has uploaded, where that runs there too. Only the
keypoints come back. The same arithmetic runs on torch's CPU device, where it is
compared with the OpenCV crops.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import geometry
from ...crops import sample
from ...models.network import DeviceNetwork
from ...poses import Poses
from ..stopwatch import Stopwatch
from ..video.frame import Frame
from .estimate import Estimator, to_poses
from .upload import Upload


class GpuEstimator(Estimator):
    """What `hrtrack.tracker.inference.estimate.Estimator` does, without crops or maps leaving the
    GPU."""

    def __init__(
        self,
        network: DeviceNetwork,
        joints: int,
        stopwatch: Stopwatch,
        *,
        keep_heatmaps: bool = False,
        upload: Upload | None = None,
    ) -> None:
        super().__init__(network, joints, stopwatch, keep_heatmaps=keep_heatmaps)
        self._there = network
        self._upload = upload or Upload(network.device)

    def __call__(
        self, frame: Frame, boxes: NDArray[np.floating], scores: NDArray[np.floating]
    ) -> Poses:
        """Poses, still without identities, for boxes (N, 4) with person scores (N,)."""
        self.heatmaps = self.affines = None
        if len(boxes) == 0:
            self._upload.forget()
            return Poses.empty(frame.index, frame.time, self.joints)
        with self._stopwatch.stage("crop"):
            affines = geometry.box_affines(boxes, self.network.input_hw)
            to_image = geometry.invert(affines).astype(np.float64)
            crops = sample_crops(self._upload.take(frame), to_image, self.network.input_hw)
        with self._stopwatch.stage("infer"):
            found = self._there.on_device(crops, heatmaps=self._keep_heatmaps)
            keypoints_NK3 = found["keypoints"].cpu().numpy()
        if self._keep_heatmaps:
            self.heatmaps, self.affines = found["heatmaps"].cpu().numpy(), to_image
        return to_poses(frame, boxes, scores, keypoints_NK3, to_image)


@torch.inference_mode()
def sample_crops(
    image_HW3: Tensor, to_image: NDArray[np.floating], input_hw: tuple[int, int]
) -> Tensor:
    """All crops of a frame in one bilinear sample; black outside the image.

    Args:
        image_HW3: uint8 frame.
        to_image: (N, 2, 3) maps from crop pixels to image pixels.
        input_hw: the crops' height and width.

    Returns:
        Crops (N, H, W, 3) uint8 on the frame's device.
    """
    maps = torch.from_numpy(np.ascontiguousarray(to_image, np.float32)).to(image_HW3.device)
    crops = sample(image_HW3, maps, input_hw)
    return crops.add_(0.5).clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
