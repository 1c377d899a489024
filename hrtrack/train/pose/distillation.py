"""Learning from a finished pose network: its heatmaps and its features on our own crops.

A label says where a joint is; a teacher says so for every joint of every crop, with its doubts,
and what it saw that made it say so (Hinton et al. 2015; `hrtrack.train.distillation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError
from ...models.detector.letterbox import fitted_hw
from ...models.pose.graph import pixel_scale
from ...models.pose.hrnet import HRNet
from ...models.runtimes.onnx_torch import graph_ends, last_features, read_onnx, shape_of
from ..distillation import FeatureHeads, cells_of, open_teacher
from .targets import STRIDE, cross_entropy

if TYPE_CHECKING:
    from ...configs.pose_schema import TeacherSection, TrainConfig

SURE = 0.6
"""Peaks of a teacher's map from which its joint counts as seen for certain."""
FLOOR = 0.02
"""Lower values of its maps are taken for noise."""


class Teacher:
    """A pose network as ONNX file: on ``device`` beside the student, or in a loader's process.

    Pictures 1 x 3 x H x W in ImageNet's mean and deviation in, heatmaps 1 x K x H/4 x W/4 with
    peaks near 1 out, as OpenMMLab's and PaddleDetection's exports have them. Its features are
    what the last convolution before the heatmaps reads.

    Raises:
        ModelError: the file cannot be read, or is of another kind or for other joints.
    """

    def __init__(self, path: Path, joints: int, device: torch.device | None = None) -> None:
        if not path.is_file():
            raise ModelError(f"teacher.model: no file {path}")
        graph = read_onnx(path).graph
        taken, given = graph_ends(graph)
        self._hw = _input_of(path, shape_of(taken), shape_of(given), joints)
        outputs = given.name, last_features(graph, given.name, path)
        self._compute = open_teacher(path, outputs, device, single=True)
        # Kept on the device: a recorded step (`CudaGraphCache`) may not fetch anything.
        there = device or torch.device("cpu")
        self._scale, self._offset = (v[:, None, None].to(there) for v in pixel_scale())
        self._sampling: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        blank = torch.zeros((1, *self._hw, 3), dtype=torch.uint8, device=there)
        self.channels = int(self(blank)[0].shape[1])

    def __call__(self, crops_NHW3: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, h, w) and heatmaps (N, K, h, w) of uint8 RGB crops, float32, at a
        student's cells."""
        shape = crops_NHW3.shape[1], crops_NHW3.shape[2]
        images = crops_NHW3.permute(0, 3, 1, 2).float() * self._scale + self._offset
        height, width = fitted_hw(shape, self._hw)
        images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        # Beyond the crop lies the mean colour, which is 0.
        images = F.pad(images, (0, self._hw[1] - width, 0, self._hw[0] - height))
        maps, features = self._compute(images)
        if shape not in self._sampling:
            down, along = (torch.from_numpy(m) for m in sampling(shape, self._hw))
            self._sampling[shape] = down.to(crops_NHW3.device), along.to(crops_NHW3.device)
        down, along = self._sampling[shape]
        features, maps = (down @ seen @ along.T for seen in (features, maps))
        return features, maps


def _input_of(
    path: Path, taken: Sequence[int], given: Sequence[int], joints: int
) -> tuple[int, int]:
    """Height and width of a teacher's pictures; ModelError where it is of another kind."""
    height, width = taken[2:] if len(taken) == 4 else (0, 0)
    expected = (1, joints, height // STRIDE, width // STRIDE)
    if tuple(taken[:2]) != (1, 3) or tuple(given) != expected:
        raise ModelError(
            f"teacher.model: {path} takes {tuple(taken)} and gives {tuple(given)}; expected "
            f"pictures 1x3xHxW and {joints} heatmaps 1x{joints}xH/4xW/4"
        )
    return height, width


@cache
def sampling(
    crop_hw: tuple[int, int], teacher_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matrices (h, H/4) and (w, W/4) that read a teacher's map at the student's cells.

    Cell u of either stands for its picture's pixel 4 u; the crop lies scaled in the top left of
    the teacher's picture. Linear interpolation.
    """
    matrices = []
    for side, full, most in zip(crop_hw, fitted_hw(crop_hw, teacher_hw), teacher_hw, strict=True):
        scale, cells = full / side, most // STRIDE
        pixel = (STRIDE * np.arange(side // STRIDE) + 0.5) * scale - 0.5
        place = np.clip(pixel / STRIDE, 0, cells - 1)
        matrix = 1 - np.abs(place[:, None] - np.arange(cells))
        matrices.append(matrix.clip(0).astype(np.float32))
    return matrices[0], matrices[1]


class DistilledNetwork(nn.Module):
    """A pose network that also predicts its teacher's features; only the network is kept.

    ``teacher`` sees batches on the network's device, where no loader has shown them to one.
    """

    def __init__(self, network: HRNet, channels: int, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher
        self.guess = FeatureHeads(network.config.width, channels, silent=True)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, K, h, w) and predicted features (N, P, C) of their P cells."""
        features = self.network.features(images)
        return self.network.final_layer(features), self.guess([features])[0]

    def loss(
        self,
        maps: Tensor,
        predicted_features: Tensor,
        features: Tensor,
        teacher_heatmaps: Tensor,
        config: TeacherSection,
    ) -> Tensor:
        """The error of the features (`FeatureHeads.loss`), and cross-entropy of the maps.

        Args:
            maps: (N, K, h, w) logits, as `hrtrack.train.pose.targets.cross_entropy` reads them.
            predicted_features: (N, P, C).
            features, teacher_heatmaps: the teacher's, (N, C, h, w) and (N, K, h, w).
            config: weighs the two.
        """
        mimicry = self.guess.loss([predicted_features], [cells_of(features)])
        total, divisor = cross_entropy(maps, *distributions(teacher_heatmaps))
        return config.features * mimicry + config.maps * total / divisor.clamp(min=1.0)


def with_distillation_head(network: HRNet, config: TrainConfig) -> DistilledNetwork | None:
    """The network, on its training's device, as its configuration's teacher is to see it; None
    where there is no teacher.

    Raises:
        ModelError: the teacher's file does not serve.
    """
    if config.teacher is None:
        return None
    file, joints = Path(config.teacher.model), network.config.joints
    if config.data.resident:
        device = next(network.parameters()).device
        beside = Teacher(file, joints, device)
        return DistilledNetwork(network, beside.channels, beside).to(device)
    return DistilledNetwork(network, Teacher(file, joints).channels)


def distributions(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Heatmaps (N, K, h, w) with peaks near 1 as targets for `loss.cross_entropy`.

    Returns:
        Distributions (N, K, h, w), which sum to 1 for a joint seen for certain; what others lack
        is the share of "not in this crop". And weights (N, K), 0 where the teacher is undecided.
    """
    heatmaps = heatmaps.float()
    confidence = (heatmaps.amax(dim=(2, 3), keepdim=True) / SURE).clamp(0, 1)
    mass = (heatmaps - FLOOR).clamp(min=0)
    shares = mass * (confidence / mass.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6))
    return shares, (2 * confidence[:, :, 0, 0] - 1) ** 2
