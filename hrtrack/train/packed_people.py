"""How good a network is on packed people, where their photos are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ..geometry import crop_boxes
from ..models.graph import PoseGraph
from ..models.hrnet import HRNet
from ..models.info import PoseInfo
from .data.people import People
from .packs import Labels
from .plan import Draw
from .precision import in_bf16
from .resident import Kept, Resident
from .validate import mean_oks, mean_pckh

BATCH = 64


class PackedPeople:
    """PCKh and mean OKS on packed people, cut as the network sees them and left unchanged.

    Args:
        kept, labels: from `hrtrack.train.packs.read_packs`, on the device that is to compute.
        described: the network's input and joints.
        config: a training's configuration, or its sections as plain attributes.
    """

    def __init__(self, kept: Kept, labels: Labels, described: PoseInfo, config: Any) -> None:
        still: Any = SimpleNamespace(**vars(config))
        still.augment = SimpleNamespace(**dict.fromkeys(vars(config.augment), 0))
        self.described = described
        self.bf16 = in_bf16(config.fit.precision, kept.crops.device)
        count, size = len(kept.crops), (described.input_hw[0], described.input_hw[1])
        scale = size[1] / crop_boxes(labels.boxes, size[1] / size[0], config.input.padding)[:, 2]
        draws = [Draw(row, row, size, described.sigma) for row in range(count)]
        parts = [draws[i : i + BATCH] for i in range(0, count, BATCH)]
        self.batches = list(Resident(kept, described.skeleton, still).batches(parts))
        self.people = People(
            skeleton=described.skeleton,
            sources=(),
            source=np.zeros(count, np.int32),
            files=("",) * count,
            ids=np.arange(count),
            boxes=labels.boxes * scale[:, None].astype(np.float32),
            areas=(labels.areas * scale**2).astype(np.float32),
            keypoints=torch.cat([batch.points for batch in self.batches]).cpu().numpy(),
            weights=labels.weights,
            heads=(labels.heads * scale).astype(np.float32),
            repeats=labels.repeats,
        )

    @torch.inference_mode()
    def __call__(self, network: HRNet) -> tuple[float | None, float]:
        """Of one network, without flip test; PCKh in percent, None where no head is known."""
        device = self.batches[0].crops.device
        graph = PoseGraph(network, self.described).to(device)
        found = []
        for batch in self.batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                found.append(graph(batch.crops)[0].float().cpu())
        points = torch.cat(found).numpy().astype(np.float64)[..., :2]
        people = self.people
        oks = mean_oks(points, people, people.weights > 0, people.skeleton)
        return mean_pckh(points, people), oks
