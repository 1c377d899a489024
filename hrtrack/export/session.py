"""A pose model on its way into other files: read once, and asked once what every file must say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ModelError
from ..models.agreement import (
    ENOUGH,
    TOLERANCES,
    Agreement,
    compare,
    decided_joints,
    drawn_crops,
)
from ..models.checkpoints import hrnet_of, load_weights
from ..models.info import PoseInfo
from ..models.network import Network
from ..models.pose.graph import PoseGraph
from ..models.pose.hrnet import HRNet
from ..models.runtimes import eight_bit
from ..models.runtimes.eight_bit import FEWEST, Ranges, pose_ranges, require_crops
from ..models.runtimes.tensorrt import EnginePrecision
from ..skeleton import Skeleton
from ..types import Float32Array
from .int8 import quantise_for_tensorrt
from .onnx import to_onnx

if TYPE_CHECKING:
    import onnx


class Inaccurate(ModelError):
    """An export answers otherwise than PyTorch does."""


@dataclass(frozen=True, slots=True)
class Reference:
    """PyTorch's float32 answers for ``crops`` (N, H, W, 3): (N, K, 3) and (N, K, h, w)."""

    crops: NDArray[np.uint8]
    keypoints: Float32Array
    heatmaps: Float32Array

    @property
    def sure(self) -> bool:
        """Whether the network finds enough joints in these crops to compare their places."""
        return decided_joints(self.keypoints) >= ENOUGH


@torch.inference_mode()
def reference_answers(network: HRNet, described: PoseInfo, crops: NDArray[np.uint8]) -> Reference:
    """Asks PyTorch about crops (N, H, W, 3), one at a time."""
    graph = PoseGraph(network.float().cpu(), described)
    answers = [graph(torch.from_numpy(crop[None])) for crop in crops]
    keypoints, heatmaps = (
        np.concatenate([a.numpy() for a in kind]) for kind in zip(*answers, strict=True)
    )
    return Reference(crops, keypoints, heatmaps)


class Session:
    """The network of a checkpoint, safetensors or ONNX file, and all that its exports share.

    Args:
        weights: the file.
        skeleton: the joints, where the file does not say them or says them wrongly.

    Raises:
        ModelError: the file holds no such network.
    """

    def __init__(self, weights: Path, skeleton: Skeleton | None = None) -> None:
        parameters, self._entries = load_weights(weights)
        self.weights = weights
        self.network, self.described = hrnet_of(parameters, self._entries, weights, wanted=skeleton)
        self.calibration: NDArray[np.uint8] | None = None

    def calibrate(self, crops: NDArray[np.uint8]) -> None:
        """Gives it crops (N, H, W, 3) uint8 RGB of people, which quantisation needs.

        Raises:
            ModelError: fewer than `FEWEST`, or of another size than the network's.
        """
        require_crops(crops, self.described)
        self.calibration = crops
        for measured in ("reference", "ranges"):
            self.__dict__.pop(measured, None)

    @cached_property
    def drawn(self) -> Reference:
        """The answers about the drawn crops, which are the same on every machine."""
        return reference_answers(self.network, self.described, drawn_crops(self.described.input_hw))

    @cached_property
    def reference(self) -> Reference:
        """The answers to compare with: about real crops, where the drawn ones leave it unsure."""
        if self.drawn.sure or self.calibration is None:
            return self.drawn
        return reference_answers(self.network, self.described, self.calibration[:FEWEST])

    @cached_property
    def ranges(self) -> Ranges:
        """What each convolution takes in: measured on the calibration crops, else as the file
        says, which may be nothing."""
        if self.calibration is not None:
            return pose_ranges(self.network, self.described, self.calibration)
        return eight_bit.from_metadata(self._entries, self.weights)

    def onnx(self, precision: EnginePrecision, batch: int | None = None) -> onnx.ModelProto:
        """The ONNX model in memory; in 8 bits it is the one that TensorRT wants."""
        if precision == "int8":
            assert self.calibration is not None
            folded = to_onnx(self.network, self.described, folded=True)
            return quantise_for_tensorrt(folded, self.described, self.calibration)
        return to_onnx(self.network, self.described, half=precision == "fp16", batch=batch)

    def compared(
        self, found: Network, precision: str, *, allow_inaccurate: bool = False
    ) -> Agreement:
        """Compares an exported network with PyTorch's answers, and closes it.

        Args:
            found: the export, opened on the back end it is for. Where the network is sure of too
                few joints, as after a short training, the heatmaps are compared too.
            precision: its key in `hrtrack.models.agreement.TOLERANCES`.
            allow_inaccurate: return the comparison even if it is beyond tolerance.

        Raises:
            Inaccurate: beyond tolerance; the message has the numbers.
        """
        reference, limit = self.reference, TOLERANCES[precision]
        try:
            answer = found(reference.crops, heatmaps=not reference.sure)
        finally:
            found.close()
        agreement = compare(
            reference.keypoints,
            answer["keypoints"],
            self.described.skeleton,
            self.described.input_hw,
            maps=None if reference.sure else (reference.heatmaps, answer["heatmaps"]),
        )
        if not agreement.within(limit) and not allow_inaccurate:
            allowed = f"{limit.maps} of the heatmaps' spread"
            if agreement.sure:
                allowed = f"{limit.mean_pixels} px mean, {limit.p95_pixels} px p95, OKS {limit.oks}"
            raise Inaccurate(
                f"the {precision} export differs from PyTorch by {agreement}; allowed are "
                f"{allowed}, score {limit.mean_score}"
            )
        return agreement
