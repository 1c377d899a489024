"""`hrtrack -s A -s B`: several sources at a time in one process, over one set of networks."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import HrtrackError, UsageError, one_line
from ..interrupt import Stopped
from ..tracker.api import Tracker
from ..tracker.outputs.base import Target
from ..tracker.outputs.pictures.draw import DrawOptions
from ..tracker.progress import new_bars
from ..tracker.side_by_side import Halt, side_by_side
from ..tracker.stopwatch import Stopwatch
from ..tracker.video.base import without_password
from ..tracker.video.camera import camera_number
from ..tracker.video.open import URL, expand_sources, stem_of
from .ahead import Ahead
from .outputs import (
    TrackSettings,
    require_distinct_paths,
    targets_of,
    viewers_of,
    wants_window,
)
from .track import (
    Lane,
    Once,
    Outcome,
    attempt,
    conclude,
    make_tracker,
    require_packages,
    run_source,
    tell_fault,
)

if TYPE_CHECKING:
    from ..tracker.outputs.viewers.wall import Tile


class OnceForAll(Once):
    """Loads the networks when the first of several sources has opened; the others wait.

    ``error`` is why they cannot be loaded, which every source then raises.
    """

    def __init__(self, make: Callable[[], Tracker]) -> None:
        super().__init__(make)
        self.error: HrtrackError | None = None
        self._loading = threading.Lock()

    def __call__(self) -> Tracker:
        with self._loading:
            if self.error is not None:
                raise self.error
            try:
                return super().__call__()
            except HrtrackError as error:
                self.error = error
                raise


def track_streams(
    settings: TrackSettings, sources: Sequence[str], ahead: Ahead | None = None
) -> int:
    """Runs all sources at a time, the clips of a folder in turn; returns the exit code.

    One that fails does not end the others: its line is printed at once, and the exit code is
    that of the gravest fault.
    """
    logging.basicConfig(level=settings.log_level.upper(), format="hrtrack: %(message)s")
    layers = DrawOptions.parse(settings.draw, min_score=0.3)
    _require_one_process(settings)
    lanes = [[name] if settings.sequence is not None else expand_sources(name) for name in sources]
    _require_distinct(lanes)
    show = _wants_window(settings, lanes)
    targets, lanes = _targets(settings, lanes)
    clips = sum(map(len, lanes))
    require_packages(settings, (target.format for every in targets.values() for target in every))
    stopwatch, halt, bars = Stopwatch(), Halt(), new_bars(quiet=settings.quiet)
    with ExitStack() as stack:

        def load() -> Tracker:
            tracker = stack.enter_context(make_tracker(settings, stopwatch, ahead))
            tracker.share(len(lanes))
            return tracker

        loaded = OnceForAll(load)
        tiles: Sequence[Tile | None] = [None] * len(lanes)
        attend: Callable[[], None] | None = None
        if show or settings.serve is not None:
            from ..tracker.outputs.viewers.wall import Wall

            views = viewers_of(settings, layers, str(settings.tracker.model), show=show, wall=True)
            wall = Wall(tile_labels(sources), views, loaded().skeleton, stopwatch)
            stack.callback(wall.close)
            tiles, attend = wall.tiles, wall.show

        def run_lane(names: list[str], lane: Lane) -> list[Outcome]:
            outcomes: list[Outcome] = []
            for name in names:
                run_one = functools.partial(
                    run_source,
                    settings,
                    name,
                    targets[name],
                    loaded,
                    layers,
                    False,
                    stopwatch,
                    lane,
                )
                outcome = attempt(name, run_one)
                outcomes.append(outcome)
                if outcome.error is not None and outcome.error is not loaded.error:
                    tell_fault(name, one_line(outcome.error))
                if outcome.stopped is not None:
                    break
            return outcomes

        runs = [
            functools.partial(run_lane, names, Lane(halt, bars, tile))
            for names, tile in zip(lanes, tiles, strict=True)
        ]
        with bars:
            ended = side_by_side(runs, halt, attend)
    if loaded.error is not None:
        raise loaded.error
    outcomes = []
    for names, end in zip(lanes, ended, strict=True):
        if isinstance(end, Stopped):  # it did not end in time
            outcomes.append(Outcome(names[0], stopped=end))
        elif isinstance(end, BaseException):
            raise end
        else:
            outcomes += end
    return conclude(outcomes, clips, quiet=settings.quiet)


def _require_one_process(settings: TrackSettings) -> None:
    if settings.jobs > 1 or settings.ray is not None:
        raise UsageError(
            "--jobs and --ray need one source, a folder of clips; several sources always run side "
            "by side in one process"
        )
    if settings.redraw is not None:
        raise UsageError("hrtrack draw takes one source: saved results belong to one clip")
    if settings.token is not None and settings.serve is None:
        raise UsageError("--token is for --serve")


def _require_distinct(lanes: Sequence[Sequence[str]]) -> None:
    seen: set[str] = set()
    for name in (name for names in lanes for name in names):
        real = os.path.realpath(name) if os.path.exists(name) else name
        if real in seen:
            raise UsageError(f"{name} is named twice as a source")
        seen.add(real)


def _wants_window(settings: TrackSettings, lanes: Sequence[Sequence[str]]) -> bool:
    names = [name for names in lanes for name in names]
    cameras = all(camera_number(name) is not None for name in names)
    # As for one source: cameras without an output are there to be looked at.
    return wants_window(settings, names[:1] if cameras else names)


def _targets(
    settings: TrackSettings, lanes: list[list[str]]
) -> tuple[dict[str, list[Target]], list[list[str]]]:
    """The files of each clip, and the lanes without clips that are outputs of earlier runs."""
    names = [name for clips in lanes for name in clips]
    stems = _numbered(names)

    def of(name: str) -> list[Target]:
        return targets_of(settings, name, folders=True, many=True, stem=stems[name])

    targets = {name: of(name) for name in names}
    made = {os.path.realpath(target.path): name for name in names for target in targets[name]}
    lanes = [
        [name for name in clips if made.get(os.path.realpath(name), name) == name]
        for clips in lanes
    ]
    targets = {name: targets[name] for clips in lanes for name in clips}
    require_distinct_paths(targets, settings)
    if settings.output or settings.save:
        for name in targets:
            if stems[name] != stem_of(name):
                click.echo(
                    f"hrtrack: another source is called {stem_of(name)}, too: the outputs of "
                    f"{name} are called {stems[name]}",
                    err=True,
                )
    return targets, lanes


def tile_labels(names: Sequence[str]) -> list[str]:
    """What the tiles are called: the last part of a path or URL, more where that is the same.

    A URL's query is left out, for it may hold a password.
    """

    def parts_of(name: str) -> list[str]:
        if URL.match(name):
            address = without_password(name).partition("?")[0].partition("://")[2]
            return [part for part in address.split("/") if part]
        return [part for part in Path(name).parts if part != Path(name).anchor] or [name]

    parts = [parts_of(name) for name in names]

    def label(place: int) -> str:
        own = parts[place]
        others = [other for at, other in enumerate(parts) if at != place]
        for kept in range(1, len(own)):
            if not any(other[-kept:] == own[-kept:] for other in others):
                return "/".join(own[-kept:])
        return "/".join(own)

    return [label(place) for place in range(len(names))]


def _numbered(names: Sequence[str]) -> dict[str, str]:
    """What the outputs of each source are called; equal names get numbers from the second on."""
    own = [stem_of(name) for name in names]
    taken: set[str] = set()
    stems: dict[str, str] = {}
    for name, stem in zip(names, own, strict=True):
        found, number = stem, 1
        while found in taken or (number > 1 and found in own):
            number += 1
            found = f"{stem}_{number}"
        taken.add(found)
        stems[name] = found
    return stems
