"""Action networks as one small ONNX file with labels and calibration in its metadata."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch

from ..actions.info import ActionInfo
from ..actions.network import ActionNet
from .onnx import OPSET, save_onnx

INPUT, OUTPUT = "joints", "logits"


def export_action(net: ActionNet, info: ActionInfo, path: str | Path) -> None:
    """Writes normalised joints (N, 3, T, 13) float32 -> logits (N, labels + 1), any N.

    ModelError when the file cannot be written.
    """
    import onnx

    net.eval()
    joints = torch.zeros((2, 3, info.window.samples, 13))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (joints,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, OUTPUT)},
            opset_version=OPSET,
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    model.producer_name = "hrtrack"
    for key, value in info.metadata().items():
        model.metadata_props.add(key=key, value=value)
    save_onnx(model, path)
