"""Parquet: the columns of the CSV, for large runs and data frames."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import DataError, SinkError, write_error
from ....poses import Action, Poses
from ....skeleton import Skeleton, with_joints
from ..base import Target
from .jsonl import estimated_of

if TYPE_CHECKING:
    from ...video.frame import Frame
    from ..base import Picture, Run

GROUP = 4096
"""People a row group: what a reader loads at once, and what waits in memory here."""
NEEDS = "Parquet needs pyarrow: pip install 'hrtrack[parquet]'"


class Parquet:
    """One row a person: frame, time, id, score, box, keypoints, scores, action, action_score,
    and ``estimated`` where not everybody is estimated in every frame.

    ``box`` is x0, y0, x1, y1; ``keypoints`` are x, y in turns, ``scores`` one a joint. The file
    is ``NAME.part.parquet`` until it is finished: without its end it cannot be read.
    """

    def __init__(self, target: Target, run: Run) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise SinkError(NEEDS) from None
        self._target = target
        reals = pa.list_(pa.float32())
        fields = [
            ("frame", pa.int64()), ("time", pa.float64()), ("id", pa.int64()),
            ("score", pa.float32()), ("box", reals), ("keypoints", reals), ("scores", reals),
            ("action", pa.string()), ("action_score", pa.float32()),
        ]  # fmt: skip
        if run.budget:
            fields.append(("estimated", pa.bool_()))
        about = {"skeleton": run.skeleton.name, "joints": ",".join(run.skeleton.joints)}
        self._schema = pa.schema(fields, metadata=about | dict(run.model))
        self._table = pa.Table
        self._rows: list[dict[str, Any]] = []
        try:
            self._writer = pq.ParquetWriter(str(target.part), self._schema, compression="zstd")
        except OSError as error:
            raise write_error(target.path, error) from None

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Keeps one frame's people until there are enough for a row group."""
        self._rows += [_row(poses, i) for i in range(len(poses))]
        if len(self._rows) >= GROUP:
            self._flush()
        return True

    def close(self, *, complete: bool) -> None:
        """Writes what waits and the file's end, and gives it its name."""
        try:
            self._flush()
            self._writer.close()
            self._target.part.replace(self._target.path)
        except OSError as error:
            raise write_error(self._target.path, error) from None

    def _flush(self) -> None:
        if not self._rows:
            return
        table = self._table.from_pylist(self._rows, schema=self._schema)
        self._rows = []
        try:
            self._writer.write_table(table)
        except OSError as error:
            raise write_error(self._target.path, error) from None


def read_parquet(path: str | Path) -> Iterator[Poses]:
    """The frames of a Parquet results file; frames with nobody in them are not in it.

    DataError for another Parquet file, and where pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(NEEDS) from None
    with pq.ParquetFile(path) as file:
        told = file.schema_arrow.metadata or {}
        if b"joints" not in told or "keypoints" not in file.schema_arrow.names:
            raise DataError(f"{path} is a Parquet file, but not one of hrtrack's results")
        joints = tuple(told[b"joints"].decode().split(","))
        skeleton = with_joints(joints, told.get(b"skeleton", b"unnamed").decode())
        rows = (row for batch in file.iter_batches(GROUP) for row in batch.to_pylist())
        for frame, group in groupby(rows, key=lambda row: int(row["frame"])):
            yield _people(frame, list(group), skeleton)


def _people(frame: int, people: list[dict[str, Any]], skeleton: Skeleton) -> Poses:
    keypoints = np.array([p["keypoints"] for p in people], np.float32)
    actions = tuple(Action(p["action"], p["action_score"]) if p["action"] else None for p in people)
    return Poses(
        frame,
        people[0]["time"],
        np.array([p["box"] for p in people], np.float32),
        np.array([p["score"] for p in people], np.float32),
        keypoints.reshape(len(people), -1, 2),
        np.array([p["scores"] for p in people], np.float32),
        np.array([p["id"] for p in people], np.int64),
        actions if any(actions) else None,
        skeleton,
        estimated_of(people),
    )


def _row(poses: Poses, i: int) -> dict[str, Any]:
    action = poses.actions[i] if poses.actions is not None else None
    return {
        "frame": poses.frame,
        "time": poses.time,
        "id": int(poses.ids[i]),
        "score": float(poses.person_scores[i]),
        "box": poses.boxes[i].tolist(),
        "keypoints": poses.keypoints[i].ravel().tolist(),
        "scores": poses.scores[i].tolist(),
        "action": action.label if action else None,
        "action_score": action.score if action else None,
        "estimated": bool(poses.estimated[i]),
    }
