"""The person detector as one static ONNX file: uint8 picture in, boxes and scores out."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import ModelError
from ..models.detector import (
    CONFIG_KEY,
    SCALE_SUFFIX,
    DetectorGraph,
    PersonDetector,
    config_text,
)
from .onnx import OPSET, save_onnx

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUTS = "images", ("boxes", "scores")
_PREFIX = "detector."
LARGE = 100_000
"""Elements above which a convolution's weights are stored in 8 bits."""


def export_detector(
    detector: PersonDetector,
    input_hw: tuple[int, int],
    path: str | Path,
    metadata: Mapping[str, str],
) -> None:
    """Writes images (1, H, W, 3) uint8 RGB -> boxes (1, M, 4), scores (1, M).

    Weights are stored small and widened at load, so the arithmetic stays float32 and the names
    of the parameters stay those of the checkpoint. Duplicates are left to the caller's
    non-maximum suppression.

    Raises:
        ModelError: sides that are no multiples of 32, or the file cannot be written.
    """
    import onnx

    if any(side % 32 for side in input_hw):
        raise ModelError(f"detector input {input_hw}: both sides must be multiples of 32")
    graph = DetectorGraph(detector.cpu(), *input_hw).eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (torch.zeros((1, *input_hw, 3), dtype=torch.uint8),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    _store_small(model)
    model.producer_name = "hrtrack"
    for key, value in {**metadata, CONFIG_KEY: config_text(detector.config)}.items():
        model.metadata_props.add(key=key, value=value)
    save_onnx(model, path)


def _store_small(model: onnx.ModelProto) -> None:
    """Takes the wrapper's prefix off the parameters and stores them small.

    Large convolutions, which lie at the coarse strides, become 8-bit integers with a scale per
    output channel; all else is float16. Both widen to float32 when a runtime loads the file.
    """
    from onnx import TensorProto, helper, numpy_helper

    widened, decoders, scales = {}, [], []
    for item in model.graph.initializer:
        if not item.name.startswith(_PREFIX):
            continue
        old, name = item.name, item.name.removeprefix(_PREFIX)
        array = numpy_helper.to_array(item)
        widened[old] = f"{name}/float32"
        if array.size > LARGE:
            highest = np.abs(array).max(axis=(1, 2, 3))
            scale = np.maximum(highest / 127, 1e-12).astype(np.float32)
            scales.append(numpy_helper.from_array(scale, f"{name}{SCALE_SUFFIX}"))
            array = np.round(array / scale[:, None, None, None]).astype(np.int8)
            inputs = [name, f"{name}{SCALE_SUFFIX}"]
            decoders.append(helper.make_node("DequantizeLinear", inputs, [widened[old]], axis=0))
        elif array.dtype == np.float32:
            array = array.astype(np.float16)
            node = helper.make_node("Cast", [name], [widened[old]], to=TensorProto.FLOAT)
            decoders.append(node)
        else:
            widened[old] = name
        item.CopyFrom(numpy_helper.from_array(array, name))
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = widened.get(name, name)
    nodes = [*decoders, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(scales)
