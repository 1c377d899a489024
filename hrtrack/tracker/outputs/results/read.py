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
from ....skeleton import Skeleton, by_name
from ...video.frame import Frame
from ..base import FORMATS, READABLE, Target, parse_save
from .several import sources_of

if TYPE_CHECKING:
    import pandas
    import polars


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
    saved = saved_results(path)
    if not os.path.exists(saved.path):
        raise DataError(f"no such file: {saved.path}")
    if source is not None and not FORMATS[saved.format].several:
        raise DataError(f"{saved.path} is {saved.format}, which holds one clip without its name")
    return _read(saved, skeleton, source)


def saved_results(path: str | Path) -> Target:
    """The format and the path of saved results, as `read_results` takes them.

    Raises:
        UsageError: the format cannot be told from the name.
        DataError: it is no format that is read back.
    """
    name = str(path)
    if os.path.isdir(name):
        folders = {form: FORMATS[form].files for form in READABLE if FORMATS[form].files}
        fits = (form for form, files in folders.items() if any(Path(name).glob(str(files))))
        return Target(next(fits, next(iter(folders))), name)
    target = parse_save(name)
    if target.format not in READABLE:
        known = ", ".join(READABLE)
        raise DataError(f"{target.path} is {target.format}, not results; choose one of {known}")
    return target


def _read(saved: Target, skeleton: Skeleton | None, source: str | None) -> Iterator[Poses]:
    path, form = saved.path, FORMATS[saved.format]
    assert form.reader is not None
    read = form.load(form.reader)
    try:
        found = False
        for poses in read(path, source) if form.several else read(path):
            found = True
            yield _with_skeleton(poses, path, skeleton, form.assumes)
        if source is not None and not found:
            known = sources_of(saved)
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
        raise DataError(f"{path} does not hold {saved.format} results: {reason}") from None


def _with_skeleton(
    poses: Poses, path: str, skeleton: Skeleton | None, assumed: str | None
) -> Poses:
    """The poses with the skeleton that the file, else the caller, else the format names."""
    joints = poses.scores.shape[1]
    if poses.skeleton is not None:
        if skeleton is not None and skeleton.joints != poses.skeleton.joints:
            raise DataError(
                f"{path} is of the skeleton {poses.skeleton.name}, not of {skeleton.name}"
            )
        return poses
    if skeleton is None and assumed is not None and joints == len(by_name(assumed)):
        skeleton = by_name(assumed)
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
        raise BackendError(f"library is {library!r}; choose one of pandas, polars")
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
