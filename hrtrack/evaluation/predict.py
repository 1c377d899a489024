"""Runs several networks over the same crops of labelled or found people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import geometry
from ..errors import ModelError
from ..models.network import PoseNetwork
from ..models.pose import decode
from ..models.pose.flip import Align, averaged, averaged_bins
from ..progress import shown
from ..skeleton import Skeleton
from ..types import ByteArray, Detect, FloatArray
from .labels import Labels

BATCH = 16


@dataclass(frozen=True, slots=True)
class Protocol:
    """How crops are cut and read.

    ``decoder``: ``dark`` or the official quarter offset. ``flip``: average with the mirror
    image's heatmaps, which are aligned with the crop's by ``align``: ``exact`` mirrors the crop
    so that cells fall on cells (`models.flip`), ``column`` moves the maps by a column as the
    official code does, which leaves a quarter of a cell, ``none`` leaves them: networks trained
    with UDP's coordinates always get that. ``border``: grey level outside the photo; the official
    code's is 0.
    """

    decoder: Literal["dark", "argmax"] = "dark"
    flip: bool = False
    align: Align = "exact"
    padding: float = geometry.PADDING
    border: int = 0


@dataclass(frozen=True, slots=True)
class Boxes:
    """M people to look at: index of the photo (M,), boxes (M, 4) and their scores (M,)."""

    image: NDArray[np.int64]
    boxes: FloatArray
    scores: FloatArray


def detect(detector: Detect, labels: Labels, *, quiet: bool = False) -> Boxes:
    """Every photo's people as the detector sees them."""
    image, boxes, scores = [], [], []
    with progress(quiet) as bar:
        task = bar.add_task("finding people", total=len(labels.files))
        for index in range(len(labels.files)):
            found, confidence = detector(labels.read_photo(index))
            image.append(np.full(len(found), index, np.int64))
            boxes.append(np.asarray(found, np.float64).reshape(-1, 4))
            scores.append(np.asarray(confidence, np.float64))
            bar.advance(task)
    return Boxes(np.concatenate(image), np.concatenate(boxes), np.concatenate(scores))


def predict(
    networks: Mapping[str, PoseNetwork],
    boxes: Boxes,
    labels: Labels,
    protocol: Protocol,
    *,
    quiet: bool = False,
) -> dict[str, FloatArray]:
    """Keypoints (M, K, 3) in image pixels with scores in [0, 1], for every network.

    Networks of one input size see the very same crops.

    Raises:
        DataError: a photo is missing or unreadable.
        ModelError: a network's joints are not the labels'.
    """
    skeleton = labels.people.skeleton
    for name, network in networks.items():
        _require_joints(network.info.skeleton, skeleton, name)
    count, joints = len(boxes.image), len(skeleton)
    found: dict[str, FloatArray] = {name: np.zeros((count, joints, 3)) for name in networks}
    sizes = {network.input_hw for network in networks.values()}
    with progress(quiet) as bar:
        task = bar.add_task("estimating poses", total=count)
        for chosen, photos in _batches(boxes, labels):
            cut = {hw: cut_crops(photos, boxes.boxes[chosen], hw, protocol) for hw in sizes}
            for name, network in networks.items():
                crops_NHW3, to_image = cut[network.input_hw]
                read = run(network, crops_NHW3, protocol)
                read[..., :2] = geometry.transform(read[..., :2], to_image)
                found[name][chosen] = read
            bar.advance(task, len(chosen))
    return found


def _batches(boxes: Boxes, labels: Labels) -> Iterator[tuple[NDArray[np.int64], list[ByteArray]]]:
    """Groups of people in the order of their photos; a photo is read once."""
    order = np.argsort(boxes.image, kind="stable")
    last, photo = -1, np.zeros((0, 0, 3), np.uint8)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        photos = []
        for index in boxes.image[chosen]:
            if index != last:
                last, photo = int(index), labels.read_photo(int(index))
            photos.append(photo)
        yield chosen, photos


def cut_crops(
    photos: list[ByteArray], boxes: FloatArray, input_hw: tuple[int, int], protocol: Protocol
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Crops (N, H, W, 3) of one box a photo, and the maps (N, 2, 3) back to the photos."""
    import cv2

    height, width = input_hw
    windows = geometry.crop_boxes(boxes, width / height, protocol.padding)
    affines = geometry.crop_affines(windows, input_hw)
    fill = (protocol.border,) * 3
    crops = [
        cv2.warpAffine(photo, affine, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill)
        for photo, affine in zip(photos, affines, strict=True)
    ]
    return np.stack(crops).astype(np.uint8, copy=False), geometry.invert(affines)


def run(network: PoseNetwork, crops_NHW3: NDArray[np.uint8], protocol: Protocol) -> FloatArray:
    """Keypoints (N, K, 3) in crop pixels, read as the protocol asks; SimCC has one decoder only."""
    info = network.info
    if not protocol.flip and (protocol.decoder == "dark" or info.split):
        return np.array(network(crops_NHW3)["keypoints"], np.float64)
    if info.split:
        read = averaged_bins(network, info, crops_NHW3)["keypoints"].astype(np.float64)
        read[..., 2] = np.clip(read[..., 2], 0.0, 1.0)
        return read
    if protocol.flip:
        maps = averaged(network, info, crops_NHW3, protocol.align, protocol.border)
    else:
        maps = np.asarray(network(crops_NHW3, heatmaps=True)["heatmaps"], np.float32)
    read = decode.decode(maps, protocol.decoder, info.sigma, info.unbiased).astype(np.float64)
    read[..., 2] = np.clip(read[..., 2], 0.0, 1.0)
    return read


def _require_joints(predicted: Skeleton, labelled: Skeleton, name: str) -> None:
    if predicted.joints != labelled.joints:
        raise ModelError(
            f"model '{name}' predicts {len(predicted)} joints ({predicted.name}), the labels have "
            f"{len(labelled)} ({labelled.name}) or other names; evaluate it on its own keypoints"
        )


def progress(quiet: bool) -> AbstractContextManager[Progress]:
    """On stderr a bar with the time left, or lines where that is no terminal."""
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet,
    )
    return shown(bar)
