"""8-bit post-training quantisation of the trunk, calibrated on crops of real people.

NNCF looks at the values that flow through the network and inserts quantise-dequantise pairs:
OpenVINO turns them into 8-bit kernels, TensorRT reads the same ONNX. The decoder, and the
last layer before it, stay float32.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, ModelError
from ..models.info import PoseInfo
from .onnx import INPUT

if TYPE_CHECKING:
    import onnx

FEWEST = 32
"""Fewer crops do not show the range of a network's activations."""


def quantise(
    model: onnx.ModelProto,
    described: PoseInfo,
    crops: NDArray[np.uint8],
    *,
    for_tensorrt: bool = False,
) -> onnx.ModelProto:
    """ONNX with explicit QuantizeLinear and DequantizeLinear nodes around the trunk's layers.

    Args:
        model: from `hrtrack.export.onnx.to_onnx` with folded batch norms.
        described: what the model is; its ``input_hw`` must be the crops'.
        crops: (N, H, W, 3) uint8 RGB calibration crops, at least `FEWEST`.
        for_tensorrt: symmetric activations, the only ones TensorRT takes; OpenVINO is more
            accurate with asymmetric ones.

    Raises:
        BackendError: NNCF is not installed.
        ModelError: too few crops, or of another size.
    """
    nncf = _nncf()
    _require_crops(crops, described)
    preset, device = nncf.QuantizationPreset, nncf.TargetDevice
    names = [node.name for node in model.graph.node]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised: onnx.ModelProto = nncf.quantize(
            model,
            nncf.Dataset([{INPUT: crop[None]} for crop in crops]),
            preset=preset.PERFORMANCE if for_tensorrt else preset.MIXED,
            target_device=device.GPU if for_tensorrt else device.CPU,
            subset_size=len(crops),
            ignored_scope=nncf.IgnoredScope(names=_float_part(names), validate=False),
        )
    return quantised


def save_openvino(model: onnx.ModelProto, described: PoseInfo, path: Path) -> None:
    """Writes an ONNX model as OpenVINO's ``.xml`` and ``.bin``, metadata included."""
    import openvino

    network = openvino.Core().read_model(model.SerializeToString())
    for key, value in described.metadata().items():
        network.set_rt_info(value, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(network, path, compress_to_fp16=False)
    except (OSError, RuntimeError):
        raise ModelError(f"cannot write {path}") from None


def _float_part(names: list[str]) -> list[str]:
    """Everything outside the trunk, and its last layer."""
    trunk = re.compile(r"/?network/(?!final_layer)")
    return [name for name in names if not trunk.match(name)]


def _nncf() -> Any:
    try:
        import nncf
    except ImportError:
        raise BackendError("int8 export needs NNCF: pip install nncf") from None
    nncf.set_log_level("ERROR")
    return nncf


def _require_crops(crops: NDArray[np.uint8], described: PoseInfo) -> None:
    expected = (*described.input_hw, 3)
    if crops.shape[1:] != expected or crops.dtype != np.uint8:
        raise ModelError(
            f"calibration crops are {crops.dtype} {crops.shape[1:]}, expected uint8 {expected}"
        )
    if len(crops) < FEWEST:
        raise ModelError(
            f"{len(crops)} calibration crops are too few; at least {FEWEST} are needed"
        )
