"""People who cross: scenes for the tracking bench, made of Penn Action label sequences.

Real motion of real people (Zhang, Zhu, Derpanis, "From Actemes to Action", ICCV 2013), several
of them put into one picture so that they walk through each other, turn where they meet, and pass
someone who stands. No pictures are involved: what a detector and a pose network would have said
is the truth made worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrtrack.errors import DataError
from hrtrack.geometry import iou
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13
from hrtrack.types import Float64Array

UPRIGHT = (
    "baseball_pitch", "baseball_swing", "bowl", "clean_and_jerk", "golf_swing", "jump_rope",
    "jumping_jacks", "pullup", "squat", "tennis_forehand", "tennis_serve",
)  # fmt: skip
"""Actions done standing; people who lie and people who stand hardly cover each other."""
FPS = 30.0
CANVAS = (1280, 720)
SIZE = 170.0
"""Median of the square root of a person's box area on the canvas, in pixels."""
CROSSING_IOU, CROSSING_FRAMES = 0.5, 10


@dataclass(frozen=True)
class Clip:
    """One label sequence: boxes (T, 4), keypoints (T, 13, 2) and which were seen (T, 13)."""

    boxes: Float64Array
    keypoints: Float64Array
    seen: NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """P people over T frames: boxes (T, P, 4), keypoints (T, P, 13, 2), seen (T, P, 13)."""

    boxes: Float64Array
    keypoints: Float64Array
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)

    def crossings(self) -> list[tuple[int, int, int, int]]:
        """First and last frame and the two people of every crossing.

        A crossing is `CROSSING_FRAMES` or more frames on end with an IoU over `CROSSING_IOU`.
        """
        overlap = np.stack([iou(boxes, boxes) for boxes in self.boxes]) > CROSSING_IOU
        found = []
        for a, b in zip(*np.triu_indices(self.boxes.shape[1], 1), strict=True):
            edges = np.flatnonzero(np.diff(np.r_[0, overlap[:, a, b].astype(int), 0]))
            for start, end in edges.reshape(-1, 2):
                if end - start >= CROSSING_FRAMES:
                    found.append((int(start), int(end), int(a), int(b)))
        return sorted(found)


@dataclass(frozen=True)
class Noise:
    """What detector and pose network add to the truth.

    ``box`` is the spread of each side of a box as a share of its diagonal, ``missed`` the
    chance that a person is not found in a frame, ``false_boxes`` the mean number of boxes
    without a person of their own (half of them double detections of someone), ``keypoints``
    the spread of the joints in OKS sigmas. With ``occlusion`` someone who stands behind
    (first in the list, as painters do) is missed with that chance too while another covers
    more than `CROSSING_IOU` of the box.
    """

    box: float = 0.02
    missed: float = 0.1
    false_boxes: float = 0.2
    keypoints: float = 2.0
    occlusion: float = 0.0


def load_clips(labels: Path, *, train: bool) -> list[Clip]:
    """The upright label sequences of the train or the test clips, at least a second long.

    Raises:
        DataError: there are none in the folder.
    """
    from scipy.io import loadmat

    clips = []
    for path in sorted(labels.glob("*.mat")):
        data = loadmat(path)
        if str(data["action"][0]) not in UPRIGHT or (int(data["train"].flat[0]) == 1) != train:
            continue
        count = min(len(data["bbox"]), len(data["x"]))
        if count < FPS:
            continue
        seen = data["visibility"][:count].astype(bool)
        boxes = data["bbox"][:count].astype(np.float64)
        if seen.mean() < 0.7 or ((boxes[:, 2:] - boxes[:, :2]) < 8).any():
            continue
        keypoints = np.stack([data["x"], data["y"]], axis=2)[:count].astype(np.float64)
        clips.append(Clip(boxes, keypoints, seen))
    if not clips:
        raise DataError(f"no usable Penn Action labels (*.mat) in {labels}")
    return clips


def make_scene(
    clips: list[Clip], people: int, frames: int, rng: np.random.Generator, *, turning: float = 0.25
) -> Scene:
    """A scene of ``people`` random clips; at a meeting one turns back with chance ``turning``."""
    chosen = [clips[i] for i in rng.choice(len(clips), people, replace=False)]
    posed = [_placed(clip, frames, rng) for clip in chosen]
    width = float(np.mean([np.median(np.ptp(boxes[:, ::2], axis=1)) for boxes, _, _ in posed]))
    height = float(np.mean([np.median(np.ptp(boxes[:, 1::2], axis=1)) for boxes, _, _ in posed]))
    boxes, keypoints, seen = [], [], []
    for number, (box, joints, shown) in enumerate(posed):
        path = _path(frames, width, -1.0 if number % 2 else 1.0, turning, rng)
        line = rng.normal(0, 0.03) * height
        shift = np.stack([CANVAS[0] / 2 + path, np.full(frames, CANVAS[1] / 2 + line)], axis=1)
        boxes.append(box + np.tile(shift, 2))
        keypoints.append(joints + shift[:, None])
        seen.append(shown)
    return Scene(np.stack(boxes, 1), np.stack(keypoints, 1), np.stack(seen, 1))


def make_scenes(
    clips: list[Clip], people: int, crossings: int, seed: int, *, frames: int = 600
) -> list[Scene]:
    """As many scenes as it takes to have so many crossings."""
    rng = np.random.default_rng([seed, people])
    scenes: list[Scene] = []
    count = 0
    while count < crossings:
        scenes.append(make_scene(clips, people, frames, rng))
        count += len(scenes[-1].crossings())
    return scenes


