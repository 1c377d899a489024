"""A small network that sees: its maps have one clear peak each, so places can be compared."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import torch

from hrtrack.export.onnx import to_onnx
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.info import PoseInfo
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.skeleton import COCO17

CONFIG = HRNetConfig(width=16, modules=(1, 1, 1), blocks=1, heatmaps="softmax")
INFO = PoseInfo(COCO17, (64, 64), sigma=1.0, notes={"licence": "Apache-2.0"})


def small_network() -> HRNet:
    """Random weights, batch norms that know the drawn crops, and maps sharp enough to decide."""
    return deepcopy(_small_network())


@cache
def exported() -> bytes:
    """The small network as an ONNX file in float32, made once for all who only read it."""
    return to_onnx(small_network(), INFO).SerializeToString()


@cache
def _small_network() -> HRNet:
    torch.manual_seed(0)
    network = HRNet(CONFIG)
    initialise(network, "he")
    crops = torch.from_numpy(drawn_crops(INFO.input_hw, 4)).permute(0, 3, 1, 2)
    with torch.no_grad():
        network.train()
        for _ in range(10):
            network((crops.float() / 255 - 0.45) / 0.22)
        network.eval()
        network.final_layer.weight *= 600
    return network
