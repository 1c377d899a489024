"""Learning from a finished pose network: its heatmaps and its features on our own crops.

A label says where a joint is; a teacher says so for every joint of every crop, with its doubts,
and what it saw that made it say so (Hinton et al. 2015; `hrtrack.train.distillation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError
from ...models.detector.letterbox import fill_input, fitted_hw
from ...models.network import PIXEL_MEAN, PIXEL_STD
from ...models.pose.graph import pixel_scale
from ...models.pose.hrnet import HRNet
from ...models.runtimes.onnx_torch import (
    OnnxNetwork,
    graph_ends,
    last_features,
    read_onnx,
    shape_of,
)
from ...models.runtimes.openvino import openvino_core, port_shape
from ..distillation import FeatureHeads, cells_of
from .targets import STRIDE, cross_entropy

if TYPE_CHECKING:
    from ...configs.pose_schema import TeacherSection, TrainConfig

SURE = 0.6
"""Peaks of a teacher's map from which its joint counts as seen for certain."""
FLOOR = 0.02
"""Lower values of its maps are taken for noise."""


@dataclass(frozen=True, slots=True)
class TeacherOutputs:
    """Features (N, C, h, w) and heatmaps (N, K, h, w) of N crops, float16, at a student's cells."""

    features: NDArray[np.float16]
    maps: NDArray[np.float16]


class Teacher:
    """A pose network as ONNX file on OpenVINO's CPU plug-in, one thread; lives in a worker.

    Pictures 1 x 3 x H x W in ImageNet's mean and deviation in, heatmaps 1 x K x H/4 x W/4 with
    peaks near 1 out, as OpenMMLab's and PaddleDetection's exports have them. Its features are
    what the last convolution before the heatmaps reads.

    Raises:
        ModelError: the file cannot be read, or is of another kind or for other joints.
    """

    def __init__(self, path: Path, joints: int) -> None:
        core = openvino_core()
        if not path.is_file():
            raise ModelError(f"teacher.model: no file {path}")
        try:
            model = core.read_model(path)
            taken, given = (port_shape(port) for port in (model.inputs[0], model.outputs[0]))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"teacher.model: {path} cannot be read: {reason}") from None
        height, width = _input_of(path, taken, given, joints)
        model.add_outputs([_last_features(model.outputs[0].get_node())])
        options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self._request = core.compile_model(model, "CPU", options).create_infer_request()
        self.channels = port_shape(model.outputs[1])[1]
        self._hw = height, width
        self._grey = np.array(PIXEL_MEAN, np.float32) * 255
        self._spread = np.array(PIXEL_STD, np.float32) * 255

    def __call__(self, crops_NHW3: NDArray[np.uint8]) -> TeacherOutputs:
        """What it sees in uint8 RGB crops."""
        outputs = [self._look(crop) for crop in crops_NHW3]
        maps, features = (np.stack(part) for part in zip(*outputs, strict=True))
        return TeacherOutputs(features, maps)

    def _look(self, crop: NDArray[np.uint8]) -> list[NDArray[np.float16]]:
        shape = crop.shape[0], crop.shape[1]
        canvas = np.empty((*self._hw, 3), np.uint8)
        canvas[:] = self._grey.round()
        fill_input(crop, canvas, fitted_hw(shape, self._hw))
        picture = (canvas.astype(np.float32) - self._grey) / self._spread
        self._request.infer({0: picture.transpose(2, 0, 1)[None]})
        down, along = sampling(shape, self._hw)
        teacher_heatmaps = (self._request.get_output_tensor(place).data[0] for place in range(2))
        return [(down @ seen @ along.T).astype(np.float16) for seen in teacher_heatmaps]


class DeviceTeacher:
    """The same kind of file computed by PyTorch, beside the student on a GPU.

    Raises:
        ModelError: as `Teacher`.
    """

    def __init__(self, path: Path, joints: int, device: torch.device) -> None:
        graph = read_onnx(path).graph
        taken, given = graph_ends(graph)
        self._hw = _input_of(path, shape_of(taken), shape_of(given), joints)
        features = last_features(graph, given.name, path)
        self.network = OnnxNetwork(path, (given.name, features)).to(device)
        self._dtype = torch.float32 if device.type == "cpu" else torch.float16
        self.network.to(self._dtype)
        # Kept on the device: a recorded step (`CudaGraphCache`) may not fetch anything.
        self._scale, self._offset = (v[:, None, None].to(device) for v in pixel_scale())
        self._sampling: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self.channels = int(self(torch.zeros(1, *self._hw, 3).to(device))[0].shape[1])

    def __call__(self, crops_NHW3: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, h, w) and heatmaps (N, K, h, w) of uint8 RGB crops, float32."""
        shape = crops_NHW3.shape[1], crops_NHW3.shape[2]
        images = crops_NHW3.permute(0, 3, 1, 2).float() * self._scale + self._offset
        height, width = fitted_hw(shape, self._hw)
        images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        # Beyond the crop lies the mean colour, which is 0.
        images = F.pad(images, (0, self._hw[1] - width, 0, self._hw[0] - height))
        maps, features = self.network(images.to(self._dtype).contiguous())
        if shape not in self._sampling:
            down, along = (torch.from_numpy(m) for m in sampling(shape, self._hw))
            self._sampling[shape] = down.to(crops_NHW3.device), along.to(crops_NHW3.device)
        down, along = self._sampling[shape]
        features, maps = (down @ seen.float() @ along.T for seen in (features, maps))
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

    def __init__(self, network: HRNet, channels: int, teacher: DeviceTeacher | None = None) -> None:
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
        beside = DeviceTeacher(file, joints, device)
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


def _last_features(node: Any) -> Any:
    """What the last convolution before ``node`` reads."""
    while node.get_type_name() != "Convolution":
        if not node.get_input_size():
            raise ModelError("teacher.model: its heatmaps do not come from a convolution")
        node = node.input_value(0).get_node()
    return node.input_value(0)
