"""Runs the tracker over one or many sources: what `hrtrack --source X` does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from ..errors import HrtrackError, TruncatedSourceError, UsageError, one_line
from ..tracker.api import Tracker
from ..tracker.draw import DrawOptions
from ..tracker.loop import Pipeline, run
from ..tracker.progress import Meter
from ..tracker.replay import Replay
from ..tracker.sinks.group import open_sinks
from ..tracker.sinks.segments import parse_limit
from ..tracker.sinks.targets import Target
from ..tracker.source import expand_sources, open_source
from ..tracker.stopwatch import Stopwatch
from .export import build_engine
from .outputs import (
    TrackSettings,
    others_of,
    painter,
    wants_window,
)
from .places import all_targets

log = logging.getLogger("hrtrack")


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
    one = settings.sequence is not None
    sources = [settings.source] if one else expand_sources(settings.source)
    show = wants_window(settings, sources)
    targets = all_targets(settings, sources)
    sources = list(targets)
    if "heatmaps" in layers.layers and settings.redraw is not None:
        raise UsageError("--redraw has no heatmaps to draw: saved results hold keypoints only")
    if settings.token is not None and settings.serve is None:
        raise UsageError("--token is for --serve")
    if settings.jobs > 1 or settings.ray is not None:
        from .jobs import track_many

        return track_many(settings, sources, targets)
    if settings.redraw is not None and len(sources) > 1:
        raise UsageError("--redraw takes one source: its results belong to one clip")
    with ExitStack() as stack:
        stopwatch = Stopwatch()
        loaded = Once(lambda: stack.enter_context(make_tracker(settings, stopwatch)))
        outcomes = []
        for name in sources:
            try:
                outcome = run_source(settings, name, targets[name], loaded, layers, show, stopwatch)
            except HrtrackError as error:
                if len(sources) == 1:
                    raise
                outcome = Outcome(name, 0, 0, 0.0, error)
            outcomes.append(outcome)
            if outcome.error is not None:
                tell_fault(name, one_line(outcome.error))
    if not settings.quiet:
        _summary(outcomes)
    codes = [outcome.error.exit_code for outcome in outcomes if outcome.error is not None]
    # A clip that failed outright outweighs one that was merely cut short.
    return min(codes, default=0)


def tell_fault(name: str, said: str) -> None:
    """What went wrong with a source, with its name unless that is in it already."""
    click.echo(f"hrtrack: {said if name in said else f'{name}: {said}'}", err=True)


class Once:
    """Loads the networks when the first source has opened: a wrong path fails at once."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._made: Tracker | None = None

    def __call__(self) -> Tracker:
        if self._made is None:
            self._made = self._make()
        return self._made


def make_tracker(settings: TrackSettings, stopwatch: Stopwatch) -> Tracker:
    """Loads the networks that the options ask for."""
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
        flip=settings.flip,
        smooth=settings.smooth,
        cuts=settings.cuts,
        action=settings.action,
        stopwatch=stopwatch,
        build_engine=build_engine,
    )
    if not settings.quiet:
        click.echo(f"hrtrack: pose {tracker.network.describe()}", err=True)
        click.echo(f"hrtrack: people {tracker.detector.describe()}", err=True)
    return tracker


def run_source(
    settings: TrackSettings,
    name: str,
    targets: list[Target],
    loaded: Once,
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
        decode=settings.decode,
        sequence=settings.sequence,
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
        picture = painter(skeleton, layers, poser)
        with (
            open_sinks(
                targets,
                source=frames,
                skeleton=skeleton,
                model=made_by,
                overwrite=settings.overwrite,
                stride=settings.stride,
                stopwatch=stopwatch,
                segment=parse_limit(settings.segment) if settings.segment else None,
                others=others_of(settings, layers, made_by["model"], show=show),
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
