"""What a budget for poses costs: a share of the people estimated a frame, beside all of them.

    python -m benchmarks.budget CLIP --people 20 --people 5 --share 1/2 --share 1/3 --shake 1
    python -m benchmarks.budget crossings LABELS

The first follows a clip with everybody estimated and then with a fixed share, over the same frames
in memory, and compares poses, identities and time. With ``--shake`` it also estimates everybody in
crops that are a little off at random, and with ``--every`` with the detector less often: so well do
two full runs agree. LABELS is the folder of Penn Action's ``*.mat`` files, of which
`benchmarks.crossings` makes its scenes; their poses have no pictures, so people are carried on by
the motion filter alone there.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.crossings import Noise, load_clips
from benchmarks.identities import judge, listen
from hrtrack.evaluation.metrics.tracking import Frame as Seen
from hrtrack.evaluation.metrics.tracking import compare_boxes, score
from hrtrack.geometry import aligned_oks, iou
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13, Skeleton
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.tracking.assign import match
from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.budget import Budget
from hrtrack.tracker.tracking.flow import Flow
from hrtrack.tracker.tracking.proposals import BoxProposer, Found
from hrtrack.tracker.tracking.schedule import DetectionSchedule
from hrtrack.tracker.video.frame import Frame
from hrtrack.tracker.video.open import open_source

SAME = 0.3
"""Boxes that overlap (IoU) so much are the same person's in both runs."""
CERTAIN = 0.3
"""Joints with this score in the full run count."""
GROWN = 0.01
"""Spread of the sizes of crops that are off."""
CURVES = ("slow", "medium", "fast")


@dataclass(frozen=True)
class Pair:
    """One person of one frame in the full run and in the other: their OKS, whether the other run
    estimated the person, and how fast the joints moved in the full run, in sizes a second."""

    oks: float
    estimated: bool
    speed: float


def compare(full: Sequence[Poses], other: Sequence[Poses], skeleton: Skeleton) -> list[Pair]:
    """Everybody whom both runs show, frame by frame."""
    sigmas = np.array(skeleton.sigmas)
    pairs = []
    before: dict[int, tuple[float, NDArray[np.float32]]] = {}
    for mine, theirs in zip(full, other, strict=True):
        sizes = np.maximum((mine.boxes[:, 2:] - mine.boxes[:, :2]).mean(axis=1), 1.0)
        speeds = np.full(len(mine), np.nan)
        certain = mine.scores >= CERTAIN
        for i, number in enumerate(mine.ids.tolist()):
            if number in before and certain[i].any():
                then, points = before[number]
                moved = np.hypot(*(mine.keypoints[i] - points)[certain[i]].T).mean()
                speeds[i] = moved / sizes[i] / max(mine.time - then, 1e-6)
            before[number] = mine.time, mine.keypoints[i]
        overlap = iou(mine.boxes, theirs.boxes)
        for i, j in zip(*match(np.where(overlap >= SAME, overlap, 0.0)), strict=True):
            if certain[i].any():
                width, height = mine.boxes[i, 2:] - mine.boxes[i, :2]
                oks = aligned_oks(
                    theirs.keypoints[j], mine.keypoints[i], np.array(width * height), sigmas,
                    certain[i].astype(float),
                )  # fmt: skip
                pairs.append(Pair(float(oks), bool(theirs.estimated[j]), float(speeds[i])))
    return pairs


def jitter(run: Sequence[Poses]) -> float:
    """The mean change of the joints' steps from one frame to the next, in hundredths of sizes."""
    changes = []
    for a, b, c in zip(run, run[1:], run[2:], strict=False):
        rows = [{n: i for i, n in enumerate(poses.ids.tolist())} for poses in (a, b, c)]
        for number in rows[0].keys() & rows[1].keys() & rows[2].keys():
            i, j, k = (row[number] for row in rows)
            certain = b.scores[j] >= CERTAIN
            change = a.keypoints[i] - 2 * b.keypoints[j] + c.keypoints[k]
            size = max(float((b.boxes[j, 2:] - b.boxes[j, :2]).mean()), 1.0)
            changes.append(np.hypot(*change[certain].T).sum() / max(certain.sum(), 1) / size)
    return 100 * float(np.mean(changes))


def idf1(full: Sequence[Poses], other: Sequence[Poses]) -> float:
    """IDF1 of a run, the full one taken for the truth, by boxes."""
    seen = [(Seen(p.ids, p.boxes.astype(np.float64)) for p in run) for run in (full, other)]
    return score([compare_boxes(*seen)]).idf1


