"""What the tracker's options ask to be written, shown and drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..poses import Poses
from ..skeleton import Skeleton
from ..tracker.draw import DrawOptions, draw, draw_heatmaps
from ..tracker.frame import Frame
from ..tracker.loop import Picture, Pipeline
from ..tracker.replay import Replay
from ..tracker.sinks.base import Run, Sink
from ..tracker.source import LiveOptions, require_there
from ..tracker.source_camera import camera_number


@dataclass(frozen=True)
class TrackSettings:
    """The options of `hrtrack --source`, as click gives them."""

    source: str
    start: float | None
    end: float | None
    stride: int
    sequence: float | None
    decode: Any
    redraw: str | None
    output: str | None
    save: tuple[str, ...]
    overwrite: bool
    quiet: bool
    log_level: str
    model: str
    detector: str
    detect_every: Any
    max_people: int | None
    min_score: float
    flip: bool
    smooth: Any
    cuts: Any
    action: str | None
    backend: Any
    device: str | None
    precision: Any
    threads: int | None
    draw: str
    show: bool | None
    size: tuple[int, int] | None
    fps: float | None
    pixel_format: str | None
    reconnect: Any
    max_latency: float | None
    segment: str | None
    serve: str | None
    token: str | None
    jobs: int
    ray: str | None

    def live(self) -> LiveOptions:
        """How cameras and streams are opened."""
        return LiveOptions(
            size=self.size,
            fps=self.fps,
            pixel_format=self.pixel_format,
            reconnect=self.reconnect,
            max_latency=None if self.max_latency is None else self.max_latency / 1e3,
        )


def wants_window(settings: TrackSettings, sources: list[str]) -> bool:
    writes = bool(settings.output or settings.save or settings.serve)
    if settings.show is None:
        show = not writes and len(sources) == 1 and camera_number(sources[0]) is not None
    else:
        show = settings.show
    if not writes and not show:
        for name in sources[:1]:  # a missing source is told before a missing output
            require_there(name)
        raise UsageError(
            "nothing to show and nothing to write: add --output out.mp4, --save out.jsonl or --show"
        )
    return show


def others_of(
    settings: TrackSettings, layers: DrawOptions, made_by: str, *, show: bool
) -> list[Callable[[Run], Sink]]:
    """The outputs that are no files: the window and the viewer in the browser."""
    makers: list[Callable[[Run], Sink]] = []
    if show:
        from ..tracker.sinks.window import window

        makers.append(window(layers, made_by, Path.cwd(), settings.stride))
    if settings.serve is not None:
        from ..tracker.sinks.serve import viewer

        makers.append(viewer(settings.serve, made_by, _tell, settings.token))
    return makers


def _tell(address: str) -> None:
    click.echo(f"hrtrack: watch at {address}", err=True)


def painter(
    skeleton: Skeleton, layers: DrawOptions, poser: Pipeline | Replay
) -> Callable[[Frame, Poses], Picture]:
    """What draws a frame, later, onto the frame itself: nobody reads it after the sinks."""
    if isinstance(poser, Replay):
        return lambda frame, poses: lambda: draw(_canvas(frame), poses, skeleton, layers)
    estimate, stopwatch = poser.estimate, poser.stopwatch

    def paint_later(frame: Frame, poses: Poses) -> Picture:
        # By the time of drawing the estimator may be at the next frame.
        maps, to_image = estimate.heatmaps, estimate.affines

        def paint() -> NDArray[np.uint8]:
            with stopwatch.stage("draw"):
                image = _canvas(frame)
                if maps is not None and to_image is not None:
                    draw_heatmaps(image, maps, to_image, estimate.network.input_hw)
                return draw(image, poses, skeleton, layers)

        return paint

    return paint_later


def _canvas(frame: Frame) -> NDArray[np.uint8]:
    return frame.image if frame.image.flags.writeable else frame.image.copy()
