"""Results files read back, whatever their format, and as one table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from ....errors import BackendError, DataError, one_line
from ....poses import Poses
from ....skeleton import COCO17, Skeleton
from ...video.frame import Frame
from ..base import FORMATS, Target, parse_save
from .several import sources_of

if TYPE_CHECKING:
    import pandas
    import polars

READABLE = [name for name, form in FORMATS.items() if form.readable]
"""The formats that `read_results` reads."""


def read_results(
    path: str | Path, skeleton: Skeleton | None = None, *, source: str | None = None
) -> Iterator[Poses]:
    """The poses of a results file, frame by frame, as far as its format holds them.

    JSONL holds everything. CSV, Parquet, COCO and MOT leave out the frames with nobody in them;
    COCO of other programs and MOT know no time, which is NaN then; MOT knows no joints (K is 0).
    OpenPose gives 25 joints, boxes that span them and the mean of their scores.

    A table of several clips (``hrtrack clips/ --save all.parquet``) gives one clip after the
    other; ``poses.source`` names the clip.

    Args:
        path: a ``.jsonl``, ``.csv``, ``.parquet``, ``.json`` (COCO) or ``.txt`` (MOT) file, a
            folder of OpenPose files, or ``FORMAT:PATH`` as ``hrtrack --save`` takes it.
        skeleton: the names of the joints where the file does not tell them: in COCO files other
            than of COCO's 17 joints, and in JSONL files of a skeleton of your own
            (``tracker.skeleton``).
        source: the one clip to read of a table of several.

    Raises:
        UsageError: the format cannot be told from the name.
        DataError: the file cannot be read, is of another format or another skeleton, or holds no
            clip of that name.
    """
    name = str(path)
    if os.path.isdir(name):
        form, place = "openpose", name
    else:
        target = parse_save(name)
        form, place = target.format, target.path
    if form not in READABLE:
        raise DataError(f"{place} is {form}, not results; known are {', '.join(READABLE)}")
    if not os.path.exists(place):
        raise DataError(f"no such file: {place}")
    if source is not None and not FORMATS[form].several:
        raise DataError(f"{place} is {form}, which holds one clip without its name")
    return _read(form, place, skeleton, source)


def _read(form: str, path: str, skeleton: Skeleton | None, source: str | None) -> Iterator[Poses]:
    try:
        found = False
        for poses in _reader(form, path, source):
            found = True
            yield _named(poses, form, path, skeleton)
        if source is not None and not found:
            known = sources_of(Target(form, path))
            names = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
            raise DataError(
                f"{path} holds no rows of {source}; "
                + (f"it has those of {names}" if known else "it does not name its clips")
            )
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise DataError(f"cannot read the results {path}: {reason}") from None
    except (ValueError, LookupError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise DataError(f"{path} does not hold {form} results: {reason}") from None


def _reader(form: str, path: str, source: str | None) -> Iterator[Poses]:
    """Each format's libraries are loaded only when it is asked for."""
    match form:
        case "jsonl":
            from .jsonl import read_jsonl

            return read_jsonl(path)
        case "csv":
            from .table import read_csv

            return read_csv(path, source)
        case "coco":
            from .coco import read_coco

            return read_coco(path)
        case "mot":
            from .mot import read_mot_frames

            return read_mot_frames(path)
        case "openpose":
            from .openpose import read_openpose

            return read_openpose(path)
        case "parquet":
            from .parquet import read_parquet

            return read_parquet(path, source)
    raise NotImplementedError(f"nothing reads {form}")


def _named(poses: Poses, form: str, path: str, skeleton: Skeleton | None) -> Poses:
    """The poses with the skeleton that the file, else the caller, else the format names."""
    joints = poses.scores.shape[1]
    if poses.skeleton is not None:
        if skeleton is not None and skeleton.joints != poses.skeleton.joints:
            raise DataError(
                f"{path} is of the skeleton {poses.skeleton.name}, not of {skeleton.name}"
            )
        return poses
    if skeleton is None and form == "coco" and joints == len(COCO17):
        skeleton = COCO17
    if skeleton is None or (len(poses) and not joints):
        return poses
    if not len(poses):
        return Poses.empty(poses.frame, poses.time, len(skeleton), skeleton)
    if joints != len(skeleton):
        raise DataError(
            f"{path} has {joints} joints a person; the skeleton {skeleton.name} has {len(skeleton)}"
        )
    return replace(poses, skeleton=skeleton)


