"""A small spatio-temporal graph network for the 13-joint action skeleton.

After ST-GCN++ (Duan et al., "PYSKL: Towards Good Practices for Skeleton Action Recognition",
2022): learned graphs with a residual around the spatial step, and a multi-branch temporal
step. Joints, bones and their motion are computed inside the graph and fused before the first
block, so one small network takes the place of four.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..skeleton import ACTION13, Skeleton

# Away from the body's middle; a bone is a joint minus its parent.
PARENTS = (1, 7, 8, 1, 2, 3, 4, 8, 7, 7, 8, 9, 10)


def body_graphs(skeleton: Skeleton = ACTION13) -> Tensor:
    """Self, inward and outward neighbours as (3, V, V), each column summing to 1 or 0."""
    count = len(skeleton)
    graphs = torch.zeros(3, count, count)
    graphs[0] = torch.eye(count)
    for inner, outer in skeleton.limbs:
        graphs[1, inner, outer] = 1.0
        graphs[2, outer, inner] = 1.0
    return graphs / graphs.sum(1, keepdim=True).clamp(min=1.0)


class GraphStep(nn.Module):
    """Every joint gathers from its neighbours; the graphs start as the body and are learned."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        graphs = body_graphs()
        self.kinds, self.joints = graphs.shape[:2]
        self.graphs = nn.Parameter(graphs)
        self.mix = nn.Conv2d(inputs, outputs * self.kinds, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.skip = nn.Identity() if inputs == outputs else _pointwise(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        frames, joints = x.shape[2], self.joints
        # (N, T, V, kinds x C') read as (V x kinds, C'): one product sums over both.
        mixed = self.mix(x).permute(0, 2, 3, 1)
        channels = mixed.shape[3] // self.kinds
        mixed = mixed.reshape(-1, frames, joints * self.kinds, channels)
        gather = self.graphs.permute(2, 1, 0).reshape(joints, joints * self.kinds)
        out = torch.matmul(gather, mixed).permute(0, 3, 1, 2)
        return F.relu(self.norm(out) + self.skip(x))


class TimeStep(nn.Module):
    """Three dilations and a max pool beside one another, along time only."""

    def __init__(self, channels: int, stride: int, drop: float) -> None:
        super().__init__()
        part = channels // 4
        self.reduce = _pointwise(channels, channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(part, part, (3, 1), (stride, 1), (d, 0), (d, 1), bias=False)
            for d in (1, 2, 4)
        )
        self.pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.fuse = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), _pointwise(channels, channels)
        )
        self.drop = nn.Dropout(drop) if drop else nn.Identity()
        self.skip = nn.Identity() if stride == 1 else nn.AvgPool2d((stride, 1), (stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C, T / stride, V)."""
        *parts, last = F.relu(self.reduce(x)).chunk(4, dim=1)
        branches = [conv(p) for conv, p in zip(self.convs, parts, strict=True)]
        out = self.fuse(torch.cat([*branches, self.pool(last)], 1))
        return F.relu(self.drop(out) + self.skip(x))


class ActionNet(nn.Module):
    """Normalised joints (N, 3, T, V) to logits (N, classes)."""

    def __init__(
        self,
        classes: int,
        widths: Sequence[int] = (48, 96, 96),
        strides: Sequence[int] = (1, 2, 1),
        drop: float = 0.0,
        head_drop: float = 0.3,
    ) -> None:
        super().__init__()
        # Motion is taken at the full rate; the blocks see every other moment.
        self.stem = nn.Sequential(
            nn.Conv2d(12, widths[0], (4, 1), (2, 1), (1, 0), bias=False),
            nn.BatchNorm2d(widths[0]),
        )
        self.place = nn.Parameter(torch.zeros(1, widths[0], 1, len(ACTION13)))
        steps: list[nn.Module] = []
        inputs = widths[0]
        for width, stride in zip(widths, strides, strict=True):
            steps += [GraphStep(inputs, width), TimeStep(width, stride, drop)]
            inputs = width
        self.steps = nn.Sequential(*steps)
        self.head_drop = nn.Dropout(head_drop)
        self.head = nn.Linear(2 * inputs, classes)

    def forward(self, joints: Tensor) -> Tensor:
        """x and y in units of the person, and the score; 0 where a joint was not seen."""
        # Channels last: the graph steps then read and write without moving memory.
        x = streams(joints).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        x = F.relu(x + self.place.to(x.dtype))
        x = self.steps(x)
        pooled = torch.cat([x.mean((2, 3)), x.mean(3).amax(2)], 1)
        return self.head(self.head_drop(pooled))


def streams(joints: Tensor) -> Tensor:
    """Joints, bones and the motion of both (N, 12, T, V); a stream of an unseen joint is 0."""
    points, scores = joints[:, :2], joints[:, 2:]
    seen = (scores > 0).to(points.dtype)
    parents = torch.tensor(PARENTS, device=joints.device)
    bone_seen = seen * seen.index_select(3, parents)
    bones = (points - points.index_select(3, parents)) * bone_seen
    return torch.cat(
        [points, scores, bones, bone_seen, *_motion(points, seen), *_motion(bones, bone_seen)], 1
    )


def _motion(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    both = seen[:, :, 1:] * seen[:, :, :-1]
    moved = (values[:, :, 1:] - values[:, :, :-1]) * both
    return F.pad(moved, (0, 0, 1, 0)), F.pad(both, (0, 0, 1, 0))


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
