"""A plain convolutional ONNX graph as a PyTorch module, for GPUs on which no other runtime is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError

Attributes = dict[str, Any]


class OnnxNetwork(nn.Module):
    """Named tensors of an ONNX graph, computed by PyTorch.

    Only layers that small trunks and heads are made of are known: convolutions, pooling,
    enlarging, slices, concatenation, sums, products, ReLU, sigmoid, and the shapes and shuffles of
    channels that exporters write for one picture. Layers on which no wanted tensor depends are
    left out, so those behind may be of any kind.

    Args:
        path: the file.
        outputs: names of the tensors to give, in this order.

    Raises:
        ModelError: the file cannot be read, has no such tensor, or needs another layer.
    """

    def __init__(self, path: Path, outputs: Sequence[str]) -> None:
        super().__init__()
        graph = read_onnx(path).graph
        self.outputs = tuple(outputs)
        self.source = graph_ends(graph)[0].name
        self.layers: list[tuple[str, list[str], str, Attributes]] = []
        self._buffers_by_name: dict[str, str] = {}
        self._settings: dict[str, Tensor] = {}
        self._read(graph, path)

    def _read(self, graph: Any, path: Path) -> None:
        from onnx import helper, numpy_helper

        kept = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        made = {name: node for node in graph.node for name in node.output}
        wanted, needed = list(self.outputs), set()
        while wanted:
            name = wanted.pop()
            if name in needed or not name or name == self.source or name in kept:
                continue
            if name not in made:
                raise ModelError(f"{path} has no tensor '{name}'")
            needed.add(name)
            wanted += made[name].input
        for node in graph.node:
            if needed.isdisjoint(node.output):
                continue
            said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant" and "value" in said:
                kept[node.output[0]] = numpy_helper.to_array(said["value"])
            elif node.op_type in LAYERS:
                self.layers.append((node.op_type, list(node.input), node.output[0], said))
            else:
                raise ModelError(f"{path} needs a {node.op_type} layer, which is not known here")
        used = {name for _, inputs, _, _ in self.layers for name in inputs}
        # After which layer nobody reads a tensor any more, so that its memory is free.
        last = {name: i for i, (_, inputs, _, _) in enumerate(self.layers) for name in inputs}
        made_here = {output for _, _, output, _ in self.layers} - set(self.outputs)
        self._unneeded = [
            [name for name in made_here if last.get(name) == i] for i in range(len(self.layers))
        ]
        # The parameters of slices and enlargements are read by Python, as are all shapes; the rest
        # moves with the module.
        literal = {
            name
            for kind, inputs, _, _ in self.layers
            for name in inputs[1:]
            if kind in ("Slice", "Resize")
        }
        for number, name in enumerate(sorted(used & kept.keys())):
            value = torch.from_numpy(kept[name].copy())
            if name in literal or value.dtype == torch.int64:
                self._settings[name] = value
            else:
                self._buffers_by_name[name] = f"value_{number}"
                self.register_buffer(f"value_{number}", value)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """The wanted tensors for the graph's one input, of any batch size and sides."""
        values: dict[str, Any] = {**self._settings, self.source: images}
        values |= {name: self.get_buffer(own) for name, own in self._buffers_by_name.items()}
        for (kind, inputs, output, said), unneeded in zip(self.layers, self._unneeded, strict=True):
            values[output] = LAYERS[kind]([values.get(name) for name in inputs], said)
            for name in unneeded:
                del values[name]
        return [values[name] for name in self.outputs]


def read_onnx(path: Path) -> Any:
    """An ONNX file's model; ModelError where it cannot be read."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} cannot be read as an ONNX model: {error}") from None


def graph_ends(graph: Any) -> tuple[Any, Any]:
    """An ONNX graph's first input, which is none of its weights, and its first output."""
    kept = {item.name for item in graph.initializer}
    return next(i for i in graph.input if i.name not in kept), graph.output[0]


def shape_of(end: Any) -> list[int]:
    """Sides of a graph's input or output; open ones are 0."""
    return [side.dim_value for side in end.type.tensor_type.shape.dim]


def last_features(graph: Any, output: str, path: Path) -> str:
    """The tensor that the last convolution before ``output`` reads; ModelError without one."""
    made = {name: node for node in graph.node for name in node.output}
    while output in made:
        node = made[output]
        if not node.input:
            break
        output = node.input[0]
        if node.op_type == "Conv":
            return str(output)
    raise ModelError(f"{path}: its heatmaps do not come from a convolution")


