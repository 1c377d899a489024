"""Every export is asked the same pictures as PyTorch before it may be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ModelError
from ..models.agreement import ENOUGH, TOLERANCES, Agreement, compare, decided_joints
from ..models.info import PoseInfo
from ..models.network import Network
from ..models.pose.graph import PoseGraph
from ..models.pose.hrnet import HRNet
from ..types import Float32Array

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Reference:
    """PyTorch's float32 answers for ``crops`` (N, H, W, 3): (N, K, 3) and (N, K, h, w)."""

    crops: NDArray[np.uint8]
    keypoints: Float32Array
    heatmaps: Float32Array

    @property
    def sure(self) -> bool:
        """Whether the network finds enough joints in these crops to compare their places."""
        return decided_joints(self.keypoints) >= ENOUGH


@torch.inference_mode()
def reference_answers(network: HRNet, described: PoseInfo, crops: NDArray[np.uint8]) -> Reference:
    """Asks PyTorch about crops (N, H, W, 3), one at a time."""
    graph = PoseGraph(network.float().cpu(), described)
    answers = [graph(torch.from_numpy(crop[None])) for crop in crops]
    keypoints, heatmaps = (
        np.concatenate([a.numpy() for a in kind]) for kind in zip(*answers, strict=True)
    )
    return Reference(crops, keypoints, heatmaps)


def verify(
    found: Network,
    reference: Reference,
    described: PoseInfo,
    precision: str,
    *,
    allow_inaccurate: bool = False,
) -> Agreement:
    """Compares an exported network with PyTorch's answers.

    Args:
        found: the export, opened on the back end it is for.
        reference: from `reference_answers`. Where the network is sure of too few joints there, as
            after a short training, the heatmaps are compared too.
        precision: its key in `hrtrack.models.agreement.TOLERANCES`.
        allow_inaccurate: return the comparison even if it is beyond tolerance.

    Raises:
        ModelError: beyond tolerance; the message has the numbers.
    """
    answer = found(reference.crops, heatmaps=not reference.sure)
    agreement = compare(
        reference.keypoints,
        answer["keypoints"],
        described.skeleton,
        described.input_hw,
        maps=None if reference.sure else (reference.heatmaps, answer["heatmaps"]),
    )
    if not agreement.within(TOLERANCES[precision]) and not allow_inaccurate:
        limit = TOLERANCES[precision]
        allowed = f"{limit.maps} of the heatmaps' spread"
        if agreement.sure:
            allowed = f"{limit.mean_pixels} px mean, {limit.p95_pixels} px p95, OKS {limit.oks}"
        raise ModelError(
            f"the {precision} export differs from PyTorch by {agreement}; allowed are "
            f"{allowed}, score {limit.mean_score}; not saved "
            "(--allow-inaccurate saves it all the same)"
        )
    return agreement


def agreement_table(rows: dict[str, Agreement]) -> Table:
    """The comparisons by name, for the terminal."""
    from rich.table import Table

    table = Table(title="Against PyTorch float32, in crop pixels")
    unsure = not all(row.sure for row in rows.values())
    headings = ["export", "joints", "mean px", "p95 px", "OKS", "score", *(["maps"] * unsure)]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "export" else "right")
    for name, row in rows.items():
        places = [f"{row.mean_pixels:.3f}", f"{row.p95_pixels:.3f}", f"{row.oks:.4f}"]
        maps = "-" if row.maps is None else f"{row.maps:.4f}"
        table.add_row(
            name, str(row.decided), *(places if row.decided else ["-"] * 3),
            f"{row.mean_score:.4f}", *([maps] * unsure),
        )  # fmt: skip
    if unsure:
        table.caption = (
            "the network is sure of too few joints in these crops: compared were the heatmaps, "
            "their difference over their spread"
        )
    return table
