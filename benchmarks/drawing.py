"""Time to draw and to associate many people of many joints, and pictures of what is drawn.

    python -m benchmarks.drawing
    python -m benchmarks.drawing --pictures docs/images --results street.jsonl --size 1280 720

Times are of the calling thread's processor time, so other work on the machine matters little. The
pictures show the people of a results file (coco17) on a blank canvas, beside supervision's drawing
of the same poses (pip install supervision).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from hrtrack import read_results
from hrtrack.cli import run
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17, Skeleton, by_name
from hrtrack.tracker.outputs.pictures.draw import DrawOptions, draw
from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.smooth import Smoother

PEOPLE = 20
LAYERS = DrawOptions({"skeleton", "boxes", "ids"})
STANDING = np.array(
    [
        [0.50, 0.08], [0.53, 0.06], [0.47, 0.06], [0.57, 0.08], [0.43, 0.08],
        [0.65, 0.22], [0.35, 0.22], [0.72, 0.38], [0.28, 0.38], [0.74, 0.52], [0.26, 0.52],
        [0.60, 0.52], [0.40, 0.52], [0.60, 0.74], [0.40, 0.74], [0.60, 0.95], [0.40, 0.95],
    ]
)  # fmt: skip
"""The joints of COCO, with which the two larger sets begin, of a standing person in a unit box."""
CANVAS = (228, 228, 224)


def crowd(skeleton: Skeleton, people: int = PEOPLE) -> Poses:
    """People of 100 to 300 pixels in rows on a 720p picture, with the joints of the body anywhere
    in their boxes, which makes far longer lines than people have."""
    rng = np.random.default_rng(0)
    heights = np.linspace(100, 300, people)
    corner = np.stack([np.arange(people) % 10 * 125 + 5.0, np.arange(people) // 10 * 330 + 40.0], 1)
    unit = rng.uniform(0.1, 0.9, (len(skeleton), 2))
    if skeleton.body:
        unit[len(skeleton.body) :] = 0.5 + rng.uniform(
            -0.06, 0.06, unit[len(skeleton.body) :].shape
        )
    size = np.stack([heights / 2, heights], axis=1)
    keypoints = corner[:, None] + unit[None] * size[:, None]
    boxes = np.concatenate([corner, corner + size], axis=1)
    ones = np.ones((people, len(skeleton)), np.float32)
    return Poses(
        0, 0.0, boxes.astype(np.float32), ones[:, 0], keypoints.astype(np.float32), ones,
        np.arange(1, people + 1),
    )  # fmt: skip


def standing(skeleton: Skeleton, people: int = PEOPLE) -> Poses:
    """`crowd`, whose joints are where those of people who stand and face the camera are; hands
    are spread. ``skeleton`` begins with the joints of COCO."""
    scattered = crowd(skeleton, people)
    unit = np.concatenate([STANDING, *(_more(len(skeleton)))])
    size = scattered.boxes[:, 2:] - scattered.boxes[:, :2]
    keypoints = scattered.boxes[:, None, :2] + unit[None] * size[:, None]
    return replace(scattered, keypoints=keypoints.astype(np.float32))


def _more(joints: int) -> list[NDArray[np.float64]]:
    """What the joints of Halpe-26 and COCO-WholeBody-133 are beyond those of COCO."""
    feet = STANDING[[15, 15, 15, 16, 16, 16]] + [
        [0.03, 0.02], [0.05, 0.02], [-0.02, 0.02], [-0.03, 0.02], [-0.05, 0.02], [0.02, 0.02]
    ]  # fmt: skip
    if joints == 26:
        return [np.array([[0.5, 0.02], [0.5, 0.18], [0.5, 0.52]]), feet]
    if joints != 133:
        return []

    def ring(points: int, x: float, y: float, wide: float, tall: float) -> NDArray[np.float64]:
        turn = np.arange(points) * 2 * np.pi / points
        return np.stack([x + wide * np.cos(turn), y + tall * np.sin(turn)], axis=1)

    def row(points: int, start: tuple[float, float], end: tuple[float, float]) -> Any:
        return np.linspace(start, end, points)

    chin = np.linspace(0, np.pi, 17)
    face = [
        np.stack([-np.cos(chin), np.sin(chin)], axis=1),
        row(5, (-0.75, -0.5), (-0.25, -0.5)), row(5, (0.25, -0.5), (0.75, -0.5)),
        row(4, (0, -0.3), (0, 0.1)), row(5, (-0.15, 0.2), (0.15, 0.2)),
        ring(6, -0.45, -0.25, 0.15, 0.08), ring(6, 0.45, -0.25, 0.15, 0.08),
        ring(12, 0, 0.55, 0.3, 0.15), ring(8, 0, 0.55, 0.2, 0.08),
    ]  # fmt: skip
    fingers = [
        (0.03 + 0.022 * step) * np.array([np.sin(turn), 0.5 * np.cos(turn)])
        for turn in (-0.7, -0.35, 0, 0.35, 0.7)
        for step in range(1, 5)
    ]
    hand = np.array([(0, 0), *fingers])
    head = (0.5, 0.08) + np.concatenate(face) * (0.09, 0.055)
    return [feet, head, STANDING[9] + hand, STANDING[10] + hand]


def milliseconds(step: Callable[[int], object], rounds: int = 60, warm_up: int = 5) -> float:
    """The median of a step's processor time."""
    times = []
    for i in range(rounds):
        start = time.thread_time()
        step(i)
        times.append(time.thread_time() - start)
    return statistics.median(times[warm_up:]) * 1e3


