"""Which files a run writes, and that none of them is another's or its own source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UsageError
from ..tracker.sinks.segments import pieces
from ..tracker.sinks.targets import STDOUT, SUFFIXES, Target, parse_save
from ..tracker.source import VIDEO_SUFFIXES, is_still
from .outputs import TrackSettings

KNOWN = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}


def all_targets(settings: TrackSettings, names: Sequence[str]) -> dict[str, list[Target]]:
    """The sources, without earlier outputs of others among them, and the files of each.

    Where ``--source`` names a folder or a glob, the places are folders, however many clips are in
    it; one clip may still go to a file.

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
    require_own_places(targets, settings)
    return targets


def targets_of(settings: TrackSettings, name: str, *, folders: bool, many: bool) -> list[Target]:
    """The files that one source is written to: in ``folders`` unless a file is named, which
    ``many`` sources may not."""
    stem = "stdin" if name == "-" else Path(name).stem or "source"
    targets = []
    if settings.output is not None:
        targets.append(_annotated(settings.output, name, stem, folders=folders, many=many))
    for text in settings.save:
        target = parse_save(text)
        named = target.to_stdout or Path(target.path).suffix.lower() in KNOWN
        if many and named:
            raise UsageError(
                f"--save {text}: with several sources name a format and a folder, "
                f"for example {target.format}:results"
            )
        if folders and not named:
            suffix = next(iter(SUFFIXES[target.format]), "")
            target = Target(target.format, str(Path(target.path) / f"{stem}{suffix}"))
        targets.append(target)
    return targets


def _annotated(output: str, name: str, stem: str, *, folders: bool, many: bool) -> Target:
    path = Path(output)
    asked = output.endswith(("/", os.sep)) or os.path.isdir(output)
    formatted = output.partition(":")[0] in SUFFIXES and not asked
    named = formatted or (path.suffix.lower() in KNOWN | VIDEO_SUFFIXES and not asked)
    if named and many:
        raise UsageError(f"--output {output} is one file; with several sources name a folder")
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


def require_own_places(targets: Mapping[str, Sequence[Target]], settings: TrackSettings) -> None:
    """UsageError when a file would be written twice, or over one that is read."""
    inputs = [*targets, *([settings.redraw] if settings.redraw else [])]
    files = {name: name.removeprefix("file://") for name in inputs}
    read = {os.path.realpath(path): name for name, path in files.items() if os.path.isfile(path)}
    taken: dict[str, str] = {}
    for name, places in targets.items():
        for target in places:
            place = STDOUT if target.to_stdout else os.path.realpath(target.path)
            if os.path.exists(place) and not (os.path.isfile(place) or os.path.isdir(place)):
                continue  # a device, as /dev/null, takes any number
            other = taken.get(place)
            if other == name:
                raise UsageError(f"{target.path} is named twice as an output; name two places")
            if other is not None:
                raise UsageError(
                    f"{other} and {name} would both be written to {target.path}; "
                    "run them apart or rename one"
                )
            taken[place] = name
            for lost in _lost(target, place, read, cut=settings.segment is not None):
                raise UsageError(f"{lost} is what is read; write to another file")


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
