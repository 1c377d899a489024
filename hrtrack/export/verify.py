"""Every export is asked the same pictures as PyTorch before it may be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ModelError
from ..models.agreement import TOLERANCES, Agreement, compare, drawn_crops
from ..models.graph import PoseGraph
from ..models.hrnet import HRNet
from ..models.info import PoseInfo
from ..models.network import Network

if TYPE_CHECKING:
    from rich.table import Table

Keypoints = NDArray[np.float32]


@torch.inference_mode()
def reference_keypoints(network: HRNet, described: PoseInfo, crops: NDArray[np.uint8]) -> Keypoints:
    """PyTorch's float32 answer (N, K, 3) for crops (N, H, W, 3), one crop at a time."""
    graph = PoseGraph(network.float().cpu(), described)
    answers = [graph(torch.from_numpy(crop[None]))[0].numpy() for crop in crops]
    return np.concatenate(answers)


def verify(
    found: Network,
    reference: Keypoints,
    described: PoseInfo,
    precision: str,
    *,
    crops: NDArray[np.uint8] | None = None,
    allow_inaccurate: bool = False,
) -> Agreement:
    """Compares an exported network with PyTorch's answers.

    Args:
        found: the export, opened on the back end it is for.
        reference: from `reference_keypoints` for the same crops.
        precision: its key in `hrtrack.models.agreement.TOLERANCES`.
        crops: the drawn ones by default.
        allow_inaccurate: return the comparison even if it is beyond tolerance.

    Raises:
        ModelError: beyond tolerance; the message has the numbers.
    """
    crops = drawn_crops(described.input_hw) if crops is None else crops
    answer = found(crops)["keypoints"]
    agreement = compare(reference, answer, described.skeleton, described.input_hw)
    if not agreement.within(TOLERANCES[precision]) and not allow_inaccurate:
        limit = TOLERANCES[precision]
        raise ModelError(
            f"the {precision} export differs from PyTorch by {agreement}; allowed are "
            f"{limit.mean_pixels} px mean, {limit.p95_pixels} px p95, OKS {limit.oks}, score "
            f"{limit.mean_score}; not saved (--allow-inaccurate saves it all the same)"
        )
    return agreement


def agreement_table(rows: dict[str, Agreement]) -> Table:
    """The comparisons by name, for the terminal."""
    from rich.table import Table

    table = Table(title="Against PyTorch float32, in crop pixels")
    for heading in ("export", "joints", "mean px", "p95 px", "OKS", "score"):
        table.add_column(heading, justify="left" if heading == "export" else "right")
    for name, row in rows.items():
        table.add_row(
            name, str(row.decided), f"{row.mean_pixels:.3f}", f"{row.p95_pixels:.3f}",
            f"{row.oks:.4f}", f"{row.mean_score:.4f}",
        )  # fmt: skip
    return table
