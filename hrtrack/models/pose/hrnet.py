"""The pose HRNet of Sun et al., "Deep High-Resolution Representation Learning for Human
Pose Estimation", CVPR 2019, with the official parameter names, and what it costs.

Any width and stage layout can be built; batch norm and ReLU can be taken out of the stem,
of the basic blocks or of the whole network (the ablations of the study hrtrack grew from).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Scope = Literal["stem", "blocks", "all"]
STEM_WIDTH = 64
BOTTLENECK_EXPANSION = 4


@dataclass(frozen=True, slots=True)
class HRNetConfig:
    """What a pose HRNet is made of.

    ``modules`` are the numbers of multi-resolution modules in stages 2, 3 and 4 (the paper:
    1, 4, 3); ``blocks`` the residual blocks per branch and module (the paper: 4).
    ``norm="none"`` and ``activation="identity"`` act on ``scope`` only.
    ``heatmaps`` says how the last layer's maps are to be read: ``linear`` maps are
    heatmaps as they stand (mean-squared-error training), ``softmax`` maps are logits of a
    distribution over all cells plus one for "not in this crop" (cross-entropy training).
    ``fused``: the last layers read all four resolutions, resized bilinearly to the finest, as
    OpenMMLab's hand networks do after HRNetV2 (Wang et al., "Deep High-Resolution Representation
    Learning for Visual Recognition", TPAMI 2021); the exchange is bilinear then, too.
    """

    joints: int = 17
    width: int = 32
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    norm: Literal["batch", "none"] = "batch"
    activation: Literal["relu", "identity"] = "relu"
    scope: Scope = "all"
    heatmaps: Literal["linear", "softmax"] = "linear"
    fused: bool = False


class _Parts:
    """Makes convolutions, norms and activations as the config's ablation scope asks."""

    def __init__(self, config: HRNetConfig, place: Literal["stem", "blocks", "rest"]) -> None:
        touched = config.scope in ("all", place)
        self.has_norm = not (touched and config.norm == "none")
        self.has_relu = not (touched and config.activation == "identity")
        self.bilinear = config.fused

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        # A batch norm brings the bias; without one the convolution must have its own.
        bias = not self.has_norm
        return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)

    def norm(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels) if self.has_norm else nn.Identity()

    def act(self) -> nn.Module:
        return nn.ReLU(inplace=True) if self.has_relu else nn.Identity()

    def upsample(self, factor: int) -> nn.Module:
        if self.bilinear:
            return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)
        return nn.Upsample(scale_factor=factor, mode="nearest")

    def step(self, inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            self.conv(inputs, outputs, kernel, stride), self.norm(outputs), self.act()
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a residual connection."""

    def __init__(self, channels: int, parts: _Parts) -> None:
        super().__init__()
        self.conv1 = parts.conv(channels, channels, 3)
        self.bn1 = parts.norm(channels)
        self.relu = parts.act()
        self.conv2 = parts.conv(channels, channels, 3)
        self.bn2 = parts.norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a residual connection; the blocks of the first stage."""

    def __init__(self, inputs: int, channels: int, parts: _Parts) -> None:
        super().__init__()
        outputs = channels * BOTTLENECK_EXPANSION
        self.conv1 = parts.conv(inputs, channels, 1)
        self.bn1 = parts.norm(channels)
        self.conv2 = parts.conv(channels, channels, 3)
        self.bn2 = parts.norm(channels)
        self.conv3 = parts.conv(channels, outputs, 1)
        self.bn3 = parts.norm(outputs)
        self.relu = parts.act()
        self.downsample = (
            None
            if inputs == outputs
            else nn.Sequential(parts.conv(inputs, outputs, 1), parts.norm(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class HRModule(nn.Module):
    """Parallel branches of basic blocks, then an exchange between all resolutions."""

    def __init__(self, config: HRNetConfig, widths: list[int], outputs: int) -> None:
        super().__init__()
        block, fuse = _Parts(config, "blocks"), _Parts(config, "rest")
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, block) for _ in range(config.blocks)))
            for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(fuse, widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.relu = fuse.act()

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            total = row[0](xs[0])
            for layer, x in zip(row[1:], xs[1:], strict=True):
                total = total + layer(x)
            fused.append(self.relu(total))
        return fused


def _exchange(parts: _Parts, widths: list[int], source: int, target: int) -> nn.Module:
    """Carries branch ``source`` to the size and width of branch ``target``."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            parts.conv(widths[source], widths[target], 1),
            parts.norm(widths[target]),
            parts.upsample(2 ** (source - target)),
        )
    steps: list[nn.Module] = []
    for position in range(target - source):
        last = position == target - source - 1
        outputs = widths[target] if last else widths[source]
        step = parts.step(widths[source], outputs, 3, 2)
        steps.append(step[:2] if last else step)
    return nn.Sequential(*steps)


class HRNet(nn.Module):
    """Normalised images ``(N, 3, H, W)`` in, maps ``(N, joints, H/4, W/4)`` out.

    H and W must be multiples of 32. What the maps mean is ``config.heatmaps``;
    `hrtrack.export.graph` puts normalisation and decoding around it.
    """

    def __init__(self, config: HRNetConfig) -> None:
        super().__init__()
        self.config = config
        stem, rest = _Parts(config, "stem"), _Parts(config, "rest")
        self.conv1 = stem.conv(3, STEM_WIDTH, 3, stride=2)
        self.bn1 = stem.norm(STEM_WIDTH)
        self.conv2 = stem.conv(STEM_WIDTH, STEM_WIDTH, 3, stride=2)
        self.bn2 = stem.norm(STEM_WIDTH)
        self.relu = stem.act()
        expanded = STEM_WIDTH * BOTTLENECK_EXPANSION
        self.layer1 = nn.Sequential(
            *(Bottleneck(STEM_WIDTH if i == 0 else expanded, STEM_WIDTH, rest) for i in range(4))
        )
        widths = [config.width * 2**branch for branch in range(4)]
        self.transition1 = nn.ModuleList(
            [
                rest.step(expanded, widths[0], 3, 1),
                nn.Sequential(rest.step(expanded, widths[1], 3, 2)),
            ]
        )
        self.stage2 = self._stage(widths[:2], config.modules[0], outputs=2)
        self.transition2 = self._grow(rest, widths, 3)
        self.stage3 = self._stage(widths[:3], config.modules[1], outputs=3)
        self.transition3 = self._grow(rest, widths, 4)
        self.stage4 = self._stage(widths, config.modules[2], outputs=4 if config.fused else 1)
        self.final_layer: nn.Module
        if config.fused:
            total = sum(widths)
            self.final_layer = nn.Sequential(
                nn.Conv2d(total, total, 1),
                nn.BatchNorm2d(total),
                nn.ReLU(inplace=True),
                nn.Conv2d(total, config.joints, 1),
            )
        else:
            self.final_layer = nn.Conv2d(config.width, config.joints, 1)

    def _stage(self, widths: list[int], modules: int, outputs: int) -> nn.Sequential:
        """``modules`` exchange modules; only the last may give fewer than all resolutions."""
        every = len(widths)
        counts = [every] * (modules - 1) + [outputs]
        return nn.Sequential(*(HRModule(self.config, widths, count) for count in counts))

    @staticmethod
    def _grow(parts: _Parts, widths: list[int], branches: int) -> nn.ModuleList:
        """Keeps every branch and makes one more from the coarsest."""
        new = nn.Sequential(parts.step(widths[branches - 2], widths[branches - 1], 3, 2))
        return nn.ModuleList([*(nn.Identity() for _ in range(branches - 1)), new])

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.final_layer(self.features(x))
        return maps

    @property
    def head(self) -> nn.Conv2d:
        """The convolution that makes the maps."""
        last = self.final_layer[-1] if self.config.fused else self.final_layer  # type: ignore[index]
        assert isinstance(last, nn.Conv2d)
        return last

    def features(self, x: Tensor) -> Tensor:
        """What the last layers read: (N, width, H/4, W/4), of 15 times the width if fused."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        xs = self.stage2([step(x) for step in self.transition1])
        xs = self.stage3([*xs, self.transition2[2](xs[-1])])
        finest, *coarser = self.stage4([*xs, self.transition3[3](xs[-1])])
        if not coarser:
            return finest
        size = finest.shape[2:]
        grown = (F.interpolate(x, size, mode="bilinear", align_corners=False) for x in coarser)
        return torch.cat([finest, *grown], dim=1)


def initialise(network: HRNet, how: Literal["official", "he", "fixup"]) -> None:
    """Fills the weights before training from scratch.

    ``official``: normal with standard deviation 0.001 (what the paper's code does; needs
    batch norm). ``he``: He et al. 2015, for networks with batch norm. ``fixup``: He, and in
    parts without a norm the last convolution of each residual branch at zero and the exchange
    convolutions divided by the number of branches they meet, after Zhang et al., "Fixup
    Initialization", ICLR 2019; trains whatever the norm is taken out of.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if how == "official":
                nn.init.normal_(module.weight, std=0.001)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(network.head.weight, std=0.001)
    if how != "fixup":
        return
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, BasicBlock) and isinstance(module.bn2, nn.Identity):
                module.conv2.weight.zero_()
            elif isinstance(module, Bottleneck) and isinstance(module.bn3, nn.Identity):
                module.conv3.weight.zero_()
            elif isinstance(module, HRModule):
                share = 1 / len(module.branches)
                for layer in module.fuse_layers.modules():
                    # Only a convolution without a norm has a bias.
                    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                        layer.weight.mul_(share)


def to_heatmaps(maps: Tensor, kind: Literal["linear", "softmax"], sigma: float = 2.0) -> Tensor:
    """Reads a network's maps ``(N, K, H, W)`` as heatmaps with peaks near 1.

    A ``softmax`` map is a distribution over the H x W cells and one further cell of logit 0,
    "the joint is not in this crop". Multiplied with the peak-to-mass ratio ``2 pi sigma^2`` of
    the Gaussian it was trained on, a certain joint peaks at 1, an absent one stays near 0.
    """
    if kind == "linear":
        return maps
    logits = maps.float().flatten(2)
    highest = logits.amax(dim=2, keepdim=True).clamp(min=0)
    cells = torch.exp(logits - highest)
    total = cells.sum(dim=2, keepdim=True) + torch.exp(-highest)
    return (cells * (2 * math.pi * sigma**2) / total).reshape(maps.shape)


@dataclass(frozen=True, slots=True)
class Cost:
    """``macs`` multiply-accumulates and ``numbers`` read or written per crop; ``weights`` read
    once a batch.

    Traffic counts every convolution's input and output and every residual or exchange term,
    as if activations never stayed in a cache and norms and ReLUs cost nothing.
    """

    macs: int
    numbers: int
    weights: int

    def seconds(self, batch: int, macs_per_second: float, bytes_per_second: float) -> float:
        """The least time for a batch in float16: arithmetic or traffic, whichever is longer."""
        traffic = 2 * (self.numbers * batch + self.weights)
        return max(self.macs * batch / macs_per_second, traffic / bytes_per_second)


@torch.inference_mode()
def cost(network: HRNet, input_hw: tuple[int, int]) -> Cost:
    """Counts by running one blank crop on the meta device; takes no time and no memory."""
    macs = numbers = weights = 0

    def convolution(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs, numbers, weights
        assert isinstance(layer, nn.Conv2d)
        macs += output.numel() * layer.weight[0].numel()
        numbers += inputs[0].numel() + output.numel()
        weights += layer.weight.numel()

    def residual(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        nonlocal numbers
        numbers += output.numel()

    def exchange(module: nn.Module, _: object, outputs: list[Tensor]) -> None:
        nonlocal numbers
        assert isinstance(module, HRModule)
        terms = len(module.branches) - 1
        numbers += sum(terms * output.numel() for output in outputs)

    with torch.device("meta"):
        copy = HRNet(network.config).eval()
        image = torch.empty(1, 3, *input_hw)
    for layer in copy.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(convolution)
        elif isinstance(layer, BasicBlock | Bottleneck):
            layer.register_forward_hook(residual)
        elif isinstance(layer, HRModule):
            layer.register_forward_hook(exchange)
    copy(image)
    return Cost(macs, numbers, weights)
