"""The whole loop at 1080p, from frames in memory to tracked, smoothed people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrtrack.skeleton import COCO17
from hrtrack.tracker.inference.backends.torch import TorchNetwork
from hrtrack.tracker.inference.detectors.torch import TorchDetector
from hrtrack.tracker.inference.estimate_gpu import GpuEstimator
from hrtrack.tracker.loop import Pipeline, Proposer
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.smooth import Smoother
from hrtrack.tracker.tracking.state import Proposals
from hrtrack.tracker.video.frame import Frame

from .scenes import scene
from .session import Session, row

DETECT_EVERY = 5
LAPS = 16
FPS = 30


class GivenProposer(Proposer):
    """Runs the detector in every fifth frame for its time, and gives boxes that are known."""

    def __init__(self, looks: TorchDetector, boxes: list[NDArray[np.float64]]) -> None:
        self._looks, self._boxes = looks, boxes

    def propose(self, frame: Frame, spares: bool = False) -> Proposals:
        """The boxes of the frame."""
        due = frame.index % DETECT_EVERY == 0
        if due:
            self._looks(frame.image)
        boxes = self._boxes[frame.index % LAPS]
        return replace(Proposals.from_detections(boxes, np.full(len(boxes), 0.9)), detected=due)


def pipeline(session: Session) -> None:
    """Upload, detector, crops, network, tracks, with 1, 5 and 20 people.

    Stages are host times: what the GPU still has to do is awaited in "infer" (and "detect").
    """
    for name in session.models:
        with session.attempt("pipeline_1080p", name):
            network = session.back_end(name)
            for count in session.sizes((1, 5, 20), (2,)):
                found = _pipeline(session, network, count)
                session.put("pipeline_1080p", f"{name} {count} people", found)
            network.close()
    looks, (frame, _) = session.detector(), scene(5, 0)
    there = looks.upload(frame)
    found = row(session.timed(lambda: looks.on_device(there), 1.0), unit="frames")
    session.put("pipeline_1080p", "person_fast alone, frame on the device", found)


def _pipeline(session: Session, network: TorchNetwork, count: int) -> dict[str, Any]:
    scenes = [scene(count, lap) for lap in range(LAPS)]
    looks, watch = session.detector(), Stopwatch()
    loop = Pipeline(
        proposer=GivenProposer(looks, [boxes for _, boxes in scenes]),
        estimate=GpuEstimator(network, 17, watch, upload=looks.upload),
        tracks=Tracks(COCO17),
        smoother=Smoother(COCO17),
        stopwatch=watch,
    )
    index = people = 0

    def step() -> None:
        nonlocal index, people
        people += len(loop.step(Frame(index, index / FPS, scenes[index % LAPS][0])))
        index += 1

    for _ in range(LAPS):
        step()
    watch.clear()
    before = index, people
    times = session.timed(step, 3.0)
    looks.close()
    fps = len(times) / sum(times)
    found: dict[str, Any] = {
        "fps": round(fps, 1),
        "streams_of_30_fps": int(fps / FPS),
        "people": round((people - before[1]) / (index - before[0]), 1),
    }
    for stage in watch.counts:
        quantiles = [round(watch.percentile(stage, q), 3) for q in (50, 95, 99)]
        found[f"{stage}_ms_p50_p95_p99"] = quantiles
    return found