@dataclass
class Turn:
    """One run over the frames."""

    poses: list[Poses]
    fps: float
    cpu_ms: float


class Shaken:
    """The pipeline's own estimator with crops that are off at random.

    ``pixels`` is the spread of their middles, `GROWN` that of their sizes.
    """

    def __init__(self, inner: Callable[..., Poses], pixels: float) -> None:
        self._inner = inner
        self._pixels = pixels
        self._rng = np.random.default_rng(0)

    def __call__(
        self, frame: Frame, boxes: NDArray[np.floating], scores: NDArray[np.floating]
    ) -> Poses:
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        middle = middle + self._rng.normal(0, self._pixels, middle.shape)
        half = half * np.exp(self._rng.normal(0, GROWN, (len(half), 1)))
        shaken = np.concatenate([middle - half, middle + half], axis=1)
        poses = self._inner(frame, shaken, scores)
        return replace(poses, boxes=np.asarray(boxes, np.float32))


@dataclass(frozen=True)
class Case:
    """How a clip is followed: the share of the people estimated in each frame, the spread in pixels
    of crops that are off, and the frames from one look of the detector to the next."""

    share: Fraction = Fraction(1)
    shake: float = 0.0
    every: int = 1

    def __str__(self) -> str:
        words = [str(self.share)]
        if self.shake:
            words.append(f"crops {self.shake:g} px off")
        if self.every > 1:
            words.append(f"detector every {self.every}")
        return ", ".join(words)


def run(tracker: Tracker, frames: Sequence[Frame], case: Case) -> Turn:
    """Follows the people with a share of them estimated in each frame."""
    pipeline = tracker.pipeline()
    if case.every > 1:
        assert isinstance(pipeline.proposer, BoxProposer)
        pipeline.proposer.schedule = DetectionSchedule(case.every, measured=False)
    if case.share < 1:
        pipeline = replace(pipeline, budget=Budget(share=float(case.share)), flow=Flow())
    if case.shake:
        shaken: Any = Shaken(pipeline.estimate, case.shake)
        pipeline = replace(pipeline, estimate=shaken)
    begin, cpu = time.perf_counter(), time.process_time()
    poses = [pipeline.step(frame) for frame in frames]
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return Turn(poses, len(frames) / seconds, cpu / len(frames) * 1e3)


def judge_clip(
    clip: str, frames: Sequence[Frame], people: int, cases: Sequence[Case], turns: int
) -> list[str]:
    """The rows of a table, one a case."""
    rows = []
    with Tracker(max_people=people, target_fps="off", backend="openvino") as tracker:
        run(tracker, frames[:10], Case())
        taken: dict[Case, list[Turn]] = {case: [] for case in (Case(), *cases)}
        for _ in range(turns):
            for case, mine in taken.items():
                mine.append(run(tracker, frames, case))
        full = taken[Case()][0].poses
        everyone = sum(map(len, full))
        whole = statistics.median(turn.fps for turn in taken[Case()])
        for case, mine in taken.items():
            poses = mine[0].poses
            pairs = compare(full, poses, tracker.skeleton)
            oks = np.array([pair.oks for pair in pairs])
            estimated = np.array([pair.estimated for pair in pairs])
            speeds = np.array([pair.speed for pair in pairs])
            thirds = np.nanquantile(speeds, [1 / 3, 2 / 3])
            parts = [
                speeds < thirds[0],
                (speeds >= thirds[0]) & (speeds < thirds[1]),
                speeds >= thirds[1],
            ]
            fps = statistics.median(turn.fps for turn in mine)
            cells = [
                Path(clip).stem, str(people), str(case),
                f"{np.concatenate([p.estimated for p in poses]).mean():.2f}",
                f"{fps:.1f}", f"{fps / whole:.2f}",
                f"{statistics.median(turn.cpu_ms for turn in mine):.1f}",
                f"{oks.mean():.3f}", f"{np.percentile(oks, 10):.3f}",
                f"{oks[estimated].mean():.3f}",
                f"{oks[~estimated].mean():.3f}" if not estimated.all() else "",
                *(f"{oks[part].mean():.3f}" for part in parts),
                f"{1 - len(pairs) / everyone:.3f}", f"{sum(map(len, poses)) / len(poses):.2f}",
                str(len({n for p in poses for n in p.ids.tolist()})), f"{idf1(full, poses):.3f}",
                f"{jitter(poses):.2f}",
            ]  # fmt: skip
            rows.append("| " + " | ".join(cells) + " |")
    return rows


