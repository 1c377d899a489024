"""How good a network is in the middle of a training: PCKh where heads are known, and OKS."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ...datasets.people import People
from ...errors import DataError
from ...evaluation.metrics.pckh import joint_groups, normalised_errors, pckh
from ...geometry import crop_affines, crop_boxes, invert, transform
from ...models.info import PoseInfo
from ...models.pose.graph import PoseGraph
from ...models.pose.hrnet import HRNet
from ...models.precision import in_bf16
from ...skeleton import Skeleton
from ...types import FloatArray

if TYPE_CHECKING:
    from ...configs.pose_schema import TrainConfig

BATCH = 32


@dataclass(frozen=True, slots=True)
class Validation:
    """Results over all people, and the first batch for a look.

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


@dataclass(frozen=True, slots=True)
class Found:
    """A network's keypoints (N, K, 3) in photo pixels, infinite where a photo is unreadable, and
    the first batch: crops, keypoints (n, K, 3) in crop pixels, labels (n, K, 3)."""

    keypoints: FloatArray
    first: tuple[NDArray[np.uint8], FloatArray, FloatArray]


def predict(
    network: HRNet, people: People, described: PoseInfo, config: TrainConfig, device: torch.device
) -> Found:
    """Predicts on the labelled boxes, without flip test; DataError when no photo can be read."""
    graph = PoseGraph(network, described).to(device)
    found = np.full((len(people), len(people.skeleton), 3), np.inf)
    first: tuple[NDArray[np.uint8], FloatArray, FloatArray] | None = None
    bf16 = in_bf16(config.fit.precision, device)
    for rows, crops_NHW3, affines in upright_crops(
        people, described.input_hw, config.input.padding
    ):
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            keypoints, _ = graph(torch.from_numpy(crops_NHW3).to(device))
        predicted = keypoints.float().cpu().numpy().astype(np.float64)
        found[rows, :, :2] = transform(predicted[..., :2], invert(affines))
        found[rows, :, 2] = predicted[..., 2]
        if first is None:
            labels = transform(people.keypoints[rows], affines)
            marked = np.concatenate([labels, people.weights[rows][..., None]], axis=2)
            first = crops_NHW3, predicted, marked
    if first is None:
        raise DataError("not one photo of the set could be read")
    return Found(found, first)


def validate(
    network: HRNet, people: People, described: PoseInfo, config: TrainConfig, device: torch.device
) -> Validation:
    """PCKh and OKS on the labelled boxes; DataError when no photo can be read."""
    found = predict(network, people, described, config, device)
    points, labelled = found.keypoints[..., :2], people.weights > 0
    return Validation(
        mean_pckh(points, people), mean_oks(points, people, labelled, people.skeleton), *found.first
    )


def upright_crops(
    people: People, size: tuple[int, int], padding: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], FloatArray]]:
    """Rows, upright crops and their maps from the photo; unreadable photos are left out."""
    height, width = size
    affines = crop_affines(crop_boxes(people.boxes, width / height, padding), size)
    for begin in range(0, len(people), BATCH):
        rows, crops = [], []
        for row in range(begin, min(begin + BATCH, len(people))):
            try:
                photo = people.photo(row)
            except DataError:
                continue
            rows.append(row)
            crops.append(cv2.warpAffine(photo, affines[row], (width, height)))
        if rows:
            yield np.array(rows), np.stack(crops), affines[rows]


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


def mean_oks(
    found: FloatArray, people: People, labelled: NDArray[np.bool_], skeleton: Skeleton
) -> float:
    """The mean over people of the OKS of keypoints (N, K, 2) with the same person's labels."""
    squared = ((found - people.keypoints) ** 2).sum(axis=2)
    variance = (2 * np.asarray(skeleton.sigmas)) ** 2
    similar = np.exp(-squared / (2 * np.maximum(people.areas, 1)[:, None] * variance))
    count = labelled.sum(axis=1)
    each = np.where(labelled, similar, 0).sum(axis=1) / np.maximum(count, 1)
    return float(each[count > 0].mean()) if (count > 0).any() else math.nan