NOBODY = -1


def observe(scene: Scene, noise: Noise, seed: int) -> Iterator[tuple[Poses, NDArray[np.int64]]]:
    """What detector and pose network say about the frames of a scene, and whom each pose shows.

    People's scores are drawn around 0.7, those of false boxes between 0.1 and 0.6; the joints
    of a false box in the background have low scores, and it shows `NOBODY`.
    """
    rng = np.random.default_rng(seed)
    sigmas = np.array(ACTION13.sigmas)
    people = scene.boxes.shape[1]
    for index in range(len(scene)):
        boxes, joints = scene.boxes[index], scene.keypoints[index]
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        missed = rng.random(people) < noise.missed
        if noise.occlusion:
            covered = np.triu(iou(boxes, boxes), 1).max(axis=1) > CROSSING_IOU
            missed |= covered & (rng.random(people) < noise.occlusion)
        found = np.flatnonzero(~missed)
        false = rng.poisson(noise.false_boxes)
        doubles = rng.integers(0, people, false)[rng.random(false) < 0.5]
        picked = np.concatenate([found, doubles]).astype(int)
        spread = np.where(np.arange(len(picked)) < len(found), noise.box, 4 * noise.box)
        sizes = np.hypot(*(boxes[picked, 2:] - boxes[picked, :2]).T) * spread
        seen_boxes = boxes[picked] + rng.normal(0, 1, (len(picked), 4)) * sizes[:, None]
        off = noise.keypoints * sigmas[None, :, None] * np.sqrt(areas[picked])[:, None, None]
        points = joints[picked] + rng.normal(0, 1, (len(picked), len(sigmas), 2)) * off
        confidence = np.where(scene.seen[index][picked], rng.uniform(0.5, 1, off.shape[:2]), 0.1)
        marks = np.where(
            np.arange(len(picked)) < len(found),
            np.clip(rng.normal(0.7, 0.15, len(picked)), 0.15, 1),
            rng.uniform(0.1, 0.6, len(picked)),
        )
        background = _background(false - len(doubles), rng)
        order = rng.permutation(len(picked) + len(background))
        count = len(order)
        shown = np.concatenate([picked, np.full(len(background), NOBODY)])[order]
        poses = Poses(
            index,
            index / FPS,
            np.concatenate([seen_boxes, background])[order].astype(np.float32),
            np.concatenate([marks, rng.uniform(0.1, 0.6, len(background))])[order].astype(
                np.float32
            ),
            np.concatenate([points, _figures(background, rng)])[order].astype(np.float32),
            np.concatenate([confidence, rng.uniform(0, 0.4, (len(background), 13))])[order].astype(
                np.float32
            ),
            np.full(count, -1, np.int64),
        )
        yield poses, shown.astype(np.int64)


def _placed(
    clip: Clip, frames: int, rng: np.random.Generator
) -> tuple[Float64Array, Float64Array, NDArray[np.bool_]]:
    """A clip played forth and back for ``frames`` frames, around (0, 0), at the bench's size."""
    length = len(clip.boxes)
    ticks = (rng.integers(0, 2 * length) + np.arange(frames)) % (2 * length)
    order = np.where(ticks < length, ticks, 2 * length - 1 - ticks)
    size = np.sqrt(np.median((clip.boxes[:, 2:] - clip.boxes[:, :2]).prod(axis=1)))
    scale = SIZE * rng.uniform(0.9, 1.1) / size
    centre = np.median((clip.boxes[:, :2] + clip.boxes[:, 2:]) / 2, axis=0)
    boxes = (clip.boxes - np.tile(centre, 2)) * scale
    return boxes[order], ((clip.keypoints - centre) * scale)[order], clip.seen[order]


def _path(
    frames: int, width: float, side: float, turning: float, rng: np.random.Generator
) -> Float64Array:
    """The walk (T,) of one person from side to side in pixels, at 0.4-1.2 widths a second."""
    reach = width
    stops, times = [side * reach * rng.uniform(0.8, 1.2)], [0.0]
    while times[-1] < frames:
        if rng.random() < turning:  # to the middle and back again
            stops += [rng.normal(0, 0.1) * width, side * reach]
        else:
            side = -side
            stops.append(side * reach * rng.uniform(0.8, 1.2))
        for stop in range(len(times), len(stops)):
            speed = rng.uniform(0.4, 1.2) * width / FPS
            times.append(times[-1] + max(abs(stops[stop] - stops[stop - 1]) / speed, 1.0))
    path = np.interp(np.arange(-6, frames + 6), times, stops)
    return np.convolve(path, np.full(13, 1 / 13), "valid")


def _background(count: int, rng: np.random.Generator) -> Float64Array:
    """Boxes (N, 4) of people's size somewhere on the canvas."""
    centre = rng.uniform(0, CANVAS, (count, 2))
    half = SIZE * rng.uniform(0.5, 1.2, (count, 1)) * np.array([0.33, 0.75])
    return np.concatenate([centre - half, centre + half], axis=1)


def _figures(boxes: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Joints (N, 13, 2) anywhere in the boxes."""
    where = rng.random((len(boxes), 13, 2))
    return boxes[:, None, :2] + where * (boxes[:, None, 2:] - boxes[:, None, :2])