HEADER = (
    "clip", "people", "share", "estimated", "FPS", "times", "CPU ms", "OKS", "p10", "of estimated",
    "of carried", *CURVES, "not shown", "people shown", "identities", "IDF1", "jitter",
)  # fmt: skip


def table(header: Sequence[str], rows: Sequence[str]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join([*lines, *rows])


class Shared:
    """The association of a scene's poses where only a share of the people is estimated."""

    def __init__(self, share: float) -> None:
        self._tracks = Tracks(ACTION13)
        self._budget = Budget(share=share)
        self._given: Found = (np.zeros((0, 4)), np.zeros(0))
        self._proposer = BoxProposer(lambda image: self._given, self._tracks, every=1)
        self._room = np.broadcast_to(np.uint8(0), (10_000, 10_000, 3))

    def __call__(self, poses: Poses) -> Poses:
        self._given = poses.boxes.astype(np.float64), poses.person_scores.astype(np.float64)
        frame = Frame(poses.frame, poses.time, self._room)
        self._budget.begin(frame)
        proposals = self._proposer.propose(frame)
        overlap = iou(proposals.boxes, self._given[0])
        which = overlap.argmax(axis=1) if len(poses) else np.zeros(len(proposals), np.intp)
        chosen = self._budget.choose(proposals, self._tracks.live(poses.time), poses.time)
        self._budget.estimated(0.0)
        self._budget.finish()
        # In the box of someone who is hidden nobody is found.
        looked = chosen & proposals.from_detector
        to_carry = self._tracks.to_carry(proposals[~chosen])
        found = self._tracks.update(poses[which[looked]], proposals[looked], to_carry)
        # Whom a carried pose shows nobody can tell in a crossing: what counts is who is who where
        # people are estimated. `judge` knows a pose by its box.
        return found[found.estimated]


class Shares(click.ParamType):
    """A share like ``1/3``."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        try:
            share = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            share = Fraction(0)
        if not 0 < share <= 1:
            self.fail(f"{value!r} is no share between 0 and 1", param, ctx)
        return share


@click.command()
@click.argument("clip")
@click.argument("labels", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--people", multiple=True, default=(5, 20), type=click.IntRange(1))
@click.option("--share", "shares", multiple=True, default=("1/2", "1/3"), type=Shares())
@click.option("--shake", "shakes", multiple=True, type=click.FloatRange(0.0, min_open=True))
@click.option("--every", "everies", multiple=True, type=click.IntRange(2))
@click.option("--frames", default=10_000, help="The first so many frames of the clip.")
@click.option("--turns", default=1, help="Runs of each, of which the time is the median.")
@click.option("--seeds", default=3, help="Scenes of crossings with so many seeds.")
def main(
    clip: str,
    labels: Path | None,
    people: tuple[int, ...],
    shares: tuple[Fraction, ...],
    shakes: tuple[float, ...],
    everies: tuple[int, ...],
    frames: int,
    turns: int,
    seeds: int,
) -> None:
    """Compares a share of the poses with all of them on CLIP, or on ``crossings LABELS``."""
    if clip == "crossings":
        if labels is None:
            raise click.UsageError("crossings needs the folder of Penn Action's labels")
        crossings(labels, (Fraction(1), *shares), seeds)
        return
    with open_source(clip) as source:
        pictures = [replace(f, image=f.image.copy()) for f in itertools.islice(source, frames)]
    cases = [
        *(Case(shake=one) for one in shakes),
        *(Case(every=one) for one in everies),
        *(Case(share) for share in shares),
    ]
    rows = [row for count in people for row in judge_clip(clip, pictures, count, cases, turns)]
    click.echo(table(HEADER, rows))


def crossings(labels: Path, shares: Sequence[Fraction], seeds: int) -> None:
    """Identities on scenes of people who cross, at each share."""
    clips = load_clips(labels, train=False)
    rows = []
    for people in (2, 5):
        heard = [one for seed in range(seeds) for one in listen(clips, people, 100, seed, Noise())]
        for share in shares:
            start = partial(Shared, float(share))
            result = judge(heard, start)
            cells = [
                str(people), str(share), f"{result.switches:.2f}", f"{result.fragmentations:.2f}",
                f"{result.swaps:.3f}", f"{result.idf1:.3f}", f"{result.hota:.3f}",
            ]  # fmt: skip
            rows.append("| " + " | ".join(cells) + " |")
    click.echo(table(("people", "share", "IDSW/1k", "Frag/1k", "swapped", "IDF1", "HOTA"), rows))


if __name__ == "__main__":
    main()
