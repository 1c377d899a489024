"""Identities on scenes of people who cross (see docs/tracking.md).

    python -m benchmarks.identities LABELS table
    python -m benchmarks.identities LABELS sweep --out docs/tracking

LABELS is the folder of Penn Action's ``*.mat`` files. Knobs are swept on the train clips, the
table is of the test clips.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.crossings import (
    NOBODY,
    Clip,
    Noise,
    Scene,
    load_clips,
    make_scenes,
    observe,
)
from hrtrack.cli import run
from hrtrack.evaluation.metrics.tracking import Comparison, Frame, compare_boxes, score
from hrtrack.geometry import iou
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13
from hrtrack.tracker.tracking.associate import AssociationOptions, Tracks

Follow = Callable[[Poses], Poses]
Heard = list[tuple[Scene, list[tuple[Poses, NDArray[np.int64]]]]]


class GreedyIoU:
    """What most top-down trackers do: the best overlap with a box seen before, best first."""

    def __init__(self, min_iou: float = 0.3, memory: int = 0, min_score: float = 0.25) -> None:
        self.min_iou, self.memory, self.min_score = min_iou, memory, min_score
        self.boxes = np.zeros((0, 4))
        self.ids, self.age, self.next = np.zeros(0, np.int64), np.zeros(0, np.int64), 1

    def __call__(self, poses: Poses) -> Poses:
        poses = poses[poses.person_scores >= self.min_score]
        overlap = iou(self.boxes, poses.boxes)
        ids = np.zeros(len(poses), np.int64)
        self.age = self.age + 1
        while overlap.size and overlap.max() > self.min_iou:
            row, column = np.unravel_index(overlap.argmax(), overlap.shape)
            ids[column] = self.ids[row]
            self.boxes[row], self.age[row] = poses.boxes[column], 0
            overlap[row] = overlap[:, column] = 0
        new = ids == 0
        ids[new] = np.arange(self.next, self.next + new.sum())
        self.next += int(new.sum())
        kept = self.age <= self.memory
        self.boxes = np.concatenate([self.boxes[kept], poses.boxes[new]])
        self.ids = np.concatenate([self.ids[kept], ids[new]])
        self.age = np.concatenate([self.age[kept], np.zeros(int(new.sum()), np.int64)])
        return replace(poses, ids=ids)


def ours(options: AssociationOptions) -> Callable[[], Follow]:
    """Our association under these options."""

    def start() -> Follow:
        tracks = Tracks(ACTION13, options)
        return lambda poses: tracks.update(poses)

    return start


@dataclass(frozen=True)
class Result:
    """Switches and fragmentations per 1,000 frames; ``swaps`` is the share of crossings after
    which someone wears another ID.

    ``by_iou`` counts the switches of CLEAR MOT as for real video, where boxes that overlap enough
    may be anybody's: while two people cover each other it takes one for the other whatever the
    tracker says. For all the rest a pose can only be that of the person whom it shows, which the
    bench knows.
    """

    switches: float
    by_iou: float
    fragmentations: float
    swaps: float
    mota: float
    idf1: float
    hota: float
    milliseconds: float


def listen(clips: list[Clip], people: int, crossings: int, seed: int, noise: Noise) -> Heard:
    """Scenes and what is heard of them."""
    scenes = make_scenes(clips, people, crossings, seed)
    return [(scene, list(observe(scene, noise, seed * 1000 + i))) for i, scene in enumerate(scenes)]


def judge(heard: Heard, start: Callable[[], Follow]) -> Result:
    """Runs a tracker over the scenes and compares its IDs with the truth."""
    comparisons, plain, swapped, crossed, spent, frames = [], [], 0, 0, 0.0, 0
    for scene, seen in heard:
        follow = start()
        begin = time.perf_counter()
        found = [follow(poses) for poses, _ in seen]
        spent += time.perf_counter() - begin
        frames += len(scene)
        people = np.arange(scene.boxes.shape[1])
        by_iou = compare_boxes(
            (Frame(people, boxes) for boxes in scene.boxes),
            (Frame(poses.ids, poses.boxes.astype(np.float64)) for poses in found),
        )
        plain.append(by_iou)
        shown = [_shown(poses, *given) for poses, given in zip(found, seen, strict=True)]
        comparison = replace(
            by_iou,
            similarity=[
                np.where((whom == people[:, None]) | (whom == NOBODY), overlap, 0.0)
                for overlap, whom in zip(by_iou.similarity, shown, strict=True)
            ],
        )
        comparisons.append(comparison)
        for first, last, a, b in scene.crossings():
            before = _owners(comparison, first - 15, first - 5, (a, b))
            after = _owners(comparison, last + 5, last + 15, (a, b))
            if None not in before and None not in after:
                crossed += 1
                swapped += before != after
    result = score(comparisons)
    return Result(
        1000 * result.switches / frames,
        1000 * score(plain).switches / frames,
        1000 * result.fragmentations / frames,
        swapped / max(crossed, 1),
        result.mota,
        result.idf1,
        result.hota,
        1000 * spent / frames,
    )


def _shown(found: Poses, given: Poses, whom: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whom each of the poses that came out shows; a tracker changes neither boxes nor poses."""
    if not len(found):
        return np.zeros(0, np.int64)
    same = (found.boxes[:, None] == given.boxes[None]).all(axis=2)
    return whom[same.argmax(axis=1)]


