"""Runs the tracker over one or many sources: what `hrtrack --source X` does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import HrtrackError, TruncatedSourceError, UsageError
from ..poses import Poses
from ..skeleton import Skeleton
from ..tracker.api import Tracker
from ..tracker.draw import DrawOptions, draw, draw_heatmaps
from ..tracker.frame import Frame
from ..tracker.loop import Pipeline, run
from ..tracker.progress import Meter
from ..tracker.replay import Replay
from ..tracker.sinks.base import Run, Sink
from ..tracker.sinks.group import open_sinks
from ..tracker.sinks.targets import SUFFIXES, Target, parse_save
from ..tracker.source import LiveOptions, expand_sources, open_source
from ..tracker.source_camera import camera_number
from ..tracker.stopwatch import Stopwatch

log = logging.getLogger("hrtrack")


@dataclass(frozen=True)
class TrackSettings:
    """The options of `hrtrack --source`, as click gives them."""

    source: str
    start: float | None
    end: float | None
    stride: int
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
    smooth: Any
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

    def live(self) -> LiveOptions:
        """How cameras and streams are opened."""
        return LiveOptions(
            size=self.size,
            fps=self.fps,
            pixel_format=self.pixel_format,
            reconnect=self.reconnect,
            max_latency=None if self.max_latency is None else self.max_latency / 1e3,
        )


@dataclass(frozen=True)
class Outcome:
    """How one source went."""

    name: str
    frames: int
    ids: int
    fps: float
    error: HrtrackError | None = None


def track(settings: TrackSettings) -> int:
    """Runs every source; returns the exit code."""
    logging.basicConfig(level=settings.log_level.upper(), format="hrtrack: %(message)s")
    layers = DrawOptions.parse(settings.draw, min_score=0.3)
    sources = expand_sources(settings.source)
    show = _wants_window(settings, sources)
    targets = {name: _targets(settings, name, many=len(sources) > 1) for name in sources}
    if settings.redraw is not None and len(sources) > 1:
        raise UsageError("--redraw takes one source: its results belong to one clip")
    with ExitStack() as stack:
        stopwatch = Stopwatch()
        loaded = _Once(lambda: stack.enter_context(_tracker(settings, stopwatch)))
        outcomes = []
        for name in sources:
            try:
                outcome = _one(settings, name, targets[name], loaded, layers, show, stopwatch)
            except HrtrackError as error:
                if len(sources) == 1:
                    raise
                outcome = Outcome(name, 0, 0, 0.0, error)
            outcomes.append(outcome)
            if outcome.error is not None:
                click.echo(f"hrtrack: {name}: {' '.join(str(outcome.error).split())}", err=True)
    if not settings.quiet:
        _summary(outcomes)
    codes = [outcome.error.exit_code for outcome in outcomes if outcome.error is not None]
    # A clip that failed outright outweighs one that was merely cut short.
    return min(codes, default=0)


def _wants_window(settings: TrackSettings, sources: list[str]) -> bool:
    writes = settings.output is not None or bool(settings.save)
    if settings.show is None:
        show = not writes and len(sources) == 1 and camera_number(sources[0]) is not None
    else:
        show = settings.show
    if not writes and not show:
        raise UsageError(
            "nothing to show and nothing to write: add --output out.mp4, --save out.jsonl or --show"
        )
    return show


def _targets(settings: TrackSettings, name: str, *, many: bool) -> list[Target]:
    """The files that one source is written to."""
    stem = Path(name).stem or "source"
    targets = []
    if settings.output is not None:
        path = Path(settings.output)
        if many or path.is_dir():
            image = Path(name).suffix.lower() in SUFFIXES["image"]
            path = path / f"{stem}_pose{'.png' if image else '.mp4'}"
        target = parse_save(str(path))
        if target.format not in ("video", "image"):
            raise UsageError(
                f"--output {path}: an annotated picture cannot be written as {target.format}; "
                f"name a {', '.join(SUFFIXES['video'])} file, or use --save for results"
            )
        targets.append(target)
    for text in settings.save:
        target = parse_save(text)
        if many:
            if target.to_stdout or Path(target.path).suffix:
                raise UsageError(
                    f"--save {text}: with several sources name a format and a folder, "
                    f"for example {target.format}:results"
                )
            suffix = next(iter(SUFFIXES[target.format]), "")
            target = Target(target.format, str(Path(target.path) / f"{stem}{suffix}"))
        targets.append(target)
    return targets


class _Once:
    """Loads the networks when the first source has opened: a wrong path fails at once."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._made: Tracker | None = None

    def __call__(self) -> Tracker:
        if self._made is None:
            self._made = self._make()
        return self._made


