"""Accuracy on photos: PCKh of LSPE val in float32 on the CPU and in float16 on the GPU."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrtrack import geometry
from hrtrack.datasets.people import segment_head_sizes
from hrtrack.evaluation.metrics import pckh
from hrtrack.skeleton import COCO17
from hrtrack.tracker.inference.backends.torch import TorchNetwork
from hrtrack.tracker.inference.crop import Cropper
from hrtrack.tracker.inference.estimate_gpu import GpuEstimator
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video.frame import Frame

from .parity import detector_agreement
from .session import LEFT_OUT, Session

TOLERANCE = 0.1
DETECTOR_PHOTOS = 100
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class People:
    """Labelled people: photos, boxes (N, 4) corners, keypoints (N, 17, 3), head sizes (N,)."""

    photos: list[NDArray[np.uint8]]
    boxes: Floats
    labels: Floats
    heads: Floats


def lspe(session: Session) -> None:
    """PCKh@0.5 with labelled boxes, no flip test; and the detector on the same photos."""
    if session.lspe is None or not (session.lspe / "val.json").is_file():
        session.put("lspe", LEFT_OUT, "--lspe names no folder with val.json")
        return
    people = read(session.lspe, None if session.cuda else 8)
    session.put("lspe", "people", len(people.boxes))
    name = next(iter(session.models))  # the bundled model
    network = session.back_end(name)
    crops, maps = cut(people, network.input_hw)
    ways = {
        "fp32 CPU": in_batches(session.reference(name), crops, maps),
        "fp16 GPU": in_batches(network, crops, maps),
        "fp16 GPU, crops cut there": on_the_gpu(network, people),
    }
    network.close()
    found = {way: score(points, people) for way, points in ways.items()}
    for way, shares in found.items():
        session.put("lspe", way, shares)
    here, there = found["fp32 CPU"]["mean"], found["fp16 GPU"]["mean"]
    if here is None or there is None:
        raise ValueError("no joint of val.json can be scored")
    apart = abs(here - there)
    session.put("lspe", f"within {TOLERANCE}", {"apart": apart, "so": apart <= TOLERANCE})
    detectors = session.detector("cpu"), session.detector()
    pairs = [
        (detectors[0](photo), detectors[1](photo)) for photo in people.photos[:DETECTOR_PHOTOS]
    ]
    session.put("lspe", "person_fast", detector_agreement(pairs))


def read(folder: Path, most: int | None) -> People:
    """The people whose head is labelled, for PCKh is in units of it."""
    content: Any = json.loads((folder / "val.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    found = [
        one
        for one in content["annotations"]
        if not one.get("pseudo") and one.get("neck", [0] * 3)[2] and one.get("head_top", [0] * 3)[2]
    ][:most]
    photos = [read_photo(folder / "images" / names[one["image_id"]]) for one in found]
    corners, sizes = np.split(np.array([one["bbox"] for one in found], float), 2, axis=1)
    necks, tops = (np.array([one[joint] for one in found], float) for joint in ("neck", "head_top"))
    return People(
        photos,
        np.concatenate([corners, corners + sizes], axis=1),
        np.array([one["keypoints"] for one in found], float).reshape(-1, 17, 3),
        segment_head_sizes(necks, tops),
    )


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A photo (H, W, 3) RGB."""
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(f"cannot read the photo {path}")
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


def cut(people: People, input_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], Floats]:
    """Crops (N, H, W, 3) as the CPU cuts them, and their maps (N, 2, 3) back to the photos."""
    crop, crops, maps = Cropper(input_hw), [], []
    for photo, box in zip(people.photos, people.boxes, strict=True):
        one, to_image = crop(photo, box[None])
        crops.append(one[0].copy())
        maps.append(to_image[0])
    return np.stack(crops), np.stack(maps)


def in_batches(network: TorchNetwork, crops: NDArray[np.uint8], maps: Floats) -> Floats:
    """Keypoints (N, 17, 2) in the photos."""
    parts = [
        network(crops[first : first + 64])["keypoints"][..., :2]
        for first in range(0, len(crops), 64)
    ]
    return geometry.transform(np.concatenate(parts).astype(float), maps)


def on_the_gpu(network: TorchNetwork, people: People) -> Floats:
    """The same by the way that a frame of a video takes, one person a frame."""
    estimate = GpuEstimator(network, 17, Stopwatch())
    poses = [
        estimate(Frame(index, float(index), photo), box[None], np.ones(1))
        for index, (photo, box) in enumerate(zip(people.photos, people.boxes, strict=True))
    ]
    return np.concatenate([one.keypoints for one in poses]).astype(float)


def score(points: Floats, people: People) -> dict[str, float | None]:
    """PCKh@0.5 by joint, in per cent."""
    errors = pckh.normalised_errors(points, people.labels[..., :2], people.heads)
    known = (people.labels[..., 2] > 0) & ~np.isnan(people.heads)[:, None]
    return pckh.pckh(errors, known, pckh.joint_groups(COCO17))


def pack(data: Path, target: Path) -> None:
    """Copies val.json and its photos."""
    content = json.loads((data / "val.json").read_text())
    (target / "images").mkdir(parents=True, exist_ok=True)
    shutil.copy(data / "val.json", target)
    for image in content["images"]:
        shutil.copy(data / "images" / image["file_name"], target / "images")