def _owners(
    comparison: Comparison, first: int, last: int, people: Iterable[int]
) -> list[int | None]:
    """The ID that each of these people wore most of the time between two frames."""
    owners: list[int | None] = []
    for person in people:
        worn = [
            int(comparison.found[t][comparison.similarity[t][person].argmax()])
            for t in range(max(first, 0), min(last, len(comparison.found)))
            if len(comparison.found[t]) and comparison.similarity[t][person].max() > 0.5
        ]
        owners.append(max(set(worn), key=worn.count) if worn else None)
    return owners


TRACKERS: dict[str, Callable[[], Follow]] = {
    "greedy IoU": lambda: GreedyIoU(),
    "greedy IoU, 1 s memory": lambda: GreedyIoU(memory=30),
    "hrtrack": ours(AssociationOptions()),
}


@click.group()
@click.argument("labels", type=click.Path(path_type=Path, exists=True))
@click.pass_context
def main(context: click.Context, labels: Path) -> None:
    """Judges identities on people who cross."""
    context.obj = labels


@main.command()
@click.option("--seeds", default=5)
@click.option("--crossings", default=100)
@click.option("--people", default=(2, 5), multiple=True)
@click.option("--joints", default=(1.0, 2.0, 3.0), multiple=True, help="Joint noise in sigmas.")
@click.option("--occlusion", default=(0.0,), multiple=True)
@click.option("--test/--train", default=True)
@click.pass_obj
def table(
    labels: Path, seeds: int, crossings: int, people: tuple[int, ...],
    joints: tuple[float, ...], occlusion: tuple[float, ...], test: bool,
) -> None:  # fmt: skip
    """Ours against plain trackers, on clips that no knob was turned on."""
    clips = load_clips(labels, train=not test)
    rows = Table("people", "noise", "hidden", "tracker", "IDSW/1k", "by IoU", "Frag/1k",
                 "swapped", "MOTA", "IDF1", "HOTA", "ms")  # fmt: skip
    jobs = [(p, j, o) for p in people for j in joints for o in occlusion]
    for count, sigma, hidden in track(jobs, "scenes"):
        results: dict[str, list[Result]] = {name: [] for name in TRACKERS}
        for seed in range(seeds):
            noise = Noise(keypoints=sigma, occlusion=hidden)
            heard = listen(clips, count, crossings, seed, noise)
            for name, start in TRACKERS.items():
                one = judge(heard, start)
                results[name].append(one)
                click.echo(
                    f"{count} people, noise {sigma:g}, hidden {hidden:g}, seed {seed}: "
                    f"{name} {one.switches:.2f} IDSW/1k ({one.by_iou:.2f} by IoU), "
                    f"{one.fragmentations:.0f} Frag/1k, swapped {100 * one.swaps:.1f} %, "
                    f"MOTA {one.mota:.3f}, IDF1 {one.idf1:.3f}, HOTA {one.hota:.3f}",
                    err=True,
                )
        for name, each in results.items():
            columns = np.array([list(vars(result).values()) for result in each])
            mean, spread = columns.mean(axis=0), columns.std(axis=0)
            rows.add_row(
                str(count), f"{sigma:g}", f"{hidden:g}", name,
                f"{mean[0]:.2f} ± {spread[0]:.2f}", f"{mean[1]:.2f} ± {spread[1]:.2f}",
                f"{mean[2]:.0f}", f"{100 * mean[3]:.1f} %",
                *(f"{value:.3f}" for value in mean[4:7]), f"{mean[7]:.2f}",
            )  # fmt: skip
    Console(width=130).print(rows)


