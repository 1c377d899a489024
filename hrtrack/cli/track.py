"""Runs the tracker over one or many sources: what `hrtrack --source X` does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from ..errors import (
    BackendError,
    HrtrackError,
    SourceError,
    TruncatedSourceError,
    UsageError,
    one_line,
)
from ..interrupt import Stopped
from ..models import zoo
from ..tracker.api import Tracker
from ..tracker.draw import DrawOptions
from ..tracker.infer import CHECKPOINTS
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
    """How one source went: ``people`` is their mean number a frame, ``ids`` counts identities."""

    name: str
    frames: int = 0
    ids: int = 0
    people: float = 0.0
    fps: float = 0.0
    error: HrtrackError | None = None
    stopped: Stopped | None = None


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
    require_packages(settings, (target.format for every in targets.values() for target in every))
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
                outcome = Outcome(name, error=error)
            except Stopped as stop:
                outcome = Outcome(name, stopped=stop)
            outcomes.append(outcome)
            if outcome.error is not None:
                tell_fault(name, one_line(outcome.error))
            if outcome.stopped is not None:
                break
    if not settings.quiet:
        _summary(outcomes, len(sources))
    if outcomes[-1].stopped is not None:
        return outcomes[-1].stopped.exit_code
    codes = [outcome.error.exit_code for outcome in outcomes if outcome.error is not None]
    # A clip that failed outright outweighs one that was merely cut short.
    return min(codes, default=0)


def require_packages(settings: TrackSettings, formats: Iterable[str]) -> None:
    """BackendError, before anything is opened, when an option needs a package that is missing."""
    needed = [("ray", "Ray", "ray", "--ray")] if settings.ray is not None else []
    if settings.serve is not None:
        needed.append(("aiohttp", "aiohttp", "serve", "--serve"))
    if "parquet" in formats:
        needed.append(("pyarrow", "pyarrow", "parquet", "Parquet"))
    known = {entry.name: entry.url or "" for entry in zoo.entries()}
    model = known.get(settings.model, settings.model)
    torch = ("torch", "PyTorch", "train")
    if settings.redraw is not None:
        pass  # no network runs
    elif settings.backend in ("tensorrt", "tensorrt-rtx"):
        needed.append((*torch[:2], settings.backend, f"--backend {settings.backend}"))
    elif settings.backend == "torch" or model.endswith(CHECKPOINTS):
        what = "a checkpoint" if model.endswith(CHECKPOINTS) else "--backend torch"
        needed.append((*torch, what))
    elif settings.device is not None and settings.device.lower().startswith("cuda"):
        needed.append((*torch, f"--device {settings.device}"))
    for module, package, extra, what in needed:
        if find_spec(module) is None:
            raise BackendError(f"{what} needs {package}: pip install 'hrtrack[{extra}]'")


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
    """Runs one source from its first frame to its last, or until somebody stops the run.

    Raises:
        SourceError: it cannot be read, or gave no frame.
        Stopped: the run was stopped while the source or the networks were opened.
    """
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
    stopped: Stopped | None = None
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
        progress = Meter(
            Path(name).name or name,
            frames.declared_frames,
            quiet=settings.quiet,
            live=frames.is_live,
        )
        sinks = open_sinks(
            targets,
            source=frames,
            skeleton=skeleton,
            model=made_by,
            overwrite=settings.overwrite,
            stride=settings.stride,
            stopwatch=stopwatch,
            segment=parse_limit(settings.segment) if settings.segment else None,
            others=others_of(settings, layers, made_by["model"], show=show),
        )
        try:
            with sinks, progress:
                try:
                    if not run(frames, poser, sinks, progress, picture):
                        raise SourceError(_without_frames(settings, name))
                except TruncatedSourceError as cut:
                    # What there was has been written; the sinks close as after a whole clip.
                    error = cut
                finally:
                    poser.close()
        except Stopped as stop:
            stopped = stop
    return Outcome(
        name,
        frames=progress.speed.frames,
        ids=len(progress.ids),
        people=progress.people / max(progress.speed.frames, 1),
        fps=progress.speed.mean,
        error=error,
        stopped=stopped,
    )


def _without_frames(settings: TrackSettings, name: str) -> str:
    asked = [f"--start {settings.start:g}"] if settings.start is not None else []
    asked += [f"--end {settings.end:g}"] if settings.end is not None else []
    within = f" for {' '.join(asked)}" if asked else ""
    return f"{name} gave no frame{within}"


def _summary(outcomes: list[Outcome], sources: int) -> None:
    for outcome in outcomes:
        state = "ok" if outcome.error is None else "cut short" if outcome.frames else "failed"
        state = "stopped" if outcome.stopped is not None else state
        click.echo(
            f"hrtrack: {outcome.name}: {state}, {counted(outcome.frames, 'frame')}, "
            f"{counted(outcome.ids, 'identity', 'identities')}, "
            f"{outcome.people:.1f} people a frame, {outcome.fps:.1f} FPS",
            err=True,
        )
    failed = sum(outcome.error is not None for outcome in outcomes)
    left = f", {sources - len(outcomes)} not begun" if sources > len(outcomes) else ""
    if sources > 1:
        click.echo(f"hrtrack: {sources} sources, {failed} with errors{left}", err=True)


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {one if number == 1 else many or one + 's'}"
