"""Parquet: the columns of the CSV, for large runs and data frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import DataError, SinkError, write_error
from ....poses import Action, Poses, estimated_of
from ....skeleton import Skeleton, with_joints
from ..base import Target

if TYPE_CHECKING:
    from ...video.frame import Frame
    from ..base import Picture, Run

GROUP = 4096
"""People a row group: what a reader loads at once, and what waits in memory here."""
NEEDS = "Parquet needs pyarrow: pip install 'hrtrack[parquet]'"


class Parquet:
    """One row a person: frame, time, id, score, box, keypoints, scores, action, action_score,
    and ``estimated`` where not everybody is estimated in every frame. In the part of a table of
    several clips (``several.py``) ``source`` comes first.

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
        self._source = target.part_of.source if target.part_of else None
        if self._source is not None:
            fields.insert(0, ("source", pa.string()))
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
        self._rows += [_row(poses, i, self._source) for i in range(len(poses))]
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


def read_parquet(path: str | Path, source: str | None = None) -> Iterator[Poses]:
    """The frames of a Parquet results file, of one clip if ``source`` names it; frames with
    nobody in them are not in it.

    DataError for another Parquet file, and where pyarrow is not installed.
    """
    with _opened(path) as file:
        told = file.schema_arrow.metadata
        joints = tuple(told[b"joints"].decode().split(","))
        skeleton = with_joints(joints, told.get(b"skeleton", b"unnamed").decode())
        groups: Sequence[int] = range(file.num_row_groups)
        if source is not None:
            groups = [i for i in groups if source in _sources(file, i)]
        rows = (
            row
            for batch in file.iter_batches(GROUP, row_groups=groups)
            for row in batch.to_pylist()
            if source is None or row["source"] == source
        )
        key = itemgetter("frame", "source") if "source" in file.schema_arrow.names else _frame
        for _, group in groupby(rows, key=key):
            people = list(group)
            yield _people(int(people[0]["frame"]), people, skeleton)


def sources(path: str | Path) -> Iterator[str]:
    """The clips of a table of several, in order, each at least once; none in another file."""
    with _opened(path) as file:
        if "source" in file.schema_arrow.names:
            for i in range(file.num_row_groups):
                yield from dict.fromkeys(_sources(file, i))


def join(parts: Sequence[Path], path: Path) -> None:
    """Writes the rows of several clips' parts into one file, sorted by clip."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = {part: pq.read_schema(part) for part in parts}
    schema = max(schemas.values(), key=len)  # one more column where somebody was not estimated
    for part, own in schemas.items():
        if own.metadata[b"joints"] != schema.metadata[b"joints"]:
            raise SinkError(f"{part} has other joints than the parts beside it")
    with pq.ParquetWriter(str(path), schema, compression="zstd") as writer:
        for part in sorted(parts, key=lambda part: next(sources(part), "")):
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(GROUP):
                    table = pa.Table.from_batches([batch])
                    for field in list(schema)[len(table.schema) :]:
                        table = table.append_column(field, pa.array([True] * len(table)))
                    writer.write_table(table.cast(schema))


def take_apart(
    path: str | Path, target: Callable[[str], Path | None], empty: Iterable[str]
) -> None:
    """Writes each clip's rows of a table to the file that ``target`` names, unless it is None."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _opened(path) as file:
        schema = file.schema_arrow
        pieces = (
            (source, rows.filter(pc.equal(rows["source"], source)))
            for i in range(file.num_row_groups)
            for rows in (file.read_row_group(i),)
            for source in dict.fromkeys(rows["source"].to_pylist())
        )
        for source, group in groupby(pieces, key=itemgetter(0)):
            if (place := target(source)) is not None:
                with pq.ParquetWriter(str(place), schema, compression="zstd") as writer:
                    for _, rows in group:
                        writer.write_table(rows)
        for source in empty:
            if (place := target(source)) is not None:
                pq.write_table(pa.Table.from_pylist([], schema=schema), str(place))


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """A Parquet results file; DataError for another."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(NEEDS) from None
    with pq.ParquetFile(path) as file:
        told = file.schema_arrow.metadata or {}
        if b"joints" not in told or "keypoints" not in file.schema_arrow.names:
            raise DataError(f"{path} is a Parquet file, but not one of hrtrack's results")
        yield file


def _sources(file: Any, group: int) -> list[str]:
    if "source" not in file.schema_arrow.names:
        return []
    column = file.read_row_group(group, columns=["source"])["source"]
    return list(column.unique().to_pylist())


def _frame(row: dict[str, Any]) -> int:
    return int(row["frame"])


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
        people[0].get("source"),
    )


def _row(poses: Poses, i: int, source: str | None) -> dict[str, Any]:
    action = poses.actions[i] if poses.actions is not None else None
    return {
        "source": source,
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
