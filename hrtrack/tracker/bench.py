"""The same loop under a stopwatch: FPS, time per stage, and what hrtrack itself adds."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..poses import Poses
from .associate import Tracks
from .draw import DrawOptions, draw
from .frame import Frame
from .loop import Pipeline
from .stopwatch import Stopwatch

STAGES = ("decode", "detect", "crop", "infer", "associate", "act", "draw", "encode")
NETWORKS = ("detect", "infer")


@dataclass(frozen=True)
class StageTime:
    """One stage's times in milliseconds; ``per_frame`` spreads the total over all frames."""

    stage: str
    p50: float
    p95: float
    p99: float
    per_frame: float


@dataclass(frozen=True)
class PipelineReport:
    """One run of the loop over preloaded frames."""

    name: str
    frames: int
    people: float
    fps: float
    own_ms: float
    stages: tuple[StageTime, ...]

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)


def stage_times(stopwatch: Stopwatch, frames: int) -> tuple[StageTime, ...]:
    """The stages that ran, in the order a frame meets them."""
    known = [name for name in STAGES if name in stopwatch.counts]
    return tuple(
        StageTime(
            name,
            *(stopwatch.percentile(name, q) for q in (50, 95, 99)),
            per_frame=stopwatch.total[name] / max(frames, 1) * 1e3,
        )
        for name in known
    )


def preload(
    frames: Sequence[Frame] | None, count: int, source: Callable[[], list[Frame]]
) -> list[Frame]:
    """Up to ``count`` frames in memory; SourceError when there is none."""
    loaded = list(frames) if frames is not None else source()
    if not loaded:
        raise SourceError("the clip has no frames to measure with")
    return loaded[:count]


def bench_pipeline(
    name: str,
    pipeline: Pipeline,
    frames: Sequence[Frame],
    *,
    warm_up: int = 10,
    drawing: DrawOptions | None = None,
) -> PipelineReport:
    """Runs the loop over frames in memory: detector, crops, network, tracking, drawing.

    ``own_ms`` is what hrtrack itself costs per frame: the whole loop's time less the two
    networks'. Decoding and encoding are left out here; `bench_clip` has them.
    """
    for frame in itertools.islice(itertools.cycle(frames), warm_up):
        pipeline.step(frame)
    watch = pipeline.stopwatch
    watch.clear()
    people = 0
    start = time.perf_counter()
    for frame in frames:
        poses = pipeline.step(frame)
        people += len(poses)
        if drawing is not None:
            with watch.stage("draw"):
                draw(frame.image, poses, pipeline.tracks.skeleton, drawing)
    seconds = time.perf_counter() - start
    networks = sum(watch.total.get(stage, 0.0) for stage in NETWORKS)
    count = len(frames)
    return PipelineReport(
        name=name,
        frames=count,
        people=people / count,
        fps=count / seconds,
        own_ms=(seconds - networks) / count * 1e3,
        stages=stage_times(watch, count),
    )


class TiledPeople:
    """Stands in for `People`: runs the detector, then repeats one recorded box N times."""

    def __init__(
        self,
        detector: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]],
        recorded: Sequence[NDArray[np.float32]],
        count: int,
        every: int,
    ) -> None:
        self._detector = detector
        self._recorded = recorded
        self._count = count
        self._every = every
        self._calls = 0

    def boxes(
        self, frame: Frame, tracks: Tracks
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
        """N copies of the recorded box, laid out in a row across the frame."""
        detected = self._calls % self._every == 0
        if detected:
            self._detector(frame.image)
        box = self._recorded[self._calls % len(self._recorded)]
        self._calls += 1
        room = max(frame.image.shape[1] - (box[2] - box[0]), 1.0)
        shifts = np.linspace(0, room, self._count, dtype=np.float32) - box[0]
        boxes = np.tile(box, (self._count, 1)).astype(np.float32)
        boxes[:, [0, 2]] += shifts[:, None]
        return boxes, np.ones(self._count, np.float32), detected


def record_box(poses: Sequence[Poses]) -> list[NDArray[np.float32]]:
    """The largest person's box in each frame that has one."""
    found = []
    for one in poses:
        if len(one):
            sizes = (one.boxes[:, 2] - one.boxes[:, 0]) * (one.boxes[:, 3] - one.boxes[:, 1])
            found.append(one.boxes[int(np.argmax(sizes))])
    if not found:
        raise SourceError("nobody was found in the clip, so there is no box to repeat")
    return found


def save_json(path: Path, machine: dict[str, object], reports: Sequence[PipelineReport]) -> None:
    """Writes the reports with the machine they were taken on."""
    content = {"machine": machine, "pipelines": [report.to_json() for report in reports]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
