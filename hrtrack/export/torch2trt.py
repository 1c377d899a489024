"""The optional route through torch2trt 0.5 for those who have it; needs TensorRT 10.

torch2trt is on no package registry, its last release is of 2024, and it does not import under
TensorRT 11. Written against its published signature and not yet run against the real thing.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackendError
from ..models.info import PoseInfo
from ..models.pose.graph import PoseGraph
from ..models.pose.hrnet import HRNet
from ..models.runtimes.tensorrt import BatchRange, load_package, this_gpu
from .onnx import INPUT, OPSET, OUTPUTS

NEWEST_MAJOR = 10


def convert(network: HRNet, described: PoseInfo, batches: BatchRange) -> bytes:
    """A float16-trunk plan made by torch2trt.

    Raises:
        BackendError: torch2trt, TensorRT 10 or a GPU is missing; says which and what to do.
    """
    converter = require_torch2trt()
    graph = PoseGraph(network, described, half=True).cuda()
    crops = torch.zeros((batches.best, *described.input_hw, 3), dtype=torch.uint8, device="cuda")
    return convert_graph(converter, graph, crops, batches)


def convert_graph(converter: Any, graph: nn.Module, crops: Tensor, batches: BatchRange) -> bytes:
    """Calls torch2trt (0.5's signature) and returns the serialised plan."""
    shape = crops.shape[1:]
    module = converter.torch2trt(
        graph,
        [crops],
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        fp16_mode=True,
        min_shapes=[(batches.least, *shape)],
        opt_shapes=[(batches.best, *shape)],
        max_shapes=[(batches.most, *shape)],
        use_onnx=True,
        onnx_opset=OPSET,
    )
    return bytes(module.engine.serialize())


def require_torch2trt() -> Any:
    """The torch2trt module, or BackendError naming what is missing."""
    trt = load_package("tensorrt")
    if int(trt.__version__.split(".")[0]) > NEWEST_MAJOR:
        raise BackendError(
            f"torch2trt does not run with TensorRT {trt.__version__}; "
            "install tensorrt<11 or leave --via torch2trt out"
        )
    this_gpu()
    try:
        return importlib.import_module("torch2trt")
    except ImportError:
        raise BackendError(
            "torch2trt is not installed; it is on no registry: clone NVIDIA-AI-IOT/torch2trt and "
            "pip install --no-build-isolation it, or leave --via torch2trt out"
        ) from None
