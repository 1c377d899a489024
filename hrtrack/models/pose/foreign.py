"""What other projects' pose graphs look like: heatmaps or SimCC, told by inputs and outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...errors import ModelError
from ...skeleton import Skeleton
from ..info import PoseInfo, guess_info, guess_skeleton
from .decode import STRIDE

Ports = Mapping[str, Sequence[int]]
"""The shapes of a graph's inputs or outputs by name; -1 stands for a side left open."""


def describe_foreign(
    inputs: Ports, outputs: Ports, source: str | Path, skeleton: Skeleton | None = None
) -> PoseInfo:
    """What another project's pose graph predicts, and how; ``skeleton`` is the user's word for it.

    It takes RGB crops (N, 3, H, W) with the mean and spread of ImageNet. Heatmaps are one output
    (N, K, H/4, W/4); SimCC are two, (N, K, s W) and (N, K, s H) with s bins a crop pixel, called
    ``simcc_x`` and ``simcc_y`` or anything else.

    Raises:
        ModelError: it is neither, or nobody knows its joints.
    """
    shapes = list(outputs.values())
    crops = next(iter(inputs.values()), ())
    if len(inputs) == 1 and len(crops) == 4 and crops[1] == 3 and min(crops[1:]) > 0:
        height, width = crops[2:]
        ranks = [len(shape) for shape in shapes]
        if ranks == [4] and min(shapes[0][1:]) > 0:
            joints, rows, columns = shapes[0][1:]
            if (rows, columns) != (height // STRIDE, width // STRIDE):
                raise ModelError(
                    f"{source} maps 3x{height}x{width} to {joints}x{rows}x{columns}; "
                    "expected heatmaps of a quarter of the size"
                )
            guessed = guess_info(guess_skeleton(joints, source, skeleton), source)
            return dataclasses.replace(guessed, input_hw=(height, width))
        if ranks == [3, 3]:
            x, y = simcc_axes(outputs)
            across, down = outputs[x], outputs[y]
            split = across[2] / width
            if across[1] == down[1] > 0 and split * height == down[2] and split in (1, 2, 3, 4):
                guessed = guess_info(guess_skeleton(across[1], source, skeleton), source)
                return dataclasses.replace(guessed, input_hw=(height, width), split=split)
    found = ", ".join(
        f"{name} {'x'.join('?' if side < 0 else str(side) for side in shape)}"
        for name, shape in outputs.items()
    )
    raise ModelError(
        f"{source} gives {found or 'nothing'}; expected pose heatmaps (one output NxKxH/4xW/4) or "
        "SimCC (simcc_x NxKx2W, simcc_y NxKx2H) of crops Nx3xHxW"
    )


def simcc_axes(outputs: Iterable[str]) -> tuple[str, str]:
    """The names of the outputs for x and y: by name, else in the order that all exporters keep."""
    names = list(outputs)
    if {"simcc_x", "simcc_y"} <= set(names):
        return "simcc_x", "simcc_y"
    return names[0], names[1]
