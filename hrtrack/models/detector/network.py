"""The bundled person detector: an anchor-free, one-stage, single-class convolutional network.

A residual trunk at strides 4 to 32, a small two-way feature pyramid at strides 8, 16 and 32, and
one light head a level that predicts for every grid cell a person logit and the distances from the
cell's centre to the four box sides (Tian et al., "FCOS", ICCV 2019). Only plain 3x3 and 1x1
convolutions, max pooling, nearest up-sampling, ReLU and softplus, so every runtime takes it.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError
from ..runtimes.onnx_torch import read_onnx, shape_of

STRIDES = (8, 16, 32)
CONFIG_KEY = "detector_config"
SCALE_SUFFIX = "/scale"
"""Follows the name of a parameter that an ONNX file stores as integers."""
PIXEL_MEAN, PIXEL_STD = 114.0, 58.0
"""Letterbox bars are painted with the mean, so that they reach the network as zeros."""


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Channels at strides 2, 4, 8, 16, 32; residual blocks at strides 4 to 32; pyramid width."""

    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (1, 2, 4, 3)
    pyramid: int = 64


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, unless told otherwise, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, act: bool = True):
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.03, eps=1e-3),
        ]
        if act:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Block(nn.Module):
    """Residual pair of 3x3 convolutions with half the channels in between."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = ConvNorm(channels, channels // 2, 3)
        self.expand = ConvNorm(channels // 2, channels, 3, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.expand(self.reduce(x)))


class Context(nn.Module):
    """Pools over 5, 9 and 13 cells, so that the coarsest level sees the whole picture."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = ConvNorm(channels, channels // 2, 1)
        self.mix = ConvNorm(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.squeeze(x)]
        for _ in range(3):
            levels.append(F.max_pool2d(levels[-1], 5, 1, 2))
        return self.mix(torch.cat(levels, 1))


class Pyramid(nn.Module):
    """Coarse-to-fine, then fine-to-coarse, by addition (after Liu et al., "PANet", CVPR 2018)."""

    def __init__(self, inputs: tuple[int, int, int], width: int):
        super().__init__()
        self.lateral = nn.ModuleList(ConvNorm(c, width, 1, act=False) for c in inputs)
        self.smooth = nn.ModuleList(ConvNorm(width, width, 3) for _ in inputs)
        self.down = nn.ModuleList(ConvNorm(width, width, 3, 2, act=False) for _ in inputs[1:])

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = (conv(x) for conv, x in zip(self.lateral, levels, strict=True))
        middle = middle + F.interpolate(coarse, scale_factor=2.0)
        fine = self.smooth[0](fine + F.interpolate(middle, scale_factor=2.0))
        middle = self.smooth[1](middle + self.down[0](fine))
        coarse = self.smooth[2](coarse + self.down[1](middle))
        return [fine, middle, coarse]