def _tracker(settings: TrackSettings, stopwatch: Stopwatch) -> Tracker:
    tracker = Tracker(
        settings.model,
        settings.detector,
        detect_every=settings.detect_every,
        max_people=settings.max_people,
        min_score=settings.min_score,
        backend=settings.backend,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        smooth=settings.smooth,
        action=settings.action,
        stopwatch=stopwatch,
    )
    if not settings.quiet:
        click.echo(f"hrtrack: pose {tracker.network.describe()}", err=True)
        click.echo(f"hrtrack: people {tracker.detector.name} on OpenVINO CPU", err=True)
    return tracker


def _one(
    settings: TrackSettings,
    name: str,
    targets: list[Target],
    loaded: _Once,
    layers: DrawOptions,
    show: bool,
    stopwatch: Stopwatch,
) -> Outcome:
    """Runs one source from its first frame to its last."""
    source = open_source(
        name,
        start=settings.start,
        end=settings.end,
        stride=settings.stride,
        live=settings.live(),
        stopwatch=stopwatch,
    )
    error: HrtrackError | None = None
    with source as frames:
        poser: Pipeline | Replay
        if settings.redraw is None:
            tracker = loaded()
            wants_heat = "heatmaps" in layers.layers
            poser = tracker.pipeline(live=frames.is_live, keep_heatmaps=wants_heat)
            skeleton = tracker.skeleton
            made_by = {"model": str(settings.model), "detector": str(settings.detector)}
        else:
            poser = Replay(settings.redraw)
            skeleton, made_by = poser.skeleton, {"model": f"results of {settings.redraw}"}
        picture = _painter(skeleton, layers, poser)
        with (
            open_sinks(
                targets,
                source=frames,
                skeleton=skeleton,
                model=made_by,
                overwrite=settings.overwrite,
                stride=settings.stride,
                stopwatch=stopwatch,
                others=_others(settings, layers, made_by["model"], show=show),
            ) as sinks,
            Meter(
                Path(name).name or name,
                frames.declared_frames,
                quiet=settings.quiet,
                live=frames.is_live,
            ) as progress,
        ):
            try:
                run(frames, poser, sinks, progress, picture)
            except TruncatedSourceError as cut:
                # What there was has been written; the sinks close as after a whole clip.
                error = cut
            finally:
                poser.close()
    return Outcome(name, progress.speed.frames, len(progress.ids), progress.speed.mean, error)


def _others(
    settings: TrackSettings, layers: DrawOptions, made_by: str, *, show: bool
) -> list[Callable[[Run], Sink]]:
    """The outputs that are no files."""
    if not show:
        return []
    from ..tracker.sinks.window import Window

    return [lambda run: Window(run, layers, made_by, Path.cwd(), settings.stride)]


def _painter(
    skeleton: Skeleton, layers: DrawOptions, poser: Pipeline | Replay
) -> Callable[[Frame, Poses], NDArray[np.uint8]]:
    """Draws onto the frame itself: nobody reads it after the sinks."""

    def paint(frame: Frame, poses: Poses) -> NDArray[np.uint8]:
        image = frame.image if frame.image.flags.writeable else frame.image.copy()
        if isinstance(poser, Pipeline):
            with poser.stopwatch.stage("draw"):
                maps, to_image = poser.estimate.heatmaps, poser.estimate.affines
                if maps is not None and to_image is not None:
                    draw_heatmaps(image, maps, to_image, poser.estimate.network.input_hw)
                return draw(image, poses, skeleton, layers)
        return draw(image, poses, skeleton, layers)

    return paint


def _summary(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        state = "ok" if outcome.error is None else "cut short" if outcome.frames else "failed"
        click.echo(
            f"hrtrack: {outcome.name}: {state}, {outcome.frames} frames, "
            f"{outcome.ids} people, {outcome.fps:.1f} FPS",
            err=True,
        )
    failed = sum(outcome.error is not None for outcome in outcomes)
    if len(outcomes) > 1:
        click.echo(f"hrtrack: {len(outcomes)} sources, {failed} with errors", err=True)
