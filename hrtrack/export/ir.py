"""OpenVINO's own files, from ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..models import eightbit
from ..models.info import PoseInfo
from ..models.runtime import openvino_core

if TYPE_CHECKING:
    import onnx
    import openvino


def to_openvino(model: onnx.ModelProto) -> openvino.Model:
    """An ONNX model in OpenVINO's own form."""
    return openvino_core().read_model(model.SerializeToString())


def save_openvino(
    network: openvino.Model, described: PoseInfo, path: Path, ranges: eightbit.Ranges
) -> None:
    """Writes ``.xml`` and ``.bin``, metadata and activation ranges included."""
    import openvino

    for key, value in {**described.metadata(), **eightbit.metadata(ranges)}.items():
        network.set_rt_info(value, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(network, path, compress_to_fp16=False)
    except (OSError, RuntimeError):
        raise ModelError(f"cannot write {path}") from None
