"""`hrtrack --source X`: runs the tracker over one source, or over many with `--jobs` and
`--ray`."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import (
    BackendError,
    HrtrackError,
    SinkError,
    SourceError,
    TruncatedSourceError,
    UsageError,
    one_line,
)
from ..interrupt import Stopped, listening
from ..models import zoo
from ..skeleton import open_skeleton
from ..tracker.api import Tracker
from ..tracker.inference.backends.base import CHECKPOINTS
from ..tracker.loop import Pipeline, run
from ..tracker.many import SUMMARY, Done, Work, read_summary, run_many, run_on_ray
from ..tracker.outputs.base import FORMATS, SUFFIXES, Run, Sink, Target, parse_save, prepare
from ..tracker.outputs.open import open_sinks
from ..tracker.outputs.pictures.draw import DrawOptions
from ..tracker.outputs.pictures.encoders import AUTO, H264, NO_H264, pick
from ..tracker.outputs.pictures.segments import parse_limit, piece
from ..tracker.outputs.results.replay import Replay
from ..tracker.outputs.results.several import begin, joining, part_of, sources_of, take_apart
from ..tracker.progress import Meter
from ..tracker.side_by_side import Halt
from ..tracker.stopwatch import Stopwatch
from ..tracker.video.open import expand_sources, open_source, stem_of
from .ahead import Ahead
from .export import build_engine, convert
from .outputs import (
    NAME,
    TrackSettings,
    all_targets,
    picture_maker,
    several_tables,
    tables_of,
    targets_of,
    viewers_of,
    wants_window,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..tracker.outputs.viewers.wall import Tile

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


def track(settings: TrackSettings, ahead: Ahead | None = None) -> int:
    """Runs every source; returns the exit code. ``ahead`` loads the pose network already."""
    logging.basicConfig(level=settings.log_level.upper(), format="hrtrack: %(message)s")
    layers = DrawOptions.parse(settings.draw, min_score=0.3)
    one = settings.sequence is not None
    sources = [settings.source] if one else expand_sources(settings.source)
    show = wants_window(settings, sources)
    targets = all_targets(settings, sources)
    sources = list(targets)
    if "heatmaps" in layers.layers and settings.redraw is not None:
        raise UsageError("saved results hold no heatmaps; leave the layer heatmaps out")
    if settings.token is not None and settings.serve is None:
        raise UsageError("--token is for --serve")
    require_packages(settings, (target.format for every in targets.values() for target in every))
    if settings.jobs > 1 or settings.ray is not None:
        return track_many(settings, sources, targets)
    if settings.redraw is not None and len(sources) > 1:
        raise UsageError("hrtrack draw takes one source: saved results belong to one clip")
    with ExitStack() as stack:
        if any(target.part_of for every in targets.values() for target in every):
            stack.enter_context(several_tables(settings))
        stopwatch = Stopwatch()
        loaded = Once(lambda: stack.enter_context(make_tracker(settings, stopwatch, ahead)))
        outcomes = []
        for name in sources:
            run_one = functools.partial(
                run_source, settings, name, targets[name], loaded, layers, show, stopwatch
            )
            outcome = attempt(name, run_one, alone=len(sources) == 1)
            outcomes.append(outcome)
            if outcome.error is not None:
                tell_fault(name, one_line(outcome.error))
            if outcome.stopped is not None:
                break
    return conclude(outcomes, len(sources), quiet=settings.quiet)


def conclude(outcomes: list[Outcome], sources: int, *, quiet: bool) -> int:
    """Prints the summary of a run; returns its exit code."""
    if not quiet:
        summary(outcomes, sources)
    stopped = [outcome.stopped for outcome in outcomes if outcome.stopped is not None]
    if stopped:
        return stopped[0].exit_code
    codes = [outcome.error.exit_code for outcome in outcomes if outcome.error is not None]
    # A clip that failed outright outweighs one that was merely cut short.
    return min(codes, default=0)


def require_packages(settings: TrackSettings, formats: Iterable[str]) -> None:
    """BackendError, before anything is opened, when an option needs a package that is missing."""
    needed = [("ray", "Ray", "ray", "--ray")] if settings.ray is not None else []
    if settings.serve is not None:
        needed.append(("aiohttp", "aiohttp", "serve", "--serve"))
    for form in set(formats):
        if (missing := FORMATS[form].package) is not None:
            module, extra = missing
            needed.append((module, module, extra, form.capitalize()))
    known = {entry.name: entry.url or "" for entry in zoo.entries()}
    asked = settings.tracker
    name = str(asked.model)
    model = known.get(name, name)
    if model.endswith(CHECKPOINTS) and asked.backend in ("auto", "openvino"):
        here = zoo.local_path(name)
        joints = None if asked.skeleton is None else open_skeleton(asked.skeleton)
        if here is not None and zoo.converted_path(here, joints).is_file():
            model = ""  # what was converted before needs no PyTorch
    torch = ("torch", "PyTorch", "train")
    if settings.redraw is not None:
        pass  # no network runs
    elif asked.backend in ("tensorrt", "tensorrt-rtx"):
        needed.append((*torch[:2], asked.backend, f"--backend {asked.backend}"))
    elif asked.backend == "torch" or model.endswith(CHECKPOINTS):
        what = "a checkpoint" if model.endswith(CHECKPOINTS) else "--backend torch"
        needed.append((*torch, what))
    elif asked.device is not None and asked.device.lower().startswith("cuda"):
        needed.append((*torch, f"--device {asked.device}"))
    for module, package, extra, what in needed:
        if find_spec(module) is None:
            raise BackendError(f"{what} needs {package}: pip install 'hrtrack[{extra}]'")


def tell_fault(name: str, message: str) -> None:
    """What went wrong with a source, with its name unless that is in it already."""
    click.echo(f"hrtrack: {message if name in message else f'{name}: {message}'}", err=True)


class Once:
    """Loads the networks when the first source has opened: a wrong path fails at once."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._made: Tracker | None = None

    def __call__(self) -> Tracker:
        if self._made is None:
            self._made = self._make()
        return self._made