def _sides(said: Attributes) -> tuple[int, int]:
    """Padding of a layer that pads alike on opposite sides; ModelError for another."""
    top, left, bottom, right = said.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right) or said.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise _strange("pads unlike on opposite sides")
    return top, left


def _strange(what: str) -> ModelError:
    return ModelError(f"a layer {what}, which is not known here")


def _convolve(inputs: list[Any], said: Attributes) -> Tensor:
    x, weight, *rest = inputs
    return F.conv2d(
        x,
        weight,
        rest[0] if rest else None,
        tuple(said.get("strides", (1, 1))),
        _sides(said),
        tuple(said.get("dilations", (1, 1))),
        said.get("group", 1),
    )


def _pool(inputs: list[Any], said: Attributes) -> Tensor:
    if said.get("ceil_mode", 0) or set(said.get("dilations", (1, 1))) != {1}:
        raise _strange("pools with gaps or beyond the edge")
    strides = tuple(said.get("strides", (1, 1)))
    return F.max_pool2d(inputs[0], tuple(said["kernel_shape"]), strides, _sides(said))


def _enlarge(inputs: list[Any], said: Attributes) -> Tensor:
    inputs = [*inputs, None, None, None]
    scales = inputs[2].tolist() if inputs[2] is not None else []
    if (
        said.get("mode") == b"linear"
        and said.get("coordinate_transformation_mode") == b"align_corners"
        and inputs[3] is not None
    ):
        height, width = inputs[3].tolist()[2:]
        return F.interpolate(inputs[0], (height, width), mode="bilinear", align_corners=True)
    plain = (
        said.get("mode", b"nearest") == b"nearest"
        and said.get("coordinate_transformation_mode") == b"asymmetric"
        and said.get("nearest_mode") == b"floor"
    )
    if plain and inputs[3] is not None:
        sides, now = inputs[3].tolist()[2:], inputs[0].shape[2:]
        scales = [1, 1, *(side / length for side, length in zip(sides, now, strict=True))]
    if not plain or scales[:2] != [1, 1] or any(scale % 1 for scale in scales):
        raise _strange("resizes otherwise than by repeating pixels or linearly to the corners")
    return F.interpolate(inputs[0], scale_factor=scales[2:], mode="nearest")


def _slice(inputs: list[Any], said: Attributes) -> Tensor:
    x, starts, ends, *rest = inputs
    axes = rest[0].tolist() if rest else range(len(starts))
    steps = rest[1].tolist() if len(rest) > 1 else [1] * len(starts)
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        cut[axis] = slice(start, end, step)
    part: Tensor = x[tuple(cut)]
    return part


def _reshape(inputs: list[Any], said: Attributes) -> Tensor:
    x, shape = inputs[0], inputs[1].tolist()
    if said.get("allowzero", 0) or 0 in shape:
        raise _strange("reshapes by zeros")
    # Written for one picture; the first side is the pictures'.
    return x.reshape(x.shape[0] if shape[0] == 1 else shape[0], *shape[1:])


def _divide(inputs: list[Any], said: Attributes) -> Tensor:
    whole = not inputs[0].is_floating_point()
    return torch.div(inputs[0], inputs[1], rounding_mode="trunc" if whole else None)


def _shape(inputs: list[Any], said: Attributes) -> Tensor:
    if said.get("start", 0) or "end" in said:
        raise _strange("asks for a part of a shape")
    return torch.tensor(inputs[0].shape)


def _gather(inputs: list[Any], said: Attributes) -> Tensor:
    numbers, places = inputs
    if numbers.ndim != 1 or numbers.is_floating_point() or places.ndim > 1:
        raise _strange("gathers anything but sides of a shape")
    picked: Tensor = numbers[places]
    return picked


LAYERS: dict[str, Callable[[list[Any], Attributes], Tensor]] = {
    "Add": lambda inputs, said: inputs[0] + inputs[1],
    "Concat": lambda inputs, said: torch.cat(inputs, said["axis"]),
    "Conv": _convolve,
    "Div": _divide,
    "Gather": _gather,
    "Identity": lambda inputs, said: inputs[0],
    "MaxPool": _pool,
    "Mul": lambda inputs, said: inputs[0] * inputs[1],
    "Relu": lambda inputs, said: inputs[0].relu(),
    "Reshape": _reshape,
    "Resize": _enlarge,
    "Shape": _shape,
    "Sigmoid": lambda inputs, said: inputs[0].sigmoid(),
    "Slice": _slice,
    "Transpose": lambda inputs, said: inputs[0].permute(
        said.get("perm") or tuple(range(inputs[0].ndim))[::-1]
    ),
}
