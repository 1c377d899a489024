"""Runs networks over the same crops of labelled or found people: the one loop over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import geometry
from ..crops import cut
from ..datasets.people import People
from ..errors import DataError, ModelError
from ..models.network import PoseNetwork
from ..models.pose import decode
from ..models.pose.flip import Align, averaged, averaged_bins
from ..progress import shown
from ..skeleton import Skeleton
from ..types import ByteArray, Detect, FloatArray
from .labels import Labels

BATCH = 32


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


Photo = Callable[[int], ByteArray]
"""The photo of an index as (H, W, 3) RGB; DataError when it cannot be read."""
Read = Callable[[NDArray[np.uint8]], FloatArray]
"""Keypoints (N, K, 3) in crop pixels, with scores, of uint8 RGB crops (N, H, W, 3)."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Anything that reads poses off crops of one height and width."""

    input_hw: tuple[int, int]
    read: Read


def labelled_boxes(people: People) -> Boxes:
    """Everybody's labelled box; a photo's index, for ``people.photo``, is its first person's."""
    first: dict[tuple[int, str], int] = {}
    names = zip(people.source.tolist(), people.files, strict=True)
    image = [first.setdefault(name, row) for row, name in enumerate(names)]
    return Boxes(np.array(image, np.int64), people.boxes, np.ones(len(people)))


def evaluated(
    networks: Mapping[str, PoseNetwork], skeleton: Skeleton, protocol: Protocol
) -> dict[str, Reader]:
    """The networks as the protocol reads them; ModelError where one has other joints."""
    for name, network in networks.items():
        _require_joints(network.info.skeleton, skeleton, name)
    return {
        name: Reader(network.input_hw, partial(run, network, protocol=protocol))
        for name, network in networks.items()
    }


def predict(
    readers: Mapping[str, Reader],
    boxes: Boxes,
    photo: Photo,
    joints: int,
    *,
    padding: float = geometry.PADDING,
    border: int = 0,
    lenient: bool = False,
    title: str = "estimating poses",
    quiet: bool = False,
) -> dict[str, FloatArray]:
    """Keypoints (M, K, 3) in image pixels with scores, for every reader.

    Readers of one input size see the very same crops.

    Args:
        readers: by name.
        boxes: the M people, whose photos are read once each.
        photo: gives a photo.
        joints: K.
        padding: how far crops reach past the boxes.
        border: grey level outside the photo.
        lenient: leave out whose photo cannot be read; their keypoints are infinite.
        title: of the bar.
        quiet: no bar.

    Raises:
        DataError: a photo is missing or unreadable, and that is not put up with.
    """
    count = len(boxes.image)
    found: dict[str, FloatArray] = {name: np.full((count, joints, 3), np.inf) for name in readers}
    sizes = {reader.input_hw for reader in readers.values()}
    with progress(quiet) as bar:
        task = bar.add_task(title, total=count)
        for rows, photos in _batches(boxes, photo, lenient):
            to_crop = {hw: geometry.box_affines(boxes.boxes[rows], hw, padding) for hw in sizes}
            crops = {hw: cut_all(photos, to_crop[hw], hw, border) for hw in sizes}
            for name, reader in readers.items():
                hw = reader.input_hw
                seen = reader.read(crops[hw])
                seen[..., :2] = geometry.transform(seen[..., :2], geometry.invert(to_crop[hw]))
                found[name][rows] = seen
            bar.advance(task, len(rows))
    return found


def _batches(
    boxes: Boxes, photo: Photo, lenient: bool
) -> Iterator[tuple[NDArray[np.int64], list[ByteArray]]]:
    """Groups of people in the order of their photos; a photo is read once."""
    order = np.argsort(boxes.image, kind="stable")
    last, image = -1, None
    for start in range(0, len(order), BATCH):
        rows, photos = [], []
        for row in order[start : start + BATCH].tolist():
            if boxes.image[row] != last:
                last = int(boxes.image[row])
                try:
                    image = photo(last)
                except DataError:
                    if not lenient:
                        raise
                    image = None
            if image is not None:
                rows.append(row)
                photos.append(image)
        if rows:
            yield np.array(rows, np.int64), photos


def cut_all(
    photos: Sequence[ByteArray], to_crop: FloatArray, input_hw: tuple[int, int], border: int = 0
) -> NDArray[np.uint8]:
    """Crops (N, H, W, 3), one a photo, by maps (N, 2, 3) from photo to crop pixels."""
    return np.stack(
        [cut(photo, one, input_hw, border) for photo, one in zip(photos, to_crop, strict=True)]
    )


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
