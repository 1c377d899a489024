"""Live tracking of a camera that is too fast, with and without a budget for poses, against truth.

    python -m benchmarks.dense_truth CLIP --rate 25 --loads 1.5,3,6 --seconds 8

Which serves a user better where the machine cannot keep up: to drop frames, or to estimate only
some people in each (`--target-fps`)? The truth is a run that nobody could make live: every frame of
the clip, everybody estimated, the detector in each, at the clip's own rate. People whom it follows
for less than `LONG` seconds count neither as missed nor as wrong. The camera shows fewer of these
frames. What is live in it costs virtual time (`benchmarks.virtual_time`), so that the figures are
those of any machine, and each is the mean of runs whose costs differ by up to a fifth.

Every run is judged twice: by the frames that it processed, and by what it shows at each moment,
when the newest results are already old (streaming accuracy: Li, Wang, Ramanan, "Towards streaming
perception", ECCV 2020). A load of 3 is a machine that needs three of the camera's frames for one if
it estimates everybody. There the detector and all the rest each take as long as `DETECTOR` poses.

With ``--real`` the clip comes over loopback in true time instead.

The last row of each load estimates everybody in the frames that the run with a budget processed: no
machine of this load could do so live.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.live_file import (
    Clip,
    Processed,
    Showing,
    alike,
    cache_option,
    open_clip,
    people_of,
    restamped,
    run_file,
    run_live,
    stream,
)
from benchmarks.virtual_time import Costs
from hrtrack.cli import run as run_command
from hrtrack.evaluation.metrics import tracking
from hrtrack.geometry import iou
from hrtrack.poses import Poses
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.tracking.assign import match
from hrtrack.tracker.video.frame import Frame

LONG = 1.0
"""Seconds that the truth has to follow somebody who counts."""
SAME = 0.5
"""From this likeness on a pose shows a person."""
DETECTOR = 4.3
"""Poses that take as long as the detector, and as all the rest: measured live with 25 boxes on two
cores of a Xeon, 3.5 ms a pose and 15 ms each."""
SPREAD = (0.8, 0.9, 1.0, 1.1, 1.2)
"""Factors on the costs of the runs of which the figures are means."""


@dataclass(frozen=True)
class Judged:
    """How well a run agrees with the truth, over some frames; shares, and counts a minute.

    ``oks`` is the mean over all people in truth, with 0 for those who are not shown, ``extra`` how
    many more a frame shows than there are.
    """

    idf1: float
    hota: float
    switches: float
    breaks: float
    missed: float
    extra: float
    oks: float


@dataclass(frozen=True)
class Row:
    """One line of the table, the mean of several runs; rates a second, ages in milliseconds."""

    fps: float
    age: float
    estimated: float
    people: float
    identities: float
    frames: Judged
    moments: Judged


HEADS = (
    "load", "run", "FPS", "p95 age ms", "estimated", "people", "identities",
    *(f"{kind.name}, {view}" for view in ("frames", "moments") for kind in fields(Judged)),
)  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """The dense run: a frame every ``period`` seconds, and who of it counts."""

    poses: list[Poses]
    period: float
    counts: frozenset[int]
    sigmas: NDArray[np.float64]

    @classmethod
    def of(cls, clip: Clip, showing: Showing, step: int) -> Truth:
        """Follows everybody through all frames, of which a camera shows every ``step``-th."""
        period = 1.0 / (showing.rate * step)
        order = [
            a + round((b - a) * i / step)
            for a, b in itertools.pairwise(showing.order)
            for i in range(step)
        ]
        frames = [Frame(i, i * period, clip.images[at]) for i, at in enumerate(order)]
        poses = run_file(clip, frames, 1)
        begun: dict[int, float] = {}
        ended: dict[int, float] = {}
        for one in poses:
            for number in one.ids.tolist():
                begun.setdefault(number, one.time)
                ended[number] = one.time
        counts = frozenset(number for number in begun if ended[number] - begun[number] >= LONG)
        return cls(poses, period, counts, np.array(clip.tracker.skeleton.sigmas))

    def at(self, time: float) -> Poses:
        """Who is where at an instant."""
        return self.poses[min(round(time / self.period), len(self.poses) - 1)]

    def judge(self, shown: Sequence[tuple[Poses, Poses]], seconds: float) -> Judged:
        """Compares truth and what is shown, pair by pair, over so many seconds."""
        pairs = [self._counted(*pair) for pair in shown]
        likeness = [alike(truth, found, self.sigmas) for truth, found in pairs]
        boxes = tracking.compare_boxes(
            (people_of(truth) for truth, _ in pairs), (people_of(found) for _, found in pairs)
        )
        scores = tracking.score([replace(boxes, similarity=likeness)])
        everybody = max(sum(len(truth) for truth, _ in pairs), 1)
        minutes = seconds / 60
        return Judged(
            scores.idf1,
            scores.hota,
            scores.switches / minutes,
            scores.fragmentations / minutes,
            scores.misses / everybody,
            scores.false_positives / len(pairs),
            sum(float(one[match(one)].sum()) for one in likeness) / everybody,
        )

    def _counted(self, truth: Poses, found: Poses) -> tuple[Poses, Poses]:
        """Both without those who do not count, and without poses that show them."""
        counts = np.array([number in self.counts for number in truth.ids.tolist()], bool)
        likeness = np.maximum(
            alike(truth, found, self.sigmas), iou(truth.boxes, found.boxes).astype(np.float64)
        )
        rows, columns = match(np.where(likeness >= SAME, likeness, 0.0))
        left = np.ones(len(found), bool)
        left[columns[~counts[rows]]] = False
        return truth[np.flatnonzero(counts)], found[np.flatnonzero(left)]


def row_of(truth: Truth, runs: Sequence[Processed]) -> Row:
    """The means of the figures of several runs."""
    rows = [_row_of(truth, run) for run in runs]

    def mean(values: Sequence[Any]) -> Any:
        if isinstance(values[0], Judged):
            return Judged(*np.mean([list(asdict(one).values()) for one in values], axis=0))
        return float(np.mean(values))

    return Row(*(mean([getattr(row, one.name) for row in rows]) for one in fields(Row)))


def _row_of(truth: Truth, run: Processed) -> Row:
    seconds = run.frames[-1].time
    ready = [frame.time + age for frame, age in zip(run.frames, run.ages, strict=True)]
    of_frames = [
        (truth.at(frame.time), poses) for frame, poses in zip(run.frames, run.poses, strict=True)
    ]
    newest = [(then, bisect_right(ready, then.time) - 1) for then in truth.poses]
    at_moments = [(then, run.poses[at]) for then, at in newest if at >= 0]
    return Row(
        len(run.frames) / seconds,
        1e3 * float(np.percentile(run.ages, 95)),
        float(np.concatenate([poses.estimated for poses in run.poses]).mean()),
        float(np.mean([len(poses) for poses in run.poses])),
        len({number for poses in run.poses for number in poses.ids.tolist()}),
        truth.judge(of_frames, seconds),
        truth.judge(at_moments, seconds),
    )


def cells(load: str, name: str, row: Row) -> list[str]:
    """A row as text."""
    texts = [
        load, name, f"{row.fps:.1f}", f"{row.age:.0f}", f"{row.estimated:.2f}",
        f"{row.people:.2f}", f"{row.identities:.0f}",
    ]  # fmt: skip
    for one in (row.frames, row.moments):
        for kind, value in asdict(one).items():
            digits = 0 if kind in ("switches", "breaks") else 2 if kind == "extra" else 3
            texts.append(f"{value:.{digits}f}")
    return texts


def measure(clip: Clip, truth: Truth, showing: Showing, load: float) -> dict[str, Row]:
    """The three rows of one load."""
    rate = showing.rate
    pose = load / rate / (clip.typical() + 2 * DETECTOR)
    costs = [Costs(DETECTOR * pose * s, pose * s, DETECTOR * pose * s) for s in SPREAD]
    dropping = [run_live(clip, showing, "auto", one) for one in costs]
    budgeted = [run_live(clip, showing, "auto", one, budget=True) for one in costs]
    everybody = [replace(run, poses=run_file(clip, run.frames, 1)) for run in budgeted]
    clip.save()
    return {
        "frames dropped": row_of(truth, dropping),
        "budget": row_of(truth, budgeted),
        "everybody, same frames": row_of(truth, everybody),
    }


def measure_real(
    path: Path, truth: Truth, rate: float, seconds: float | None, threads: int | None, turns: int
) -> dict[str, Row]:
    """The rows of a live run in true time, with a budget and without, in turns."""
    runs: dict[Literal["off", "auto"], list[Processed]] = {"off": [], "auto": []}
    for _ in range(turns):
        for target, mine in runs.items():
            with Tracker(threads=threads, target_fps=target) as tracker:
                run = stream(tracker, path, rate, seconds).processed
            # When the server sent it, for frames do not come at even intervals.
            frames = [replace(frame, time=frame.index / rate) for frame in run.frames]
            mine.append(replace(run, frames=frames))
    return {
        "frames dropped": row_of(truth, runs["off"]),
        "budget": row_of(truth, runs["auto"]),
    }


@click.command(help=__doc__)
@click.argument("clip", type=click.Path(True, path_type=Path))
@click.option("--rate", default=25.0, help="Frames a second of the camera.")
@click.option("--loads", default="1.5,3,6", help="Camera frames that one with everybody takes.")
@click.option("--seconds", type=float, help="Run the clip forwards and backwards for so long.")
@click.option("--real", is_flag=True, help="In true time over loopback, on this machine.")
@click.option("--turns", default=1, help="With --real: runs of which the figures are means.")
@click.option("--threads", type=int, help="CPU threads of the networks.")
@cache_option
def main(
    clip: Path, rate: float, loads: str, seconds: float | None, real: bool, turns: int,
    threads: int | None, cache: Path,
) -> None:  # fmt: skip
    lines = [" | ".join(HEADS), " | ".join("---" for _ in HEADS)]

    def enter(load: str, rows: dict[str, Row]) -> None:
        for name, row in rows.items():
            lines.append(" | ".join(cells(load, name, row)))
            click.echo(lines[-1], err=True)

    with Tracker(threads=threads, target_fps="off") as tracker:
        opened = open_clip(clip, tracker, [], cache)
        showing = restamped(len(opened.images), opened.rate, rate, seconds)
        truth = Truth.of(opened, showing, max(1, round(opened.rate / rate)))
        opened.save()
        if not real:
            for load in map(float, loads.split(",")):
                enter(f"{load:g}", measure(opened, truth, showing, load))
    if real:
        enter("real", measure_real(clip, truth, rate, seconds, threads, turns))
    click.echo("".join(f"| {line} |\n" for line in lines))


if __name__ == "__main__":
    run_command(main, "dense_truth")
