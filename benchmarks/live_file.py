"""Live tracking against the file run on the very frames that live processed.

    python -m benchmarks.live_file CLIP... [--judge DETECTOR.onnx] [--json FILE] [--markdown FILE]

plays clips to the pipeline as a camera would: at every ``--rates`` (processed frames a second) and
``--paces`` (what is slower, the camera or the loop), looking for people ``--every`` so many frames.
It needs no clock: what the camera, the loop and the detector take is given, in virtual time, so
that the figures are the same on every machine and in every run. ``--real`` sends the clips over
loopback in true time instead, tracked by ``Tracker.track``, on the machine as it is and beside a
process that keeps a core busy.

The file run on the same frames with the same times is the truth: IDF1 says how well identities
agree with it, once by the IoU of boxes and once by the OKS of joints: live draws some boxes around
the joints that the file run takes from the detector, which leaves out spread arms. A ghost is a
box in which every ``--judge`` sees nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.stream_server import Recording, busy_core, decoded, serving
from benchmarks.virtual_time import Camera, Clock, Costs, charged, live_proposer
from hrtrack.cli import run as run_command
from hrtrack.errors import HrtrackError
from hrtrack.evaluation.metrics import tracking
from hrtrack.geometry import area, iou, oks
from hrtrack.poses import Poses
from hrtrack.shown import Shown
from hrtrack.skeleton import Skeleton
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.inference.open import open_detector
from hrtrack.tracker.tracking.budget import Budget
from hrtrack.tracker.tracking.flow import Flow
from hrtrack.tracker.tracking.proposals import BoxProposer, Detector, Found
from hrtrack.tracker.video.frame import Frame
from hrtrack.tracker.video.open import open_source

Every = int | Literal["auto"]
Image = NDArray[np.uint8]
PACES = ("one-late", "slower", "faster")
CROWDED = "crowded"
GHOST_IOU = 0.3
"""A box that overlaps less with everybody that a judge sees shows nobody."""
JUDGE_SCORE = 0.15
"""Judges are to find even whom they doubt: only a box without anybody is a ghost."""
PACE_WORDS = """\
Paces: `one-late`, the camera is slower than the loop and the detector is ready in the next frame;
`slower`, the camera is slower and the detector takes 120 ms; `faster`, the camera is half as fast
again as the loop and the detector takes one and a half frames; `crowded`, everybody's poses take
more than two frames of the camera and the detector a third of one; `real`, true time on this
machine; `busy core`, the same beside a process that keeps a core busy.
"""
SLOW_DETECTOR = 0.12
"""Seconds that the detector takes on a small laptop beside the pose network."""


@dataclass(frozen=True)
class Row:
    """One line of the table; ages in milliseconds, ``ghosts`` in boxes a hundred frames."""

    clip: str
    rate: float
    pace: str
    every: str
    frames: int
    dropped: int
    age: float
    idf1: float
    idf1_joints: float
    file_ids: int
    ids: int
    file_people: float
    people: float
    file_ghosts: float | None
    ghosts: float | None


HEADS = (
    "clip", "fps", "pace", "detect every", "frames", "dropped", "p95 age ms", "IDF1",
    "of joints", "identities file", "live", "people file", "live", "ghosts file", "live",
)  # fmt: skip


class Cache:
    """What the networks found in a frame, kept from run to run in a folder.

    ``key`` names what the findings depend on beside the frame. Findings of another version, whose
    poses had other fields, count as not known.
    """

    def __init__(self, folder: Path, key: str) -> None:
        key = " ".join((key, *(field.name for field in fields(Poses))))
        self._path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.pickle"
        self._known: dict[bytes, Any] = {}
        self._new = False
        if self._path.is_file():
            self._known = pickle.loads(self._path.read_bytes())

    def get(self, parts: Sequence[bytes], compute: Callable[[], Any]) -> Any:
        """The finding for these parts, computed where it is not known yet."""
        key = hashlib.blake2b(b"|".join(parts), digest_size=16).digest()
        if key not in self._known:
            self._known[key] = compute()
            self._new = True
        return self._known[key]

    def save(self) -> None:
        """Writes what came to be known."""
        if self._new:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(pickle.dumps(self._known))
            self._new = False


def picture_key(image: Image) -> bytes:
    """Enough of a picture to know it among those of a clip."""
    return np.ascontiguousarray(image[::8, ::8]).tobytes()


def remembered(detector: Detector, cache: Cache) -> Detector:
    """The detector, which looks at no picture twice."""

    def detect(image: Image) -> Found:
        found: Found = cache.get([picture_key(image)], lambda: detector(image))
        return found[0].copy(), found[1].copy()

    return detect


class CachedEstimator:
    """The pipeline's own estimator, which computes no crop twice and charges for each."""

    def __init__(
        self, inner: Callable[..., Poses], cache: Cache, clock: Clock | None, costs: Costs | None
    ) -> None:
        self._inner = inner
        self._cache = cache
        self._clock = clock
        self._costs = costs

    def __call__(
        self, frame: Frame, boxes: NDArray[np.floating], scores: NDArray[np.floating]
    ) -> Poses:
        parts = [picture_key(frame.image), boxes.tobytes(), scores.tobytes()]
        poses: Poses = self._cache.get(parts, lambda: self._inner(frame, boxes, scores))
        if self._clock is not None and self._costs is not None:
            self._clock.now += self._costs.fixed + self._costs.person * len(boxes)
        return replace(poses, frame=frame.index, time=frame.time)