Results = str | Path | Poses | Iterable[Poses] | Iterable[tuple[Frame, Poses]]


@overload
def to_dataframe(
    results: Results, library: Literal["pandas"] = "pandas", *, skeleton: Skeleton | None = None
) -> pandas.DataFrame: ...


@overload
def to_dataframe(
    results: Results, library: Literal["polars"], *, skeleton: Skeleton | None = None
) -> polars.DataFrame: ...


def to_dataframe(
    results: Results,
    library: Literal["pandas", "polars"] = "pandas",
    *,
    skeleton: Skeleton | None = None,
) -> Any:
    """Poses as a table with one row for each joint of each person of each frame.

    The columns are ``frame``, ``time``, ``id``, ``joint``, ``x``, ``y``, ``score`` (all three of
    the joint), ``person_score``, the box ``x0``, ``y0``, ``x1``, ``y1``, ``action``,
    ``action_score`` and ``estimated``. A joint is named where the skeleton is known, else numbered.
    People without joints, as MOT files hold them, have one row with an empty joint. A table of
    several clips (``hrtrack clips/ --save all.parquet``) has ``source``, the clip, as its first
    column.

    Args:
        results: poses of one frame or of many, what `Tracker.track` yields, or the path of a
            results file.
        library: what the table is to be of.
        skeleton: see `read_results`.

    Raises:
        BackendError: the library is not installed.
        DataError: a results file cannot be read.
    """
    if library not in ("pandas", "polars"):
        raise BackendError(f"library is {library!r}; known are pandas, polars")
    try:
        frames = import_module(library)
    except ImportError:
        raise BackendError(f"{library} is missing: pip install 'hrtrack[{library}]'") from None
    if isinstance(results, (str, Path)):
        results = read_results(results, skeleton)
    elif isinstance(results, Poses):
        results = [results]
    parts = [_rows(item[1] if isinstance(item, tuple) else item) for item in results]
    nobody = Poses.empty(0, 0.0, 0)
    parts = [part for part in parts if len(part["frame"])] or [_rows(nobody)]
    if all(part["source"][0] is None for part in parts if len(part["source"])):
        for part in parts:
            del part["source"]
    return frames.DataFrame(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


def _rows(poses: Poses) -> dict[str, np.ndarray[Any, Any]]:
    """The columns of one frame."""
    people, joints = poses.scores.shape
    if joints:
        names = poses.skeleton.joints if poses.skeleton else [str(j) for j in range(joints)]
        points, scores = poses.keypoints, poses.scores
    else:
        names, joints = [""], 1
        points = np.full((people, 1, 2), np.nan, np.float32)
        scores = np.full((people, 1), np.nan, np.float32)
    actions = poses.actions or (None,) * people
    labels = np.array([None if one is None else one.label for one in actions], object)
    sure = np.array([np.nan if one is None else one.score for one in actions], np.float32)
    rows = people * joints
    return {
        "source": np.full(rows, poses.source, object),
        "frame": np.full(rows, poses.frame, np.int64),
        "time": np.full(rows, poses.time, np.float64),
        "id": poses.ids.repeat(joints),
        "joint": np.tile(np.array(names, object), people),
        "x": points[..., 0].ravel(),
        "y": points[..., 1].ravel(),
        "score": scores.ravel(),
        "person_score": poses.person_scores.repeat(joints),
        **{
            name: poses.boxes[:, i].repeat(joints)
            for i, name in enumerate(("x0", "y0", "x1", "y1"))
        },
        "action": labels.repeat(joints),
        "action_score": sure.repeat(joints),
        "estimated": poses.estimated.repeat(joints),
    }
