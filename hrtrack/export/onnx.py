"""Pose networks as ONNX files that serve every runtime and can be read back as checkpoints."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..errors import ModelError
from ..models.detector.network import SCALE_SUFFIX
from ..models.info import PoseInfo
from ..models.pose.graph import PoseGraph
from ..models.pose.hrnet import HRNet
from ..writable import atomic_write

if TYPE_CHECKING:
    import onnx

Storage = Literal["fp32", "fp16", "int8"]
Small = Literal["fp16", "int8"]
OPSET = 17
INPUT, OUTPUTS = "crops", ("keypoints", "heatmaps")
FLOAT = 1
"""ONNX's number for float32."""
_PREFIX = "network."


def export_onnx(
    network: HRNet,
    described: PoseInfo,
    path: str | Path,
    *,
    storage: Storage = "fp32",
    half: bool = False,
    batch: int | None = None,
) -> None:
    """Writes uint8 crops -> keypoints and heatmaps as one ONNX file with metadata.

    Batch norms stay unfolded and parameters keep the official names, so that the file is a
    checkpoint too; every runtime folds them at load.

    Args:
        storage: how weights lie in the file. ``fp16`` halves it; runtimes cast back to float32
            at load, so the arithmetic is unchanged. ``int8`` quarters it, one scale per
            output channel, and costs accuracy.
        half: the trunk computes in float16 (for TensorRT).
        batch: a fixed number of crops; by default the file takes any number.
    """
    if half and storage != "fp32":
        raise ModelError("a float16 trunk already stores its weights in float16")
    model = to_onnx(network, described, half=half, batch=batch)
    store_weights(model, storage)
    save_onnx(model, path)


def to_onnx(
    network: HRNet,
    described: PoseInfo,
    *,
    half: bool = False,
    batch: int | None = None,
    folded: bool = False,
) -> onnx.ModelProto:
    """The network with normalisation and decoder as a checked ONNX model in memory.

    ``folded`` puts batch norms into the convolutions, as quantisation wants them; such a file
    is no checkpoint any more.
    """
    import onnx

    described = dataclasses.replace(described, config=dataclasses.asdict(network.config))
    graph = PoseGraph(network, described, half=half)
    crops = torch.zeros((batch or 2, *described.input_hw, 3), dtype=torch.uint8)
    buffer, mode = io.BytesIO(), torch.onnx.TrainingMode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The TorchScript exporter keeps batch norms and parameter names as they are and takes
        # 2 s; the newer one takes half a minute and wraps every operation in casts.
        torch.onnx.export(
            graph,
            (crops,),
            buffer,  # type: ignore[arg-type]  # a file object is taken by this exporter
            dynamo=False,
            training=mode.EVAL if folded else mode.PRESERVE,
            do_constant_folding=folded,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes=None if batch else {name: {0: "batch"} for name in (INPUT, *OUTPUTS)},
            opset_version=OPSET,
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    strip_prefix(model, _PREFIX)
    model.producer_name = "hrtrack"
    for key, value in described.metadata().items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return model


def save_onnx(model: onnx.ModelProto, path: str | Path) -> None:
    """Checks a model and writes it whole or not at all."""
    import onnx

    onnx.checker.check_model(model)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_bytes(model.SerializeToString())
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from None


def strip_prefix(model: onnx.ModelProto, prefix: str) -> None:
    """Takes a wrapper's prefix off every parameter's name."""
    renamed = {
        item.name: item.name.removeprefix(prefix)
        for item in model.graph.initializer
        if item.name.startswith(prefix)
    }
    for item in model.graph.initializer:
        item.name = renamed.get(item.name, item.name)
    _rewire(model, renamed)


def store_weights(model: onnx.ModelProto, storage: Storage) -> None:
    """Stores the trunk's parameters small; the convolutions' in 8 bits if ``storage`` says so."""
    if storage == "fp32":
        return
    small: dict[str, Small] = {}
    for item in model.graph.initializer:
        if item.data_type == FLOAT and item.name.startswith(_TRUNK):
            small[item.name] = "int8" if storage == "int8" and len(item.dims) == 4 else "fp16"
    store_small(model, small)


_TRUNK = ("conv", "bn", "layer1.", "transition", "stage", "final_layer.")


def store_small(model: onnx.ModelProto, small: Mapping[str, Small]) -> None:
    """Stores the named float32 parameters small, behind a Cast or DequantizeLinear to float32.

    8-bit integers get a scale per output channel, under the parameter's name with `SCALE_SUFFIX`.
    Runtimes convert both to float32 when they load the file, so the arithmetic stays float32.
    """
    import onnx
    from onnx import helper, numpy_helper

    decoders: list[Any] = []
    scales: list[Any] = []
    for item in model.graph.initializer:
        if item.name not in small:
            continue
        name, wide = item.name, item.name + "/float32"
        array = numpy_helper.to_array(item)
        if small[name] == "int8":
            array, scale = _quantise_channels(array)
            scales.append(numpy_helper.from_array(scale, name + SCALE_SUFFIX))
            inputs = [name, name + SCALE_SUFFIX]
            decoders.append(helper.make_node("DequantizeLinear", inputs, [wide], axis=0))
        else:
            array = array.astype(np.float16)
            decoders.append(helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.FLOAT))
        item.CopyFrom(numpy_helper.from_array(array, name))
    _rewire(model, {name: name + "/float32" for name in small})
    nodes = [*decoders, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(scales)


def _rewire(model: onnx.ModelProto, renamed: Mapping[str, str]) -> None:
    """Lets every node read the values under their new names."""
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)


def _quantise_channels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric 8-bit integers and one float32 scale per output channel."""
    highest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.maximum(highest / 127, 1e-12).astype(np.float32)
    small = np.round(weight / scale.reshape(-1, 1, 1, 1)).clip(-127, 127)
    return small.astype(np.int8), scale