class Head(nn.Module):
    """One level's predictions: person logit and softplus side distances in strides."""

    def __init__(self, width: int):
        super().__init__()
        self.score_features = ConvNorm(width, width // 2, 3)
        self.box_features = ConvNorm(width, width // 2, 3)
        self.score = nn.Conv2d(width // 2, 1, 1)
        self.box = nn.Conv2d(width // 2, 4, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        self.score.bias = nn.Parameter(torch.full((1,), -4.0))
        nn.init.normal_(self.box.weight, std=0.01)
        self.box.bias = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.score(self.score_features(x)), self.box(self.box_features(x))


class PersonDetector(nn.Module):
    """Images in, a logit and four side distances for every grid cell of three levels out."""

    def __init__(self, config: DetectorConfig | None = None):
        super().__init__()
        self.config = config or DetectorConfig()
        w, n = self.config.widths, self.config.blocks
        self.stem = ConvNorm(3, w[0], 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNorm(w[i], w[i + 1], 3, 2), *(Block(w[i + 1]) for _ in range(n[i])))
            for i in range(4)
        )
        self.context = Context(w[4])
        self.pyramid = Pyramid((w[2], w[3], w[4]), self.config.pyramid)
        self.heads = nn.ModuleList(Head(self.config.pyramid) for _ in STRIDES)

    def forward(self, images_NHW3: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB images, sides multiples of 32 -> logits (N, P), distances (N, P, 4) in pixels.

        Distances are left, top, right, bottom from the cell centres of `cell_centres`.
        """
        return self.predict(self.features(images_NHW3))

    def features(self, images_NHW3: Tensor) -> list[Tensor]:
        """The pyramid's three levels (N, C, H/s, W/s), finest first."""
        x = (images_NHW3.permute(0, 3, 1, 2).float() - PIXEL_MEAN) / PIXEL_STD
        x = self.stem(x.to(next(self.parameters()).dtype))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        pyramid: list[Tensor] = self.pyramid([levels[1], levels[2], self.context(levels[3])])
        return pyramid

    def predict(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What `forward` gives, from the pyramid's levels."""
        logits, sides = [], []
        for level, head, stride in zip(pyramid, self.heads, STRIDES, strict=True):
            score, box = head(level)
            logits.append(score.float().flatten(1))
            sides.append(F.softplus(box.float().flatten(2).transpose(1, 2)) * stride)
        return torch.cat(logits, 1), torch.cat(sides, 1)


def cell_centres(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Centres (P, 2) as x, y in pixels and strides (P,) of all cells, in the network's order."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
        )
        points = (torch.stack([x, y], -1).reshape(-1, 2).float() + 0.5) * stride
        centres.append(points)
        strides.append(torch.full((len(points),), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def boxes_from_sides(centres_P2: Tensor, sides_NP4: Tensor) -> Tensor:
    """Side distances to boxes (N, P, 4) as x0, y0, x1, y1 in pixels."""
    return torch.cat([centres_P2 - sides_NP4[..., :2], centres_P2 + sides_NP4[..., 2:]], -1)


class DetectorGraph(nn.Module):
    """The detector as it is exported: static size, boxes in input pixels, scores in [0, 1].

    The cell centres lie in the file under the name ``centres`` (P, 4: x, y, x, y), so that a
    runtime that wants another input size can put others in their place.
    """

    centres: Tensor
    directions: Tensor

    def __init__(self, detector: PersonDetector, height: int, width: int):
        super().__init__()
        self.detector = detector
        centres, _ = cell_centres(height, width)
        self.register_buffer("centres", centres.repeat(1, 2))
        self.register_buffer("directions", torch.tensor([-1.0, -1.0, 1.0, 1.0]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, sides = self.detector(images)
        return self.centres + self.directions * sides, logits.sigmoid()


def load_detector(path: Path, detector: PersonDetector | None = None) -> PersonDetector:
    """Fills a detector from a training checkpoint or from an ONNX file of ours.

    Without ``detector`` one of the configuration that the file names is made. A ``detector`` with
    more blocks at a stride than the file has computes what the file's did: its further blocks
    begin as nothing but their shortcut.

    Raises:
        ModelError: the file cannot be read or does not fit; the message names the first
            parameters that differ.
    """
    weights, config = _onnx_weights(path) if path.suffix == ".onnx" else _checkpoint_weights(path)
    detector = PersonDetector(config) if detector is None else detector
    if config is not None:
        own = detector.config.blocks
        if any(here < there for here, there in zip(own, config.blocks, strict=True)):
            raise ModelError(
                f"{path} does not fit this person detector: it has {list(config.blocks)} blocks, "
                f"more than {list(own)} (model.blocks)"
            )
        weights = _further_blocks(detector, config.blocks) | weights
    wanted = detector.state_dict()
    wrong = [
        name
        for name, value in wanted.items()
        if value.ndim and (name not in weights or weights[name].shape != value.shape)
    ]
    if wrong:
        raise ModelError(
            f"{path} does not fit this person detector: {', '.join(wrong[:3])} missing or of "
            "another shape"
        )
    detector.load_state_dict(
        {name: weights[name].to(old.dtype) if old.ndim else old for name, old in wanted.items()}
    )
    return detector


def _further_blocks(detector: PersonDetector, blocks: tuple[int, ...]) -> dict[str, Tensor]:
    """Parameters of the blocks beyond ``blocks``, whose residual branches give zero."""
    weights: dict[str, Tensor] = {}
    for i, (stage, count) in enumerate(zip(detector.stages, blocks, strict=True)):
        for j, block in list(enumerate(stage.children()))[1 + count :]:
            names = {f"stages.{i}.{j}.{name}": v for name, v in block.state_dict().items()}
            last = (f"stages.{i}.{j}.expand.1.{name}" for name in ("weight", "bias"))
            weights |= names | {name: torch.zeros_like(names[name]) for name in last}
    return weights


def onnx_input_hw(path: Path) -> tuple[int, int]:
    """Height and width of the pictures that an exported detector takes; ModelError otherwise."""
    shape = shape_of(read_onnx(path).graph.input[0])
    if len(shape) != 4 or shape[3] != 3:
        raise ModelError(f"{path} takes {shape}; expected uint8 pictures 1 x H x W x 3")
    return shape[1], shape[2]


def config_text(config: DetectorConfig) -> str:
    """A configuration as it stands in files."""
    return json.dumps(dataclasses.asdict(config))


def _config(text: str | None) -> DetectorConfig | None:
    if text is None:
        return None
    fields = json.loads(text)
    return DetectorConfig(tuple(fields["widths"]), tuple(fields["blocks"]), fields["pyramid"])


def average_of(saved: dict[str, Any]) -> tuple[dict[str, Tensor], str | None]:
    """The running average in what a detector's training saved, and its configuration's text.

    KeyError where it holds none.
    """
    if "average" in saved:  # the state of a training
        return saved["average"], saved["facts"]["model"]
    return saved["ema"], saved.get("config")


def _checkpoint_weights(path: Path) -> tuple[dict[str, Tensor], DetectorConfig | None]:
    try:
        weights, config = average_of(torch.load(path, map_location="cpu", weights_only=True))
        return weights, _config(config)
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path} is not a detector checkpoint of hrtrack: {reason}") from None


def _onnx_weights(path: Path) -> tuple[dict[str, Tensor], DetectorConfig | None]:
    from onnx import numpy_helper

    model = read_onnx(path)
    weights = {
        item.name: torch.from_numpy(numpy_helper.to_array(item).copy())
        for item in model.graph.initializer
    }
    for name, scale in list(weights.items()):
        if name.endswith(SCALE_SUFFIX):
            whole = name.removesuffix(SCALE_SUFFIX)
            weights[whole] = weights[whole].float() * scale[:, None, None, None]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return weights, _config(metadata.get(CONFIG_KEY))
