"""Many clips at once: `--jobs N` on this machine, `--ray` over a cluster."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from ..errors import HrtrackError, UsageError, one_line
from ..interrupt import Stopped, listening
from ..tracker.draw import DrawOptions
from ..tracker.many import Done, Work, run_many, run_on_ray
from ..tracker.sinks.segments import piece
from ..tracker.sinks.targets import Target
from ..tracker.stopwatch import Stopwatch
from .outputs import TrackSettings
from .places import targets_of
from .track import Once, counted, make_tracker, run_source, tell_fault

Targets = Mapping[str, Sequence[Target]]
RUNNING_ONLY = (
    "source", "output", "save", "jobs", "ray", "overwrite", "quiet", "log_level", "threads", "show",
    "size", "fps", "pixel_format", "reconnect", "max_latency", "serve", "token",
)  # fmt: skip
"""Options that do not shape what is written of a clip; where it goes is compared by itself."""


def track_many(settings: TrackSettings, sources: list[str], targets: Targets) -> int:
    """Runs every clip that is not done yet; returns the exit code.

    The summary that lets a broken-off job go on stands in the folder of the outputs.
    """
    if settings.output is None:
        raise UsageError("--jobs and --ray need --output FOLDER: their summary stands there")
    if settings.show or settings.serve or settings.redraw:
        raise UsageError("--jobs and --ray cannot --show, --serve or --redraw")
    folder = Path(settings.output)
    share = max(1, (os.cpu_count() or 1) // settings.jobs)
    quiet = replace(
        settings, quiet=True, overwrite=True, show=False, threads=settings.threads or share
    )
    shaping = {k: v for k, v in asdict(settings).items() if k not in RUNNING_ONLY}
    work = Work(
        {name: [_first(target, settings) for target in targets[name]] for name in sources},
        hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()[:16],
        settings.overwrite,
    )
    run_one = functools.partial(_run_clip, quiet)
    done: list[Done] = []

    def told(one: Done) -> None:
        done.append(one)
        _tell(settings.quiet, one)

    stopped: Stopped | None = None
    try:
        if settings.ray is not None:
            done = run_on_ray(work, run_one, address=settings.ray, folder=folder, on_done=told)
        else:
            done = run_many(work, run_one, jobs=settings.jobs, folder=folder, on_done=told)
    except Stopped as stop:
        stopped = stop
    failed = [one for one in done if one.error is not None]
    if not settings.quiet:
        frames = counted(sum(one.frames for one in done), "frame")
        ended = ""
        if stopped is not None:
            ended = f", stopped after {len(done)} of them; the same command goes on"
        click.echo(
            f"hrtrack: {len(sources)} sources, {frames}, {len(failed)} with errors{ended}",
            err=True,
        )
    if stopped is not None:
        return stopped.exit_code
    return min((one.code for one in failed), default=0)


def _first(target: Target, settings: TrackSettings) -> Path:
    """The file by which one sees that a target was written."""
    cut = settings.segment is not None and target.format == "video"
    return piece(target.path, 0) if cut else Path(target.path)


def _tell(quiet: bool, done: Done) -> None:
    if done.error is not None:
        tell_fault(done.source, done.error)
    elif not quiet:
        speed = done.frames / max(done.seconds, 1e-6)
        click.echo(
            f"hrtrack: {done.source}: {counted(done.frames, 'frame')}, "
            f"{counted(done.people, 'identity', 'identities')}, {speed:.1f} FPS",
            err=True,
        )


@functools.cache
def _loaded(settings: TrackSettings) -> tuple[Once, Stopwatch]:
    """The networks of this process: loaded by its first clip, kept for the next."""
    stopwatch = Stopwatch()
    return Once(lambda: make_tracker(settings, stopwatch)), stopwatch


def _run_clip(settings: TrackSettings, name: str) -> Done:
    loaded, stopwatch = _loaded(settings)
    try:
        layers = DrawOptions.parse(settings.draw, min_score=0.3)
        targets = targets_of(settings, name, folders=True, many=True)
        # The parent signals and so does whoever signals the whole group: one stop is enough.
        with listening(again=signal.SIG_IGN):
            outcome = run_source(settings, name, targets, loaded, layers, False, stopwatch)
    except HrtrackError as error:
        return Done(name, error=one_line(error), code=error.exit_code)
    except Stopped as stop:
        return Done(name, error=str(stop), code=stop.exit_code)
    if outcome.stopped is not None:
        text = str(outcome.stopped)
        return Done(name, outcome.frames, error=text, code=outcome.stopped.exit_code)
    error_text = None if outcome.error is None else one_line(outcome.error)
    return Done(
        name,
        frames=outcome.frames,
        people=outcome.ids,
        seconds=outcome.frames / max(outcome.fps, 1e-6),
        error=error_text,
        code=0 if outcome.error is None else outcome.error.exit_code,
    )