def measure() -> None:
    cv2.setNumThreads(1)
    print(f"ms of processor time a frame, {PEOPLE} people, drawing on 1280x720")
    print("skeleton      joints       draw  associate  smooth")
    for name in ("coco17", "halpe26", "wholebody133"):
        for kind in (standing, crowd):
            skeleton = by_name(name)
            drawing, following, smoothing = times(skeleton, kind(skeleton))
            joints = "scattered" if kind is crowd else "standing"
            print(f"{name:13} {joints:10} {drawing:6.2f}  {following:9.2f}  {smoothing:6.2f}")


def times(skeleton: Skeleton, poses: Poses) -> tuple[float, float, float]:
    """Milliseconds a frame to draw, to associate and to smooth."""
    image = np.full((720, 1280, 3), CANVAS, np.uint8)
    noise = np.random.default_rng(1).normal(0, 1, (60, *poses.keypoints.shape)).astype(np.float32)
    frames = [
        replace(poses, frame=i, time=i / 30, keypoints=poses.keypoints + noise[i])
        for i in range(len(noise))
    ]
    tracks, smoother, before = Tracks(skeleton), Smoother(skeleton), Smoother(skeleton)
    smooth = [before.update(poses) for poses in frames]  # as what is drawn is
    return (
        milliseconds(lambda i: draw(image, smooth[i], skeleton, LAYERS)),
        milliseconds(lambda i: tracks.update(frames[i])),
        milliseconds(lambda i: smoother.update(frames[i])),
    )


def gathered(path: Path, people: int) -> Poses:
    """The fullest frame of a results file, with people of other frames moved aside beside it."""
    frames = [poses for poses in read_results(path) if len(poses)]
    parts, rng, i = [max(frames, key=len)], np.random.default_rng(1), 0
    while sum(len(part) for part in parts) < people:
        i = (i + 37) % len(frames)
        aside = rng.uniform(-60, 60, 2).astype(np.float32)
        other = frames[i]
        parts.append(
            replace(other, boxes=other.boxes + np.tile(aside, 2), keypoints=other.keypoints + aside)
        )
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])[:people]
        for name in ("boxes", "person_scores", "keypoints", "scores")
    }
    return Poses(0, 0.0, ids=np.arange(1, people + 1), **columns)


def largest(path: Path) -> Poses:
    """The person of a results file who is the tallest of those whose joints are all seen."""
    people = [
        poses[i : i + 1]
        for poses in read_results(path)
        for i in range(len(poses))
        if poses.scores[i].min() > 0.5
    ]
    return max(people, key=lambda one: float(one.boxes[0, 3] - one.boxes[0, 1]))


def moved(poses: Poses, factor: float, shift: tuple[float, float]) -> Poses:
    """``poses``, scaled and then shifted."""
    by = np.array(shift, np.float32)
    boxes = (poses.boxes * factor + np.tile(by, 2)).astype(np.float32)
    return replace(poses, boxes=boxes, keypoints=(poses.keypoints * factor + by).astype(np.float32))


def by_supervision(image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
    import supervision as sv

    places = poses.keypoints.copy()
    places[poses.scores < LAYERS.min_score] = 0  # what supervision leaves out
    points = sv.KeyPoints(xy=places)
    edges = [(a + 1, b + 1) for a, b in COCO17.limbs]
    boxes = sv.Detections(xyxy=poses.boxes, class_id=np.zeros(len(poses), int))
    image = sv.EdgeAnnotator(edges=edges).annotate(image, points)
    image = sv.VertexAnnotator().annotate(image, points)
    image = sv.BoxAnnotator().annotate(image, boxes)
    numbers = [str(number) for number in poses.ids]
    drawn: NDArray[np.uint8] = sv.LabelAnnotator().annotate(image, boxes, labels=numbers)
    return drawn


def pictures(folder: Path, results: Path, size: tuple[int, int]) -> None:
    """``drawing_HEIGHT.png``: twenty people, by hrtrack above and by supervision below, and one,
    by hrtrack on the left and by supervision on the right."""
    twenty, one = gathered(results, PEOPLE), largest(results)
    tall = float(one.boxes[0, 3] - one.boxes[0, 1])
    middle = (one.boxes[0, :2] + one.boxes[0, 2:]) / 2
    for width, height in ((320, 240), (1280, 720), (3840, 2160)):
        factor = min(width / size[0], height / size[1])
        near = 0.9 * height / tall
        where = (0.15 * width - near * float(middle[0]), height / 2 - near * float(middle[1]))
        blank = np.full((height, width, 3), CANVAS, np.uint8)
        both = moved(twenty, factor, (0, 0)), moved(one, near, where)
        ours = [draw(blank.copy(), poses, COCO17, LAYERS) for poses in both]
        theirs = [by_supervision(blank.copy(), poses) for poses in both]
        upper = np.vstack([ours[0][: height // 2], theirs[0][: height // 2]])
        part = 3 * width // 10
        whole = np.hstack([upper, ours[1][:, :part], theirs[1][:, :part]])
        if height > 720:  # a quarter of each side is enough to see the widths
            whole = cv2.resize(whole, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        small = cv2.cvtColor(whole, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"drawing_{height}.png"), small, [cv2.IMWRITE_PNG_COMPRESSION, 9])


@click.command(help=__doc__)
@click.option("--pictures", "folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--results", type=click.Path(True, path_type=Path), help="Results to show.")
@click.option(
    "--size",
    type=click.Tuple([int, int]),
    default=(1280, 720),
    show_default=True,
    metavar="W H",
    help="Size of the results' video.",
)
def main(folder: Path | None, results: Path | None, size: tuple[int, int]) -> None:
    if (folder is None) != (results is None):
        raise click.UsageError("--pictures and --results go together")
    if folder is None or results is None:
        measure()
        return
    pictures(folder, results, size)


if __name__ == "__main__":
    run(main, "drawing")
