"""What the ONNX person detectors people use look like, and how their outputs are read.

A format is recognised by the names, shapes and types of a graph's inputs and outputs alone, so
that any file of the kind works whatever it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ....errors import ModelError
from ....models.detector.letterbox import OWN_NMS_IOU, OWN_VOTE_IOU
from ....types import Detections, Float32Array

Decode = Callable[[dict[str, Any], tuple[int, int]], Detections]
PERSON_CLASS = 0
RTMDET_MEAN = (103.53, 116.28, 123.675)
RTMDET_STD = (57.375, 57.12, 58.395)
DEFAULT_SIDE = 640
STRIDES = (8, 16, 32)

EXPECTED = (
    "expected one of: hrtrack (uint8 images 1xHxWx3 -> boxes 1xMx4, scores 1xM); YOLOX "
    "(1x3xHxW -> 1xPx85 or 1xPx6, P the cells of strides 8, 16 and 32); DEIM / RT-DETR (images "
    "1x3xHxW, orig_target_sizes -> labels, boxes, scores); RTMDet / mmdeploy (1x3xHxW -> dets "
    "1xNx5, labels 1xN); RTMDet per stride (1x3xHxW -> for strides 8, 16 and 32 classes 1xCxhxw "
    "and distances 1x4xhxw)"
)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph; -1 stands for a dimension left open."""

    names: frozenset[str]
    shape: tuple[int, ...]
    type: str


@dataclass(frozen=True, slots=True)
class Format:
    """How pictures go into a detector and people come out.

    ``decode`` takes the outputs by name and the input's (height, width) and gives boxes xyxy in
    input pixels and person scores, unsorted, duplicates included where ``nms_iou`` is set.
    """

    kind: Literal["hrtrack", "yolox", "deim", "rtmdet", "rtmdet-strides", "yolox-mmdeploy"]
    image: str
    input_hw: tuple[int, int]
    decode: Decode
    letterbox: bool = True
    channels_last: bool = False
    bgr: bool = False
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    size_input: str | None = None
    nms_iou: float | None = None
    vote_iou: float | None = None


def recognise(inputs: list[Port], outputs: list[Port], slices_input: bool, source: str) -> Format:
    """The format of a graph.

    ``slices_input`` says whether the image is first cut into strided slices: YOLOX exported by
    mmdeploy looks like RTMDet from outside, but begins so and takes pixels of 0-255.

    Raises:
        ModelError: none fits; the message says what was found and what was expected.
    """
    images = [p for p in inputs if len(p.shape) == 4]
    if len(images) == 1:
        image, name = images[0], _name(images[0])
        out = {n: p for p in outputs for n in p.names}
        if image.shape[3] == 3 and image.type == "u8" and {"boxes", "scores"} <= out.keys():
            return Format(
                "hrtrack",
                name,
                _sides(image.shape[1:3]),
                _decode_plain,
                channels_last=True,
                nms_iou=OWN_NMS_IOU,
                vote_iou=OWN_VOTE_IOU,
            )
        if image.shape[1] == 3:
            hw = _sides(image.shape[2:])
            others = [p for p in inputs if p is not image]
            if (
                {"labels", "boxes", "scores"} <= out.keys()
                and len(others) == 1
                and _ends_with(others[0], 2)
                and _ends_with(out["boxes"], 4)
            ):
                return Format(
                    "deim",
                    name,
                    hw,
                    _decode_labelled,
                    letterbox=False,
                    mean=(0.0, 0.0, 0.0),
                    std=(255.0, 255.0, 255.0),
                    size_input=_name(others[0]),
                )
            if {"dets", "labels"} <= out.keys() and len(inputs) == 1 and _ends_with(out["dets"], 5):
                if slices_input:
                    return Format("yolox-mmdeploy", name, hw, _decode_dets, bgr=True)
                return Format(
                    "rtmdet", name, hw, _decode_dets, bgr=True, mean=RTMDET_MEAN, std=RTMDET_STD
                )
            if (
                len(inputs) == len(outputs) == 1
                and len(outputs[0].shape) == 3
                and outputs[0].shape[2] in (6, 85)
                # YOLOv5 has three times as many rows, end-to-end kinds a few hundred.
                and outputs[0].shape[1] in (-1, len(yolox_grid(hw)[0]))
            ):
                raw = _name(outputs[0])
                return Format(
                    "yolox",
                    name,
                    hw,
                    lambda o, hw: _decode_yolox(o[raw], hw),
                    bgr=True,
                    nms_iou=0.6,
                )
            if len(inputs) == 1 and _are_strides(outputs, hw):
                return Format(
                    "rtmdet-strides",
                    name,
                    hw,
                    _decode_strides,
                    bgr=True,
                    mean=RTMDET_MEAN,
                    std=RTMDET_STD,
                    nms_iou=0.6,
                )
    raise ModelError(
        f"{source} is not a person detector: found {_describe(inputs)} -> {_describe(outputs)}; "
        + EXPECTED
    )


