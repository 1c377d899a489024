"""What a run writes, shows and draws, and that no file of it is another's or its own source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..poses import Poses
from ..skeleton import Skeleton
from ..tracker.loop import Pipeline
from ..tracker.options import TrackerOptions
from ..tracker.outputs.base import FORMATS, STDOUT, SUFFIXES, TABLES, Run, Target, parse_save
from ..tracker.outputs.pictures.draw import DrawOptions, Trail, Trails, draw, draw_heatmaps
from ..tracker.outputs.pictures.segments import pieces
from ..tracker.outputs.results.replay import Replay, results_path
from ..tracker.outputs.results.several import begin, joining, part_of
from ..tracker.video.camera import camera_number
from ..tracker.video.frame import Frame
from ..tracker.video.open import VIDEO_SUFFIXES, LiveOptions, is_still, require_there, stem_of
from .options import NO_WISH, CameraMode

if TYPE_CHECKING:
    from ..tracker.outputs.base import Picture
    from ..tracker.outputs.viewers.browser import Viewer
    from ..tracker.outputs.viewers.window import Window

NAME = "{name}"
"""Stands for a source's name in the paths of outputs."""


@dataclass(frozen=True)
class TrackSettings:
    """The options of `hrtrack --source` and `hrtrack draw`, as click gives them.

    ``redraw`` is the file of the results that `hrtrack draw` draws.
    """

    source: str
    start: float | None
    end: float | None
    stride: int
    sequence: float | None
    decode: Any
    output: str | None
    save: tuple[str, ...]
    segment: str | None
    encoder: str
    overwrite: bool
    quiet: bool
    log_level: str
    draw: str
    show: bool | None
    serve: str | None
    token: str | None
    tracker: TrackerOptions
    redraw: str | None = None
    jobs: int = 1
    ray: str | None = None
    camera: CameraMode = NO_WISH
    reconnect: Any = None
    max_latency: float | None = None

    def live(self) -> LiveOptions:
        """How cameras and streams are opened."""
        return LiveOptions(
            **self.camera._asdict(),
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
        for name in sources[:1]:  # a missing source is named before a missing output
            require_there(name)
        raise UsageError(
            "nothing to show and nothing to write: add --output out.mp4, --save out.jsonl or --show"
        )
    return show


def viewers_of(
    settings: TrackSettings, layers: DrawOptions, made_by: str, *, show: bool, wall: bool = False
) -> list[Callable[[Run], Window | Viewer]]:
    """The outputs that are no files: the window and the viewer in the browser; ``wall`` where
    they show several streams."""
    makers: list[Callable[[Run], Window | Viewer]] = []
    if show:
        from ..tracker.outputs.viewers.window import window

        makers.append(window(layers, made_by, Path.cwd(), settings.stride))
    if settings.serve is not None:
        from ..tracker.outputs.viewers.browser import viewer

        makers.append(viewer(settings.serve, made_by, _announce, settings.token, wall=wall))
    return makers


def _announce(address: str) -> None:
    click.echo(f"hrtrack: watch at {address}", err=True)


def picture_maker(
    skeleton: Skeleton, layers: DrawOptions, poser: Pipeline | Replay
) -> Callable[[Frame, Poses], Picture]:
    """What draws a frame, later, onto the frame itself: nobody reads it after the sinks."""
    trails = Trails()

    def trail_of(poses: Poses) -> list[Trail]:
        return trails.update(poses) if "trails" in layers.layers else []

    if isinstance(poser, Replay):

        def replay_later(frame: Frame, poses: Poses) -> Picture:
            behind = trail_of(poses)
            return lambda: draw(_canvas(frame), poses, skeleton, layers, behind)

        return replay_later
    estimate, stopwatch = poser.estimate, poser.stopwatch

    def make_later(frame: Frame, poses: Poses) -> Picture:
        # By the time of drawing the estimator may be at the next frame.
        maps, to_image = estimate.heatmaps, estimate.affines
        behind = trail_of(poses)

        def make() -> NDArray[np.uint8]:
            with stopwatch.stage("draw"):
                image = _canvas(frame)
                if maps is not None and to_image is not None:
                    draw_heatmaps(image, maps, to_image, estimate.network.input_hw)
                return draw(image, poses, skeleton, layers, behind)

        return make

    return make_later


def _canvas(frame: Frame) -> NDArray[np.uint8]:
    return frame.image if frame.image.flags.writeable else frame.image.copy()


KNOWN = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}


def all_targets(settings: TrackSettings, names: Sequence[str]) -> dict[str, list[Target]]:
    """The sources, without earlier outputs of others among them, and the files of each.

    Where ``--source`` names a folder or a glob, the places are folders, however many clips are in
    it; one clip may still go to a file. A file of a format that can hold several clips is a table
    of them all (`tables_of`), of which each writes a part.

    Raises:
        UsageError: several sources and one file, one file for two outputs, an output that is the
            source itself, or a format or suffix that is not known.
    """
    jobs = settings.jobs > 1 or settings.ray is not None
    folders, many = jobs or list(names) != [settings.source], jobs or len(names) > 1
    targets = {name: targets_of(settings, name, folders=folders, many=many) for name in names}
    if folders:  # what an earlier run wrote beside its sources is no source
        made = {os.path.realpath(target.path): name for name in names for target in targets[name]}
        earlier = [name for name in names if made.get(os.path.realpath(name), name) != name]
        targets = {name: targets[name] for name in names if name not in earlier}
    require_distinct_paths(targets, settings)
    return targets