@dataclass
class Clip:
    """A clip's frames and what the networks see in them."""

    name: str
    images: list[Image]
    rate: float
    tracker: Tracker
    detector: Detector
    poses: Cache
    judges: list[Detector]
    caches: list[Cache]

    def typical(self) -> int:
        """How many people the detector sees in the middle of the clip."""
        return max(1, int((self.detector(self.images[len(self.images) // 2])[1] >= 0.3).sum()))

    def save(self) -> None:
        for cache in self.caches:
            cache.save()


def open_clip(path: Path, tracker: Tracker, judges: Sequence[Path], folder: Path) -> Clip:
    """Decodes a clip into memory, and opens the detectors and their caches."""
    with open_source(str(path)) as source:
        rate = float(source.fps or 30)
        images = [frame.image for frame in source]
    clip = hashlib.sha256(path.read_bytes()).hexdigest()
    keys = [tracker.detector.describe(), tracker.network.describe()]
    detector, poses = (Cache(folder, f"{clip} {key}") for key in keys)
    opened, caches = [], [detector, poses]
    for judge in judges:
        cache = Cache(folder, f"{clip} {JUDGE_SCORE} {judge.name}")
        opened.append(remembered(open_detector(str(judge), min_score=JUDGE_SCORE), cache))
        caches.append(cache)
    return Clip(
        path.stem,
        images,
        rate,
        tracker,
        remembered(tracker.detector, detector),
        poses,
        opened,
        caches,
    )


@dataclass(frozen=True)
class Showing:
    """A clip as a camera shows it: which of its frames, and how many a second."""

    order: list[int]
    rate: float


def restamped(count: int, own: float, rate: float, seconds: float | None) -> Showing:
    """A clip of ``count`` frames, ``own`` a second, shown at ``rate`` frames a second.

    People move about as fast as they did where the clip has frames enough. With ``seconds`` it
    runs forwards and backwards until they are over.
    """
    order = list(range(0, count, max(1, round(own / rate))))
    if seconds is None:
        return Showing(order, rate)
    turn = order + order[-2:0:-1]
    wanted = round(seconds * rate)
    return Showing((turn * (wanted // len(turn) + 1))[:wanted], rate)


@dataclass(frozen=True)
class Processed:
    """What a run showed of the frames that it processed."""

    frames: list[Frame]
    poses: list[Poses]
    ages: list[float]
    dropped: int


def run_live(
    clip: Clip, showing: Showing, every: Every, costs: Costs, budget: bool = False
) -> Processed:
    """A live run in virtual time; with a ``budget`` it keeps up with the camera."""
    clock = Clock()
    camera = Camera(showing.rate, len(showing.order))
    frames, found, ages = [], [], []
    pipeline = clip.tracker.pipeline()
    detector = charged(clip.detector, clock, costs.detector)
    pipeline.proposer = live_proposer(detector, pipeline.tracks, every, clock)
    pipeline.estimate = CachedEstimator(  # type: ignore[assignment]
        pipeline.estimate, clip.poses, clock, costs
    )
    if budget:
        pipeline.budget = Budget(target_fps=showing.rate, waits=True, clock=clock)
        pipeline.flow = Flow()
    for number, arrived in camera.frames(clock):
        image = clip.images[showing.order[number]]
        frame = Frame(number, arrived, image, dropped=camera.dropped, arrived=arrived)
        found.append(pipeline.step(frame))
        frames.append(frame)
        ages.append(clock.now - arrived)
    return Processed(frames, found, ages, camera.dropped)


def run_file(clip: Clip, frames: Sequence[Frame], every: Every) -> list[Poses]:
    """What a file of these frames gives."""
    pipeline = clip.tracker.pipeline()
    pipeline.proposer = BoxProposer(clip.detector, pipeline.tracks, every=every)
    pipeline.estimate = CachedEstimator(  # type: ignore[assignment]
        pipeline.estimate, clip.poses, None, None
    )
    return [pipeline.step(frame) for frame in frames]


def costs_of(clip: Clip, rate: float, pace: str) -> tuple[float, Costs]:
    """The camera's frames a second and what a loop of this pace takes at ``rate`` of its own.

    ``one-late``: the camera is slower than the loop, and the detector is ready in the next
    frame. ``slower``: the camera is slower, and the detector takes `SLOW_DETECTOR`. ``faster``:
    the camera is half as fast again as the loop, and the detector takes one and a half frames.
    ``crowded``: the poses of everybody take two and a fifth of a camera's frames, the detector
    and the rest three tenths each.
    """
    if pace == CROWDED:
        return rate, Costs(0.3 / rate, 2.2 / rate / clip.typical(), 0.3 / rate)
    camera = 1.5 * rate if pace == "faster" else rate
    busy = 1.0 if pace == "faster" else 0.6
    detector = {"one-late": 0.5 / rate, "slower": SLOW_DETECTOR, "faster": 1.5 / rate}[pace]
    fixed = 0.25 * busy / rate
    return camera, Costs(fixed, (busy / rate - fixed) / clip.typical(), detector)


def compare(
    head: tuple[str, float, str, Every],
    live: Processed,
    truth: Sequence[Poses],
    seen: Sequence[Sequence[NDArray[np.floating]]],
    skeleton: Skeleton,
) -> Row:
    """The figures of a live run beside those of the file run on its frames.

    ``head`` is clip, frames a second, pace and detect every; ``seen`` has, frame by frame, the
    boxes of every judge, and is empty without judges.
    """
    boxes = tracking.compare_boxes(map(people_of, truth), map(people_of, live.poses))
    sigmas = np.array(skeleton.sigmas)
    likeness = [alike(a, b, sigmas) for a, b in zip(truth, live.poses, strict=True)]
    joints = replace(boxes, similarity=likeness)
    runs = (truth, live.poses)
    ghosts = [_ghosts(run, seen) if seen else None for run in runs]
    ids = [len({int(one) for poses in run for one in poses.ids}) for run in runs]
    people = [float(np.mean([len(poses) for poses in run])) for run in runs]
    clip, rate, pace, every = head
    return Row(
        clip,
        rate,
        pace,
        str(every),
        len(live.poses),
        live.dropped,
        1e3 * float(np.percentile(live.ages, 95)),
        tracking.score([boxes]).idf1,
        tracking.score([joints]).idf1,
        *ids,
        *people,
        *ghosts,
    )


def people_of(poses: Poses) -> tracking.Frame:
    """The people of a frame, as `tracking` takes them."""
    return tracking.Frame(poses.ids, poses.boxes.astype(np.float64))


def alike(truth: Poses, found: Poses, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """The OKS (N, M) of every pose in truth with every one found, by what truth sees of it."""
    likeness = oks(
        found.keypoints.astype(np.float64),
        truth.keypoints.astype(np.float64),
        area(truth.boxes),
        sigmas,
        truth.scores[None].astype(np.float64),
    )
    return likeness.T.astype(np.float64)


def _ghosts(run: Sequence[Poses], seen: Sequence[Sequence[NDArray[np.floating]]]) -> float:
    """Boxes without anybody in a hundred frames."""
    count = 0
    for poses, judged in zip(run, seen, strict=True):
        best = np.zeros(len(poses))
        for boxes in judged:
            best = np.maximum(best, iou(poses.boxes, boxes).max(axis=1, initial=0.0))
        count += int((best < GHOST_IOU).sum())
    return 100 * count / len(run)


def simulate(
    clip: Clip,
    rates: Sequence[float],
    paces: Sequence[str],
    everies: Sequence[Every],
    seconds: float | None,
    budget: bool,
) -> list[Row]:
    """All cases of one clip in virtual time."""
    rows = []
    for rate, pace, every in product(rates, paces, everies):
        camera, costs = costs_of(clip, rate, pace)
        showing = restamped(len(clip.images), clip.rate, camera, seconds)
        live = run_live(clip, showing, every, costs, budget)
        truth = run_file(clip, live.frames, every)
        seen = [[judge(one.image)[0] for judge in clip.judges] for one in live.frames]
        rows.append(
            compare(
                (clip.name, rate, pace, every),
                live,
                truth,
                seen if clip.judges else [],
                clip.tracker.skeleton,
            )
        )
        tell(rows[-1])
    clip.save()
    return rows


@dataclass(frozen=True)
class Streamed:
    """A live run in true time: what it showed, the ``pieces`` that were sent, and a key of every
    picture that was processed."""

    processed: Processed
    pieces: list[bytes]
    keys: list[bytes]


def stream(
    tracker: Tracker, path: Path, rate: float, seconds: float | None, busy: bool = False
) -> Streamed:
    """Tracks a clip that a server of its own sends over loopback, with the tracker's options."""
    with open_source(str(path)) as source:
        own, count = float(source.fps or 30), 0
        for count, frame in enumerate(source, start=1):  # noqa: B007
            warm = frame.image
    pieces = list(Recording(path, restamped(count, own, rate, seconds).order, rate))
    frames: list[Frame] = []
    poses, ages, keys = [], [], []
    tracker.image(warm)
    with busy_core(busy), serving(pieces, rate) as server:
        for frame, found in tracker.track(server.url):
            ages.append(time.monotonic() - (frame.arrived or 0.0))
            poses.append(found)
            keys.append(picture_key(frame.image))
            frames.append(replace(frame, image=frame.image[:1, :1].copy()))
    dropped = frames[-1].dropped if frames else 0
    return Streamed(Processed(frames, poses, ages, dropped), pieces, keys)


def run_real(
    path: Path, rate: float, every: Every, busy: bool, seconds: float | None,
    judges: Sequence[Detector], threads: int | None, budget: bool,
) -> Row:  # fmt: skip
    """A live run in true time, over loopback from a server of its own."""
    target: Literal["auto", "off"] = "auto" if budget else "off"
    with Tracker(threads=threads, detect_every=every, target_fps=target) as tracker:
        streamed = stream(tracker, path, rate, seconds, busy)
        live, keys = streamed.processed, streamed.keys
        skeleton = tracker.skeleton
        pipeline = tracker.pipeline()
        shown = Shown()
        truth: list[Poses] = []
        seen: list[list[NDArray[np.floating]]] = []
        for number, picture in enumerate(decoded(streamed.pieces)):
            at = len(truth)
            if at == len(live.poses) or live.poses[at].frame != number:
                continue
            image = shown.rgb(picture)
            if picture_key(image) != keys[at]:
                raise HrtrackError(f"frame {number} of the stream is not the one that was sent")
            truth.append(pipeline.step(Frame(number, live.poses[at].time, image)))
            if judges:
                seen.append([judge(image)[0] for judge in judges])
    return compare(
        (path.stem, rate, "busy core" if busy else "real", every), live, truth, seen, skeleton
    )


def tell(row: Row) -> None:
    """Says at once what was measured; the table comes at the end."""
    click.echo(
        " ".join(f"{name}={cell}" for name, cell in zip(HEADS, cells(row), strict=True)), err=True
    )


def cells(row: Row) -> list[str]:
    """A row as text."""
    values = asdict(row)
    for name in ("idf1", "idf1_joints", "people", "file_people"):
        values[name] = f"{values[name]:.3f}" if "idf1" in name else f"{values[name]:.2f}"
    for name in ("age", "ghosts", "file_ghosts"):
        digits = 0 if name == "age" else 1
        values[name] = "" if values[name] is None else f"{values[name]:.{digits}f}"
    return [f"{one:g}" if isinstance(one, float) else str(one) for one in values.values()]


def markdown(rows: Sequence[Row], command: str) -> str:
    """The rows as a page in Markdown: how they came about, the table, what its words mean."""
    lines = [" | ".join(HEADS), " | ".join("---" for _ in HEADS)]
    lines += [" | ".join(cells(row)) for row in rows]
    table = "".join(f"| {line} |\n" for line in lines)
    return (
        "# Live against the file run on the same frames\n\n"
        f"    {command}\n\n"
        f"{os.cpu_count()} logical cores, {platform.machine()}, {platform.system()}.\n\n"
        f"{table}\n{PACE_WORDS}\n"
        "IDF1 takes the file run for the truth, by boxes (IoU .5) and by joints (OKS .5).\n"
        "Ghosts are boxes in a hundred frames in which the judges see nobody.\n"
    )


def show(rows: Sequence[Row]) -> None:
    """Prints the rows as a table."""
    table = Table()
    for head in HEADS:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if Console().is_terminal else 150).print(table)


def _list(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


cache_option = click.option(
    "--cache", type=click.Path(path_type=Path),
    default=Path(tempfile.gettempdir()) / "hrtrack-live-file",
    help="Folder for what the networks found.",
)  # fmt: skip


@click.command(help=__doc__)
@click.argument("clips", nargs=-1, required=True, type=click.Path(True, path_type=Path))
@click.option("--rates", default="30,15,10,5", callback=_list, help="Processed frames a second.")
@click.option(
    "--paces", default=",".join(PACES), callback=_list, help="Of " + ", ".join((*PACES, CROWDED))
)
@click.option("--every", default="1,2,5,auto", callback=_list, help="Frames between two looks.")
@click.option("--seconds", type=float, help="Run the clip forwards and backwards for so long.")
@click.option(
    "--judge", "judges", multiple=True, type=click.Path(True, path_type=Path),
    help="ONNX person detector that tells ghosts from people; may be repeated.",
)  # fmt: skip
@click.option("--budget", is_flag=True, help="Keep up with the camera: `--target-fps auto`.")
@click.option("--real", is_flag=True, help="In true time over loopback, at --rates of the camera.")
@click.option(
    "--busy", is_flag=True, help="With --real: also beside a process that keeps a core busy."
)
@click.option("--repeat", default=1, help="With --real: measure every case so many times.")
@click.option("--threads", type=int, help="CPU threads of the networks.")
@cache_option
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the rows here.")
@click.option(
    "--markdown", "markdown_path", type=click.Path(path_type=Path), help="Write the table here."
)
def main(
    clips: tuple[Path, ...],
    rates: list[str],
    paces: list[str],
    every: list[str],
    seconds: float | None,
    judges: tuple[Path, ...],
    budget: bool,
    real: bool,
    busy: bool,
    repeat: int,
    threads: int | None,
    cache: Path,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    everies: list[Every] = ["auto" if one == "auto" else int(one) for one in every]
    speeds = [float(one) for one in rates]
    rows: list[Row] = []
    if real:
        opened = [open_detector(str(judge), min_score=JUDGE_SCORE) for judge in judges]
        loads = (False, True) if busy else (False,)
        for path, rate, load, one in product(clips, speeds, loads, everies):
            for _ in range(repeat):
                rows.append(run_real(path, rate, one, load, seconds, opened, threads, budget))
                tell(rows[-1])
    else:
        with Tracker(threads=threads, target_fps="off") as tracker:
            for path in clips:
                clip = open_clip(path, tracker, judges, cache)
                rows += simulate(clip, speeds, paces, everies, seconds, budget)
    show(rows)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if markdown_path is not None:
        words = " ".join(Path(one).name if os.sep in one else one for one in sys.argv[1:])
        markdown_path.parent.mkdir(parents=True, exist_ok=True)
        markdown_path.write_text(markdown(rows, f"python -m benchmarks.live_file {words}"))


if __name__ == "__main__":
    run_command(main, "live_file")