def _name(port: Port) -> str:
    return min(port.names)


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = (side if side > 0 else DEFAULT_SIDE for side in shape)
    return height, width


def _ends_with(port: Port, length: int) -> bool:
    """Whether the last side is of a length, or left open."""
    return bool(port.shape) and port.shape[-1] in (-1, length)


def _are_strides(outputs: list[Port], hw: tuple[int, int]) -> bool:
    """Whether there are a map of classes and one of four distances for each of the strides."""
    if any(len(port.shape) != 4 or port.shape[1] < 1 for port in outputs):
        return False
    sides = sorted((hw[0] // stride, hw[1] // stride) for stride in STRIDES)
    boxes = [port for port in outputs if port.shape[1] == 4]
    classes = [port for port in outputs if port.shape[1] != 4]
    return len({port.shape[1] for port in classes}) == 1 and all(
        len(ports) == len(STRIDES)
        and all(
            port.shape[2:] == side or -1 in port.shape[2:]
            for port, side in zip(sorted(ports, key=lambda p: p.shape[2:]), sides, strict=True)
        )
        for ports in (boxes, classes)
    )


def _describe(ports: list[Port]) -> str:
    def one(port: Port) -> str:
        sides = "x".join("?" if side < 0 else str(side) for side in port.shape)
        return f"{'/'.join(sorted(port.names)) or 'unnamed'} {sides or 'scalar'} {port.type}"

    return ", ".join(one(port) for port in ports) or "nothing"


def _decode_plain(outputs: dict[str, Any], hw: tuple[int, int]) -> Detections:
    return outputs["boxes"][0], outputs["scores"][0]


def _decode_labelled(outputs: dict[str, Any], hw: tuple[int, int]) -> Detections:
    people = outputs["labels"][0] == PERSON_CLASS
    return outputs["boxes"][0][people], outputs["scores"][0][people]


def _decode_dets(outputs: dict[str, Any], hw: tuple[int, int]) -> Detections:
    people = outputs["labels"][0] == PERSON_CLASS
    dets = outputs["dets"][0][people]
    return dets[:, :4], dets[:, 4]


def yolox_grid(hw: tuple[int, int]) -> tuple[Float32Array, Float32Array]:
    """Cell corners (P, 2) in cells and strides (P, 1) of YOLOX's strides 8, 16 and 32."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: hw[0] // stride, : hw[1] // stride].astype(np.float32)
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((len(cells[-1]), 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)


def _decode_yolox(raw_1PC: Float32Array, hw: tuple[int, int]) -> Detections:
    """Ge et al., "YOLOX", 2021: centre offsets and log sizes in strides, objectness, classes."""
    raw = raw_1PC[0]
    cells, strides = yolox_grid(hw)
    scores = raw[:, 4] * raw[:, 5 + PERSON_CLASS]
    likely = scores > 0.01
    raw, cells, strides, scores = raw[likely], cells[likely], strides[likely], scores[likely]
    centre = (raw[:, :2] + cells) * strides
    half = np.exp(raw[:, 2:4]) * strides / 2
    return np.concatenate([centre - half, centre + half], 1), scores


def _decode_strides(
    outputs: dict[str, Any], hw: tuple[int, int]
) -> tuple[Float32Array, Float32Array]:
    """RTMDet's head (Lyu et al., 2022) as it stands before its post-processing.

    Cell (x, y) of stride s is the point (s x, s y), without half a cell, from which the distances
    to the four sides are given in input pixels. Classes may have passed the sigmoid or not: of
    thousands of cells those that have not are never all positive.
    """
    maps = list({id(array): array for array in outputs.values()}.values())
    distances = {array.shape[2:]: array[0] for array in maps if array.shape[1] == 4}
    classes = {array.shape[2:]: array[0, PERSON_CLASS] for array in maps if array.shape[1] != 4}
    boxes, scores = [], []
    for sides, far in distances.items():
        y, x = np.mgrid[: sides[0], : sides[1]].astype(np.float32)
        x, y = x * (hw[1] / sides[1]), y * (hw[0] / sides[0])
        boxes.append(np.stack([x - far[0], y - far[1], x + far[2], y + far[3]], -1).reshape(-1, 4))
        scores.append(classes[sides].reshape(-1))
    raw = np.concatenate(scores)
    if raw.min() < 0:
        raw = 1 / (1 + np.exp(-raw.clip(-50)))
    likely = raw > 0.01
    return np.concatenate(boxes)[likely], raw[likely]
