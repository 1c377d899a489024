"""8-bit arithmetic on CPUs from the model file that every back end reads.

The first half needs numpy and OpenVINO only; `pose_ranges` and what it uses load torch.

The file keeps its float weights, and beside them the range of values that each convolution was
seen to take in (`watched` measures them). With those OpenVINO's graph is quantised
while it is loaded: activations in 256 steps for the whole tensor, weights in 255 steps for each
output channel (half of them where sums would overflow), the scheme of Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018.
"""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ..info import PoseInfo
from .openvino import openvino_core

if TYPE_CHECKING:
    import openvino
    from torch import Tensor, nn

    from ..pose.hrnet import HRNet


KEY = "activation_ranges"
"""The metadata entry of an ONNX or safetensors file."""
Ranges = dict[str, tuple[float, float]]
"""By the name of a convolution's weight: the lowest and the highest value it takes in."""
ACTIVATION_STEPS, WEIGHT_STEPS = 256, 255


def metadata(ranges: Ranges) -> dict[str, str]:
    """The entry to write into a model file; none without ranges, or with one that has no end."""
    if not all(np.isfinite(span).all() for span in ranges.values()):
        return {}
    rounded = {name: [float(f"{v:.5g}") for v in span] for name, span in ranges.items()}
    return {KEY: json.dumps(rounded, separators=(",", ":"))} if ranges else {}


def from_metadata(entries: Mapping[str, str], source: str | Path) -> Ranges:
    """The ranges in a file's metadata, empty if it has none.

    Raises:
        ModelError: the entry is damaged.
    """
    try:
        found = json.loads(entries.get(KEY, "{}"))
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{source}: its '{KEY}' cannot be read ({error!r})") from None
    for name, (low, high) in ranges.items():
        if not (np.isfinite([low, high]).all() and low <= high):
            raise ModelError(f"{source}: '{KEY}' gives {name} the range {low} to {high}")
    return ranges


def int8_is_fast() -> bool:
    """Whether this machine's CPU is of a kind that OpenVINO computes quickly on in 8 bits."""
    return platform.machine().lower() in ("x86_64", "amd64")