KNOBS: dict[str, tuple[float, ...]] = {
    "pose_weight": (0, 3, 6, 9, 15, 24),
    "pose_spread": (1.5, 2, 2.5, 3, 4),
    "pose_time": (0.01, 0.03, 0.05, 0.1, 0.2),
    "box_noise": (0.01, 0.02, 0.03, 0.05, 0.08),
    "acceleration": (2, 4, 8, 16, 32),
    "max_cost": (8, 12, 16, 24),
    "memory": (0.25, 0.5, 1, 2, 4),
    "new_iou": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "damping": (0.15, 0.3, 0.5, 1, 2),
    "min_score": (0.15, 0.25, 0.35, 0.5),
    "low_score": (0.05, 0.1, 0.2, 0.25),
    "beside_hits": (2, 4, 6, 10),
}


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--knob", "knobs", multiple=True, default=tuple(KNOBS))
@click.option("--crossings", default=(20, 60), nargs=2, help="For 2 and for 5 people; 0: none.")
@click.option("--seeds", default=1)
@click.option("--joints", default=2.0, help="Joint noise in sigmas.")
@click.option("--occlusion", default=0.0)
@click.pass_obj
def sweep(
    labels: Path, out: Path, knobs: tuple[str, ...], crossings: tuple[int, int], seeds: int,
    joints: float, occlusion: float,
) -> None:  # fmt: skip
    """One knob at a time, the others at their defaults, on the train clips."""
    clips = load_clips(labels, train=True)
    noise = Noise(keypoints=joints, occlusion=occlusion)
    heard = {
        people: [item for seed in range(seeds) for item in listen(clips, people, n, seed, noise)]
        for people, n in zip((2, 5), crossings, strict=True)
        if n
    }
    curves: dict[str, dict[int, list[Result]]] = {}
    for knob in knobs:
        curves[knob] = {people: [] for people in heard}
        for value in track(KNOBS[knob], knob):
            options = replace(AssociationOptions(), **{knob: value})  # type: ignore[arg-type]
            for people, items in heard.items():
                curves[knob][people].append(judge(items, ours(options)))
        for people, results in curves[knob].items():
            for value, result in zip(KNOBS[knob], results, strict=True):
                click.echo(
                    f"{knob} {value:g} people {people} IDSW {result.switches:.2f} "
                    f"swapped {100 * result.swaps:.1f} % IDF1 {result.idf1:.3f}"
                )
    out.mkdir(parents=True, exist_ok=True)
    _plot_sweep(curves, out / "sweep.png")


def _plot_sweep(curves: dict[str, dict[int, list[Result]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.2 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis, (knob, each) in zip(axes.flat, curves.items(), strict=False):
        for people, results in each.items():
            axis.plot(
                KNOBS[knob], [r.switches for r in results], "o-", ms=4, label=f"{people} people"
            )
        axis.axvline(getattr(AssociationOptions(), knob), color="0.7", lw=1, ls="--")
        axis.set_xlabel(knob)
        axis.set_ylim(bottom=0)
        axis.set_xscale("symlog" if min(KNOBS[knob]) == 0 else "log")
        axis.set_xticks(KNOBS[knob], [f"{v:g}" for v in KNOBS[knob]])
        axis.minorticks_off()
    axes[0, 0].legend(frameon=False)
    for row in axes:
        row[0].set_ylabel("ID switches / 1,000 frames")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run(main, "identities")
