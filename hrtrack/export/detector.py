"""The person detector as one static ONNX file: uint8 picture in, boxes and scores out."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import ModelError
from ..models.detector.network import (
    CONFIG_KEY,
    STRIDES,
    DetectorGraph,
    PersonDetector,
    config_text,
)
from ..models.runtimes import eight_bit
from ..models.runtimes.eight_bit import Ranges, watched
from .onnx import FLOAT, OPSET, Small, save_onnx, store_small, strip_prefix

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
    ranges: Ranges | None = None,
) -> None:
    """Writes images (1, H, W, 3) uint8 RGB -> boxes (1, M, 4), scores (1, M).

    Weights are stored small and dequantized at load, so the arithmetic stays float32 and the names
    of the parameters stay those of the checkpoint; ``ranges``, from `detector_ranges`, let CPUs
    compute in 8 bits. Duplicates are left to the caller's non-maximum suppression.

    Raises:
        ModelError: sides that are no multiples of 32, or the file cannot be written.
    """
    import onnx

    if any(side % 32 for side in input_hw):
        raise ModelError(f"detector input {input_hw}: both sides must be multiples of 32")
    graph = DetectorGraph(detector.cpu(), *input_hw).eval()
    # Of a whole in evaluation equal parameters would be stored once, under one name.
    graph.training = True
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
    own = {CONFIG_KEY: config_text(detector.config), **eight_bit.metadata(ranges or {})}
    for key, value in {**metadata, **own}.items():
        model.metadata_props.add(key=key, value=value)
    save_onnx(model, path)


@torch.inference_mode()
def detector_ranges(detector: PersonDetector, pictures: Iterable[torch.Tensor]) -> Ranges:
    """What reaches each convolution of a detector in eval mode.

    Args:
        detector: all of it but the layers that give scores and sides, which stay in floats.
        pictures: batches (N, H, W, 3) uint8 RGB as it is to see them.
    """
    answers = {
        f"heads.{level}.{name}" for level in range(len(STRIDES)) for name in ("score", "box")
    }
    with watched(detector, floats=answers) as ranges:
        for batch in pictures:
            detector(batch)
    return ranges


def _store_small(model: onnx.ModelProto) -> None:
    """Large convolutions, which lie at the coarse strides, in 8 bits, all else in float16."""
    own = [item for item in model.graph.initializer if item.name.startswith(_PREFIX)]
    small: dict[str, Small] = {
        item.name.removeprefix(_PREFIX): "int8" if math.prod(item.dims) > LARGE else "fp16"
        for item in own
        if item.data_type == FLOAT
    }
    strip_prefix(model, _PREFIX)
    store_small(model, small)
