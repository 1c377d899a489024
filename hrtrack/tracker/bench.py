"""The same loop under a stopwatch: FPS, time per stage, and what hrtrack itself adds."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..poses import Poses
from ..skeleton import Skeleton
from ..types import Detect
from .loop import Pipeline, Proposer, Upcoming
from .outputs.base import Target
from .outputs.open import Sinks, open_sinks
from .outputs.pictures.draw import DrawOptions, draw
from .stopwatch import Stopwatch
from .tracking.state import Proposals
from .video.frame import Frame
from .video.open import Source, open_source

if TYPE_CHECKING:
    from .outputs.base import Picture

STAGES = ("decode", "look ahead", "detect", "crop", "infer", "associate", "act", "draw", "encode")
NETWORKS = ("detect", "infer")
STREAM_FPS = 30


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
    """One run of the loop over preloaded frames.

    ``cpu_ms`` is the processor time of all threads for a frame, which other work on the
    machine changes less than it does ``fps``.
    """

    name: str
    frames: int
    people: float
    fps: float
    own_ms: float
    cpu_ms: float
    stages: tuple[StageTime, ...]

    @property
    def streams(self) -> int:
        """How many streams of `STREAM_FPS` the machine keeps up with, one frame after another."""
        return int(self.fps / STREAM_FPS)

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return {**asdict(self), "streams_of_30_fps": self.streams}


def stage_times(stopwatch: Stopwatch, frames: int) -> tuple[StageTime, ...]:
    """The stages that ran, in the order a frame meets them."""
    known = [name for name in STAGES if name in stopwatch.counts]
    return tuple(
        StageTime(
            name,
            p50=stopwatch.percentile(name, 50),
            p95=stopwatch.percentile(name, 95),
            p99=stopwatch.percentile(name, 99),
            per_frame=stopwatch.total[name] / max(frames, 1) * 1e3,
        )
        for name in known
    )


def preload(clip: str, count: int) -> list[Frame]:
    """Up to ``count`` frames of a clip, in memory; SourceError when there is none."""
    with open_source(clip) as source:
        frames = list(itertools.islice(source, count))
    if not frames:
        raise SourceError(f"{clip} has no frames to measure with")
    return frames


def bench_pipeline(
    name: str,
    pipeline: Pipeline,
    skeleton: Skeleton,
    frames: Sequence[Frame],
    *,
    warm_up: int = 10,
    drawing: DrawOptions | None = None,
) -> PipelineReport:
    """Runs the loop over frames in memory: detector, crops, network, tracking, drawing.

    ``own_ms`` is what hrtrack itself costs per frame: the whole loop's time less the two
    networks'. Decoding and encoding are left out here; `bench_clip` has them. As in a run that
    writes a video, drawing goes on beside the next frame, on a thread of its own.
    """
    for lap, frame in enumerate(itertools.islice(itertools.cycle(frames), warm_up)):
        # Long before the clip, so that nobody of the warm-up is remembered in it.
        pipeline.step(replace(frame, time=lap / 30 - 1e4))
    watch = pipeline.stopwatch
    watch.clear()
    people = 0
    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(1, "draw") as drawer:
        drawn = []
        for frame in frames:
            poses = pipeline.step(frame)
            people += len(poses)
            if drawing is not None:
                picture = _picture_of(frame, poses, skeleton, drawing, watch)
                drawn.append(drawer.submit(picture))
        for one in drawn:
            one.result()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    networks = sum(watch.total.get(stage, 0.0) for stage in NETWORKS)
    count = len(frames)
    return PipelineReport(
        name=name,
        frames=count,
        people=people / count,
        fps=count / seconds,
        own_ms=(seconds - networks) / count * 1e3,
        cpu_ms=cpu / count * 1e3,
        stages=stage_times(watch, count),
    )


def _picture_of(
    frame: Frame, poses: Poses, skeleton: Skeleton, drawing: DrawOptions, watch: Stopwatch
) -> Picture:
    """What draws a frame when it is called."""

    def picture() -> NDArray[np.uint8]:
        with watch.stage("draw"):
            return draw(frame.image, poses, skeleton, drawing)

    return picture


@dataclass(frozen=True)
class ClipReport:
    """A clip from file to annotated file, beside its decoding and encoding alone."""

    fps: float
    decode_alone_ms: float
    encode_alone_ms: float
    stages: tuple[StageTime, ...]


def bench_clip(
    clip: str,
    begin: Callable[[Upcoming], Pipeline],
    skeleton: Skeleton,
    drawing: DrawOptions,
    watch: Stopwatch,
    count: int,
) -> ClipReport:
    """Annotates the first ``count`` frames of a clip into a file that is thrown away.

    ``begin`` makes the pipeline, which keeps ``watch`` and is told of the frame that comes next as
    in any run on a file: "look ahead" is what the detector takes beside the loop, "detect" what the
    loop waits for.
    """
    start = time.perf_counter()
    frames = preload(clip, count)
    decode_ms = (time.perf_counter() - start) / len(frames) * 1e3
    with tempfile.TemporaryDirectory() as folder:
        encode_ms = _encode_alone(clip, frames, skeleton, Path(folder))
        watch.clear()
        start = time.perf_counter()
        with (
            open_source(clip, stopwatch=watch) as source,
            _video(source, skeleton, Path(folder) / "loop.mp4", watch) as sinks,
            closing(begin(source.upcoming)) as pipeline,
        ):
            for frame in itertools.islice(source, count):
                poses = pipeline.step(frame)
                sinks.write(frame, poses, _picture_of(frame, poses, skeleton, drawing, watch))
        seconds = time.perf_counter() - start
    total = len(frames)
    return ClipReport(total / seconds, decode_ms, encode_ms, stage_times(watch, total))


def chrome_trace(stopwatch: Stopwatch) -> dict[str, object]:
    """What a traced stopwatch saw, in Chrome's Trace Event Format (`chrome://tracing`, Perfetto).

    One row for each thread, one complete event (``"ph": "X"``) each time a stage ran; ``ts`` and
    ``dur`` are microseconds from the first stage's start.
    """
    spans = sorted(stopwatch.spans, key=lambda span: span.start)
    process = os.getpid()
    names = {span.thread: span.thread_name for span in spans}
    rows: list[dict[str, object]] = [
        {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}
        for thread, name in names.items()
    ]
    rows += [
        {
            "ph": "X", "name": span.stage, "cat": "stage", "pid": process, "tid": span.thread,
            "ts": round((span.start - spans[0].start) * 1e6, 1),
            "dur": round(span.seconds * 1e6, 1),
        }
        for span in spans
    ]  # fmt: skip
    return {"traceEvents": rows, "displayTimeUnit": "ms"}


def _encode_alone(clip: str, frames: list[Frame], skeleton: Skeleton, folder: Path) -> float:
    start = time.perf_counter()
    with (
        open_source(clip) as source,
        _video(source, skeleton, folder / "alone.mp4", Stopwatch()) as sinks,
    ):
        for frame in frames:
            nobody = Poses.empty(frame.index, frame.time, len(skeleton))
            sinks.write(frame, nobody, lambda image=frame.image: image)  # type: ignore[misc]
    return (time.perf_counter() - start) / len(frames) * 1e3


def _video(source: Source, skeleton: Skeleton, path: Path, watch: Stopwatch) -> Sinks:
    target = Target("video", str(path))
    return open_sinks([target], source=source, skeleton=skeleton, stopwatch=watch)


class TiledProposer(Proposer):
    """Stands in for `BoxProposer`: runs the detector, and gives one recorded box N times."""

    def __init__(
        self,
        detector: Detect,
        recorded: Sequence[NDArray[np.float32]],
        count: int,
        every: int,
    ) -> None:
        self._detector = detector
        self._recorded = recorded
        self._count = count
        self._every = every
        self._calls = 0

    def propose(self, frame: Frame, spares: bool = False) -> Proposals:
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
        return replace(Proposals.from_detections(boxes, np.ones(self._count)), detected=detected)


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
