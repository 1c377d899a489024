"""How good a network is in the middle of a training: PCKh where heads are known, and OKS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ...datasets.people import People
from ...errors import DataError
from ...evaluation.metrics.pckh import joint_groups, normalised_errors, pckh
from ...evaluation.predict import Reader, cut_all, labelled_boxes, predict
from ...geometry import aligned_oks, box_affines, transform
from ...models.info import PoseInfo
from ...models.pose.graph import PoseGraph
from ...models.pose.hrnet import HRNet
from ...models.precision import in_bf16
from ...types import FloatArray

if TYPE_CHECKING:
    from ...configs.pose_schema import TrainConfig

SHOWN = 16
"""People of whom a validation keeps the crops, for a look."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Results over all people, and the first of them for a look.

    ``pckh`` is the mean PCKh@0.5 in percent, None where no head size is known; ``oks`` the
    mean object keypoint similarity in [0, 1] over labelled joints.
    """

    pckh: float | None
    oks: float
    crops: NDArray[np.uint8]  # (n, H, W, 3)
    predicted: FloatArray  # (n, K, 3) crop pixels
    labelled: FloatArray  # (n, K, 3) crop pixels, weight

    @property
    def score(self) -> float:
        """The number by which the best network is chosen: PCKh, else 100 times the OKS."""
        return self.pckh if self.pckh is not None else 100 * self.oks


def validate(
    network: HRNet, people: People, described: PoseInfo, config: TrainConfig, device: torch.device
) -> Validation:
    """PCKh and OKS on the labelled boxes, no flip test; DataError when no photo can be read."""
    size, padding = described.input_hw, config.input.padding
    graph = PoseGraph(network, described).to(device)
    bf16 = in_bf16(config.fit.precision, device)

    def read(crops_NHW3: NDArray[np.uint8]) -> FloatArray:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            keypoints, _ = graph(torch.from_numpy(crops_NHW3).to(device))
        return keypoints.float().cpu().numpy().astype(np.float64)

    found = predict(
        {"": Reader(size, read)}, labelled_boxes(people), people.photo, len(people.skeleton),
        padding=padding, lenient=True, quiet=True,
    )[""]  # fmt: skip
    points = found[..., :2]
    shown = np.flatnonzero(~np.isinf(found).all(axis=(1, 2)))[:SHOWN]
    if not len(shown):
        raise DataError("not one photo of the set could be read")
    affines = box_affines(people.boxes[shown], size, padding)
    places = found[shown]
    places[..., :2] = transform(places[..., :2], affines)
    labels = transform(people.keypoints[shown], affines)
    return Validation(
        mean_pckh(points, people),
        mean_oks(points, people),
        cut_all([people.photo(row) for row in shown], affines, size),
        places,
        np.concatenate([labels, people.weights[shown][..., None]], axis=2),
    )


def mean_pckh(found: FloatArray, people: People) -> float | None:
    """Mean PCKh@0.5 in percent of keypoints (N, K, 2), over people with a known head size."""
    headed = np.isfinite(people.heads)
    groups = joint_groups(people.skeleton)
    if not headed.any() or not groups:
        return None
    errors = normalised_errors(
        found[headed], people.keypoints[headed], people.heads[headed].astype(np.float64)
    )
    return pckh(errors, people.weights[headed] > 0, groups)["mean"]


def mean_oks(found: FloatArray, people: People) -> float:
    """The mean over people of the OKS of keypoints (N, K, 2) with the same person's labels."""
    labelled, sigmas = people.weights > 0, np.asarray(people.skeleton.sigmas)
    each = aligned_oks(found, people.keypoints, people.areas, sigmas, labelled.astype(np.float64))
    some = labelled.any(axis=1)
    return float(each[some].mean()) if some.any() else math.nan