def targets_of(
    settings: TrackSettings, name: str, *, folders: bool, many: bool, stem: str | None = None
) -> list[Target]:
    """The files that one source is written to: in ``folders`` unless a file is named, which
    ``many`` sources may not but with ``{name}`` in it. ``stem`` stands for that, the source's
    name by default."""
    stem = stem_of(name) if stem is None else stem
    targets = []
    if settings.output is not None:
        output, one_file = settings.output.replace(NAME, stem), NAME not in settings.output
        targets.append(_annotated(output, name, stem, folders=folders, many=many and one_file))
    for pattern in settings.save:
        text, one_file = pattern.replace(NAME, stem), NAME not in pattern
        target = parse_save(text)
        named = _is_file(target)
        if folders and _is_table(pattern, target):
            target = part_of(target, name, stem)
        elif many and named and one_file:
            raise UsageError(
                f"--save {text}: with several sources name a format and a folder, "
                f"for example {target.format}:results, or put {NAME} in the file's name; "
                f"only {' and '.join(TABLES)} hold several clips in one file"
            )
        elif folders and not named:
            suffix = next(iter(SUFFIXES[target.format]), "")
            target = Target(target.format, str(Path(target.path) / f"{stem}{suffix}"))
        targets.append(target)
    return targets


def _is_file(target: Target) -> bool:
    """Whether a target of several sources is a file, not a folder of files."""
    return target.to_stdout or Path(target.path).suffix.lower() in KNOWN


def _is_table(pattern: str, target: Target) -> bool:
    """Whether what ``--save`` names is one table where there are several sources."""
    known = FORMATS[target.format]
    fits = Path(target.path).suffix.lower() in known.suffixes and not os.path.isdir(target.path)
    return known.several and fits and NAME not in pattern and not target.to_stdout


def tables_of(settings: TrackSettings) -> list[Target]:
    """The tables that hold all clips, where ``--source`` names several."""
    return [target for text in settings.save if _is_table(text, target := parse_save(text))]


@contextmanager
def several_tables(settings: TrackSettings) -> Iterator[None]:
    """The tables of a run over several sources: may they be written, and joined in the end."""
    tables = tables_of(settings)
    for table in tables:
        begin(table, overwrite=settings.overwrite)
    with joining(tables):
        yield


def _annotated(output: str, name: str, stem: str, *, folders: bool, many: bool) -> Target:
    path = Path(output)
    asked = output.endswith(("/", os.sep)) or os.path.isdir(output)
    formatted = output.partition(":")[0] in SUFFIXES and not asked
    named = formatted or (path.suffix.lower() in KNOWN | VIDEO_SUFFIXES and not asked)
    if named and many:
        raise UsageError(
            f"--output {output} is one file; with several sources name a folder, or put {NAME} in "
            "the file's name"
        )
    # A name without a suffix is a folder's, whether it is there already or not.
    if asked or (not named and (folders or not path.suffix)):
        kind, suffix = ("image", ".png") if is_still(name) else ("video", ".mp4")
        return Target(kind, str(path / f"{stem}_pose{suffix}"))
    target = parse_save(output)
    if target.format not in ("video", "image"):
        raise UsageError(
            f"--output {path}: an annotated picture cannot be written as {target.format}; "
            f"name a {', '.join(SUFFIXES['video'])} file, or use --save for results"
        )
    return target


def require_distinct_paths(
    targets: Mapping[str, Sequence[Target]], settings: TrackSettings
) -> None:
    """UsageError when a file would be written twice, or over one that is read."""
    files = {name: name.removeprefix("file://") for name in targets}
    read = {os.path.realpath(path): name for name, path in files.items() if os.path.isfile(path)}
    if settings.redraw is not None:
        read[os.path.realpath(results_path(settings.redraw))] = settings.redraw
    parts = [t.part_of for places in targets.values() for t in places if t.part_of is not None]
    tables = {os.path.realpath(part.table): "the table of all clips" for part in parts}
    taken: dict[str, str] = {**tables}
    for name, places in targets.items():
        for target in places:
            place = STDOUT if target.to_stdout else os.path.realpath(target.path)
            if os.path.exists(place) and not (os.path.isfile(place) or os.path.isdir(place)):
                continue  # a device, as /dev/null, takes any number
            other = taken.get(place)
            if other == name:
                path = target.part_of.table if target.part_of else target.path
                raise UsageError(f"{path} is named twice as an output; choose different paths")
            if other is not None:
                raise UsageError(
                    f"{other} and {name} would both be written to {target.path}; "
                    "rename one, or run them separately"
                )
            taken[place] = name
            for lost in _lost(target, place, read, cut=settings.segment is not None):
                raise UsageError(f"{lost} is an input of this run; choose another output")


def _lost(target: Target, place: str, read: Mapping[str, str], *, cut: bool) -> list[str]:
    """The inputs that a target would replace."""
    if not (cut and target.format == "video"):
        return [read[place]] if place in read else []
    folder, names = os.path.dirname(place), pieces(place)
    return [
        name
        for one, name in read.items()
        if os.path.dirname(one) == folder and names.fullmatch(os.path.basename(one))
    ]