@functools.cache
def int8_saturates() -> bool:
    """Whether this CPU adds two 8-bit products in 16 bits, so that large ones are cut off.

    CPUs with AVX2 or AVX-512 and without VNNI do (VPMADDUBSW). Asked of OpenVINO itself, by a
    convolution of the largest numbers, which holds on every system and under
    ``ONEDNN_MAX_CPU_ISA``.
    """
    import openvino
    from openvino import opset13

    channels, most, side = 16, 127.0, 8
    images = opset13.parameter([1, channels, side, side], np.float32)
    steps = _fake_quantize(
        images.output(0), np.float32(0), np.float32(ACTIVATION_STEPS - 1), ACTIVATION_STEPS
    )
    weights = np.full((channels, channels, 3, 3), most, np.float32)
    reach = np.full((channels, 1, 1, 1), most, np.float32)
    same = _fake_quantize(_constant(weights), -reach, reach, WEIGHT_STEPS)
    sums = opset13.convolution(steps, same, [1, 1], [1, 1], [1, 1], [1, 1])
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(
        openvino.Model([sums], [images], "largest"), "CPU", options
    )
    largest = np.full((1, channels, side, side), ACTIVATION_STEPS - 1, np.float32)
    found = float(compiled({0: largest})[0][0, 0, side // 2, side // 2])
    return found < 0.9 * most * (ACTIVATION_STEPS - 1) * 9 * channels


def quantised(model: openvino.Model) -> bool:
    """Whether a graph has 8-bit parts already."""
    return any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())


def dequantize(model: openvino.Model) -> None:
    """Turns convolution weights that are stored in 8 bits into float32 ones, in place.

    OpenVINO would do so itself, at the first inference; where two run side by side (2026.4) one of
    them may read weights that the other has not finished. Quantised graphs stay as they are.
    """
    if quantised(model):
        return
    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() != "Convolution":
            continue
        source = convolution.input_value(1).get_node()
        if source.get_type_name() != "Multiply":  # by the scale of 8-bit integers
            continue
        name, weights = weights_of(source)
        if name:
            wide = _constant(weights)
            wide.get_node().set_friendly_name(name)
            convolution.input(1).replace_source_output(wide)


def quantise(model: openvino.Model, ranges: Ranges, *, elsewhere: bool = False) -> None:
    """Lets the convolutions that ``ranges`` names compute in 8 bits, in place.

    What two layers read is quantised once, so that it lies in memory as bytes. Where sums
    overflow (`int8_saturates`), weights take half of their 255 steps, so that no sum can; the same
    for a graph that may be computed ``elsewhere``.
    """
    spare = 2.0 if elsewhere or int8_saturates() else 1.0
    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() != "Convolution":
            continue
        name, weights = weights_of(convolution.input_value(1).get_node())
        if name not in ranges:
            continue
        source = convolution.input_value(0)
        if source.get_node().get_type_name() != "FakeQuantize":  # not done for another layer
            readers = list(source.get_target_inputs())
            low, high = with_zero(*ranges[name])
            steps = _fake_quantize(source, np.float32(low), np.float32(high), ACTIVATION_STEPS)
            for reader in readers:
                reader.replace_source_output(steps)
        reach = np.abs(weights).reshape(len(weights), -1).max(axis=1).reshape(-1, 1, 1, 1)
        reach = np.maximum(reach, 1e-12) * spare
        convolution.input(1).replace_source_output(
            _fake_quantize(_constant(weights), -reach, reach, WEIGHT_STEPS)
        )
    model.validate_nodes_and_infer_types()


def weights_of(node: Any) -> tuple[str, NDArray[np.float32]]:
    """The name and the values of weights that may be stored small and dequantized at load."""
    kind = node.get_type_name()
    if kind == "Constant":
        return node.get_friendly_name(), node.get_data().astype(np.float32)
    if kind not in ("Convert", "Reshape", "Multiply", "Subtract"):
        return "", np.zeros(0, np.float32)  # computed some other way: left alone
    parts = [weights_of(node.input_value(i).get_node()) for i in range(node.get_input_size())]
    name, values = parts[0]
    if not all(known for known, _ in parts):
        return "", np.zeros(0, np.float32)
    if kind == "Multiply":
        return name, values * parts[1][1]
    if kind == "Subtract":
        return name, values - parts[1][1]
    return name, values.reshape(tuple(node.get_output_shape(0)))


def with_zero(low: float, high: float) -> tuple[float, float]:
    """A range around zero in which zero falls on a step: padding and ReLU stay exact."""
    low, high = min(low, 0.0), max(high, 0.0, low + 1e-6)
    step = (high - low) / (ACTIVATION_STEPS - 1)
    below = round(-low / step)
    return -below * step, (ACTIVATION_STEPS - 1 - below) * step


def _constant(values: Any) -> Any:
    from openvino import opset13

    return opset13.constant(np.asarray(values, np.float32)).output(0)


def _fake_quantize(source: Any, low: Any, high: Any, steps: int) -> Any:
    from openvino import opset13

    ends = [_constant(end) for end in (low, high, low, high)]
    return opset13.fake_quantize(source, *ends, steps).output(0)


FEWEST = 32
"""Fewer crops do not show the range of a network's activations."""
BATCH = 8


@contextmanager
def watched(network: nn.Module, *, floats: Collection[str] = ()) -> Iterator[Ranges]:
    """Gathers the lowest and the highest value that reaches each convolution meanwhile.

    ``floats`` names the modules that are to stay in floats: those whose output is the answer.
    """
    import torch
    from torch import nn

    ranges: Ranges = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            low, high = (float(end) for end in torch.aminmax(given[0].detach()))
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))

        return look

    hooks = [
        module.register_forward_pre_hook(watch(f"{name}.weight"))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and name not in floats
    ]
    try:
        yield ranges
    finally:
        for hook in hooks:
            hook.remove()


def pose_ranges(network: HRNet, described: PoseInfo, crops: NDArray[np.uint8]) -> Ranges:
    """The ranges of a pose network on crops (N, H, W, 3) uint8 RGB; the last layer has none.

    It runs where its parameters are.

    Raises:
        ModelError: too few crops, or of another size than the network's.
    """
    import torch

    from ..pose.graph import PoseGraph

    require_crops(crops, described)
    device = network.head.weight.device
    graph = PoseGraph(network, described).to(device)
    with torch.inference_mode(), watched(graph.network, floats={"final_layer"}) as ranges:
        for start in range(0, len(crops), BATCH):
            graph(torch.from_numpy(crops[start : start + BATCH]).to(device))
    return ranges


def require_crops(crops: NDArray[np.uint8], described: PoseInfo) -> None:
    """ModelError unless there are enough calibration crops of the right size."""
    expected = (*described.input_hw, 3)
    if crops.shape[1:] != expected or crops.dtype != np.uint8:
        raise ModelError(
            f"calibration crops are {crops.dtype} {crops.shape[1:]}, expected uint8 {expected}"
        )
    if len(crops) < FEWEST:
        raise ModelError(
            f"{len(crops)} calibration crops are too few; at least {FEWEST} are needed"
        )