def make_tracker(
    settings: TrackSettings, stopwatch: Stopwatch, ahead: Ahead | None = None
) -> Tracker:
    """Loads the networks that the options ask for."""
    tracker = Tracker.of(
        replace(settings.tracker, stopwatch=stopwatch, build_engine=build_engine, convert=convert),
        None if ahead is None else ahead.network(),
    )
    if not settings.quiet:
        click.echo(f"hrtrack: pose {tracker.network.describe()}", err=True)
        click.echo(f"hrtrack: people {tracker.detector.describe()}", err=True)
    return tracker


@dataclass(frozen=True)
class Lane:
    """What a source of several at a time shares with the others: how all end, the bars on the
    terminal, and its tile where they are shown."""

    halt: Halt
    bars: Progress
    tile: Tile | None = None


def run_source(
    settings: TrackSettings,
    name: str,
    targets: list[Target],
    loaded: Once,
    layers: DrawOptions,
    show: bool,
    stopwatch: Stopwatch,
    lane: Lane | None = None,
) -> Outcome:
    """Runs one source from its first frame to its last, or until somebody stops the run.

    ``lane`` where others run beside it.

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
    asked = settings.tracker
    error: HrtrackError | None = None
    stopped: Stopped | None = None
    with source as frames:
        poser: Pipeline | Replay
        if settings.segment is None:  # before the networks are loaded for nothing
            for target in targets:
                prepare(target, overwrite=settings.overwrite)
        encoder = _encoder(settings, targets, frames.size)
        if settings.redraw is None:
            tracker = loaded()
            wants_heat = "heatmaps" in layers.layers
            poser = tracker.pipeline(
                live=frames.is_live,
                rate=float(frames.fps) / settings.stride if frames.fps else None,
                waits=frames.is_live,
                keep_heatmaps=wants_heat,
                # Beside other sources there is no core without work.
                upcoming=frames.upcoming if frames.kind == "file" and lane is None else None,
            )
            if poser.budget is not None and not frames.is_live and not settings.quiet:
                click.echo(
                    f"hrtrack: --target-fps {asked.target_fps:g} for a file: who is estimated "
                    "in which frame depends on the speed of this machine",
                    err=True,
                )
            skeleton = tracker.skeleton
            made_by = {"model": str(asked.model), "detector": str(asked.detector)}
        else:
            poser = Replay(settings.redraw, asked.skeleton)
            skeleton, made_by = poser.skeleton, {"model": f"results of {settings.redraw}"}
        picture = picture_maker(skeleton, layers, poser)
        progress = Meter(
            Path(name).name or name,
            frames.declared_frames,
            quiet=settings.quiet,
            live=frames.is_live,
            bars=lane.bars if lane else None,
        )
        others: Sequence[Callable[[Run], Sink]]
        if lane is None:
            others = viewers_of(settings, layers, made_by["model"], show=show)
        else:
            others = [lane.tile.sink] if lane.tile is not None else []
        sinks = open_sinks(
            targets,
            source=frames,
            skeleton=skeleton,
            model=made_by,
            overwrite=settings.overwrite,
            stride=settings.stride,
            stopwatch=stopwatch,
            segment=parse_limit(settings.segment) if settings.segment else None,
            others=others,
            budget=isinstance(poser, Pipeline) and poser.budget is not None,
            encoder=encoder,
        )
        try:
            with sinks, progress:
                feed = frames if lane is None else lane.halt.frames(frames)
                try:
                    if not run(feed, poser, sinks, progress, picture):
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


def _encoder(settings: TrackSettings, targets: Sequence[Target], size: tuple[int, int]) -> str:
    """What the videos are encoded with; says what ``auto`` took."""
    videos = [target for target in targets if target.format == "video"]
    if settings.encoder == H264.codec or not videos:
        return H264.codec
    for target in videos:
        suffix = Path(target.path).suffix.lower()
        if settings.encoder != AUTO and suffix in NO_H264:
            raise UsageError(
                f"--encoder {settings.encoder} makes H.264, which {target.path} cannot hold; "
                "name an .mp4, .mkv or .mov file, or leave out --encoder"
            )
    found = pick(settings.encoder, size)
    if settings.encoder == AUTO and not settings.quiet:
        where = "the CPU: no hardware encoder answers" if found == H264.codec else "hardware"
        click.echo(f"hrtrack: --encoder auto: {found}, {where}", err=True)
    return found


def attempt(name: str, run_one: Callable[[], Outcome], *, alone: bool = False) -> Outcome:
    """Runs the source ``name``; its errors become its outcome, so that other sources go on.

    The error of a source that is ``alone`` ends the command.
    """
    try:
        return run_one()
    except HrtrackError as error:
        if alone:
            raise
        return Outcome(name, error=error)
    except Stopped as stop:
        return Outcome(name, stopped=stop)


def _without_frames(settings: TrackSettings, name: str) -> str:
    asked = [f"--start {settings.start:g}"] if settings.start is not None else []
    asked += [f"--end {settings.end:g}"] if settings.end is not None else []
    within = f" for {' '.join(asked)}" if asked else ""
    return f"{name}: no frame could be read{within}"


def summary(outcomes: list[Outcome], sources: int) -> None:
    """Says how each source went, and all of them."""
    for outcome in outcomes:
        state = "ok" if outcome.error is None else "cut short" if outcome.frames else "failed"
        state = "stopped" if outcome.stopped is not None else state
        click.echo(
            f"hrtrack: {outcome.name}: {state}, {counted(outcome.frames, 'frame')}, "
            f"{counted(outcome.ids, 'identity', 'identities')}, "
            f"{outcome.people:.1f} people per frame, {outcome.fps:.1f} FPS",
            err=True,
        )
    failed = sum(outcome.error is not None for outcome in outcomes)
    left = f", {sources - len(outcomes)} not started" if sources > len(outcomes) else ""
    if sources > 1:
        click.echo(f"hrtrack: {sources} sources, {failed} with errors{left}", err=True)


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


Targets = Mapping[str, Sequence[Target]]
RUNNING_ONLY = (
    "source", "output", "save", "jobs", "ray", "overwrite", "quiet", "log_level", "threads", "show",
    "camera", "reconnect", "max_latency", "serve", "token",
)  # fmt: skip
"""Options that do not shape what is written of a clip; where it goes is compared by itself."""


def track_many(settings: TrackSettings, sources: list[str], targets: Targets) -> int:
    """Runs every clip that is not done yet; returns the exit code.

    The summary by which an interrupted job resumes stands in the folder of the outputs, or else
    of the first results.
    """
    folder = _summary_folder(settings)
    if settings.show or settings.serve or settings.redraw:
        raise UsageError("--jobs and --ray cannot be combined with --show, --serve or hrtrack draw")
    share = max(1, (os.cpu_count() or 1) // settings.jobs)
    threads = settings.tracker.threads or share
    quiet = replace(
        settings,
        quiet=True,
        overwrite=True,
        show=False,
        tracker=replace(settings.tracker, threads=threads),
    )
    given = asdict(settings)
    given |= given.pop("tracker")
    shaping = {name: value for name, value in given.items() if name not in RUNNING_ONLY}
    work = Work(
        {name: [_first(target, settings) for target in targets[name]] for name in sources},
        hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()[:16],
        settings.overwrite,
    )
    tables = tables_of(settings)
    for table in tables:
        _resume(table, work, folder)
    with joining(tables):
        return _run_work(settings, work, functools.partial(_run_clip, quiet), folder)


def _summary_folder(settings: TrackSettings) -> Path:
    if settings.output is not None:
        return Path(settings.output)
    for pattern in settings.save:
        target = parse_save(pattern)
        if NAME not in pattern and not target.to_stdout:
            path = Path(target.path)
            return path.parent if path.suffix.lower() in SUFFIXES[target.format] else path
    raise UsageError(
        "--jobs and --ray need --output FOLDER, or --save with a folder or a table: they keep "
        f"their list of finished clips, {SUMMARY}, in this folder or beside this table"
    )


def _resume(table: Target, work: Work, folder: Path) -> None:
    """Makes a table ready for a job that begins, or that goes on with what it holds.

    SinkError for a table that jobs here did not make, or made with other options.
    """
    known = {} if work.overwrite else read_summary(folder)
    places = {clip: part_of(table, clip, stem_of(clip)) for clip in {*known, *work.outputs}}
    of_source = {part.part_of.source: clip for clip, part in places.items() if part.part_of}
    ours = {clip for clip, entry in known.items() if places[clip].path in (entry.own or ())}
    if not ours:
        begin(table, overwrite=work.overwrite)
    elif Path(table.path).is_file():
        for source in sources_of(table):
            clip = of_source.get(source)
            if clip not in ours:
                raise SinkError(f"{table.path} exists already; pass --overwrite to replace it")
            if clip not in work.outputs and known[clip].options != work.options:
                raise SinkError(
                    f"{table.path} holds results of {clip} that were made with other options; pass "
                    "--overwrite to replace the whole table, or name another file"
                )
        nobody = [
            clip for clip in ours if (done := known[clip].done) and not (done.error or done.people)
        ]
        take_apart(
            table,
            lambda source: Path(places[of_source[source]].path),
            [source for source, clip in of_source.items() if clip in nobody],
        )


def _run_work(
    settings: TrackSettings, work: Work, run_one: Callable[[str], Done], folder: Path
) -> int:
    """Runs what is left of a job, and tells of each clip as it ends; returns the exit code."""
    done: list[Done] = []

    def report_done(one: Done) -> None:
        done.append(one)
        _report(settings.quiet, one)

    stopped: Stopped | None = None
    try:
        if settings.ray is not None:
            done = run_on_ray(
                work, run_one, address=settings.ray, folder=folder, on_done=report_done
            )
        else:
            done = run_many(work, run_one, jobs=settings.jobs, folder=folder, on_done=report_done)
    except Stopped as stop:
        stopped = stop
    failed = [one for one in done if one.error is not None]
    if not settings.quiet:
        frames = counted(sum(one.frames for one in done), "frame")
        ended = ""
        if stopped is not None:
            ended = f", stopped after {len(done)} of them; the same command resumes"
        click.echo(
            f"hrtrack: {len(work.outputs)} sources, {frames}, {len(failed)} with errors{ended}",
            err=True,
        )
    if stopped is not None:
        return stopped.exit_code
    return min((one.code for one in failed), default=0)


def _first(target: Target, settings: TrackSettings) -> Path:
    """The file by which one sees that a target was written."""
    cut = settings.segment is not None and target.format == "video"
    return piece(target.path, 0) if cut else Path(target.path)


def _report(quiet: bool, done: Done) -> None:
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
