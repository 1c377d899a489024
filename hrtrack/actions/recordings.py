"""Own recordings: folders of hrtrack's JSONL results, named by action."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..skeleton import Skeleton, by_name
from .bridge import Bridge
from .clips import ActionClip

MIN_SECONDS = 0.5
MIN_SCORE = 0.2
COLUMNS = ("file", "label", "id", "start", "end")


@dataclass(frozen=True)
class Cut:
    """One row of a label file; ``person`` None is the person seen in most frames."""

    file: str
    label: str
    person: int | None
    start: float
    end: float


def load_recordings(root: Path) -> list[ActionClip]:
    """The clips in ``root/LABEL/*.jsonl``: of each file the person seen in most frames.

    DataError when there are none, or a file is not hrtrack's or shows nobody for
    `MIN_SECONDS`.
    """
    files = sorted(root.glob("*/*.jsonl"))
    if not files:
        raise DataError(
            f"no ACTION/*.jsonl below '{root}'; put each clip's results into a folder named by "
            "its action, for example squat/monday.jsonl"
        )
    return [_load(file) for file in files]


def cut_recordings(labels: Path, out: Path) -> list[Path]:
    """Cuts results into clips by a label file and writes ``out/LABEL/*.jsonl``.

    The label file is CSV with a header: ``file`` (JSONL, relative to the label file),
    ``label``, and optionally ``id``, ``start`` and ``end`` (seconds); an empty id is the
    person seen in most frames. DataError names the row that does not fit.
    """
    written: list[Path] = []
    for number, row in enumerate(_rows(labels), 2):
        source = labels.parent / row.file
        lines = [line for line in _lines(source) if row.start <= line["time"] <= row.end]
        person = row.person if row.person is not None else _main_person(lines)
        kept = [
            {**line, "people": [p for p in line["people"] if p["id"] == person]} for line in lines
        ]
        if not any(line["people"] for line in kept):
            who = "anybody" if row.person is None else f"person {row.person}"
            raise DataError(f"'{labels}' line {number}: '{row.file}' does not show {who} then")
        target = out / row.label / f"{Path(row.file).stem}_{number - 1}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        written.append(target)
    if not written:
        raise DataError(f"'{labels}' holds no rows below its header")
    return written


def _rows(labels: Path) -> Iterator[Cut]:
    try:
        text = labels.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the label file '{labels}': {error}") from error
    reader = csv.DictReader(text.splitlines())
    names = [name.strip() for name in reader.fieldnames or ()]
    if not {"file", "label"} <= set(names) <= set(COLUMNS):
        raise DataError(
            f"'{labels}' has the columns {', '.join(names) or 'none'}; "
            f"file and label are needed, id, start and end may follow"
        )
    for number, raw in enumerate(reader, 2):
        row = {(k or "").strip(): (v or "").strip() for k, v in raw.items() if k is not None}
        try:
            cut = Cut(
                row["file"],
                row["label"],
                int(row["id"]) if row.get("id") else None,
                float(row.get("start") or "-inf"),
                float(row.get("end") or "inf"),
            )
        except ValueError as error:
            raise DataError(f"'{labels}' line {number}: {error}") from error
        if not cut.file or not cut.label or "/" in cut.label or cut.label.startswith("."):
            raise DataError(f"'{labels}' line {number}: file or label is empty or unusable")
        yield cut


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read '{file}': {error}") from error
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            entry["time"] = float(entry["time"])
            for person in entry["people"]:
                person["id"], _ = int(person["id"]), person["keypoints"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"'{file}' line {number} is not a frame of hrtrack's JSONL ({error!r})"
            ) from error
        lines.append(entry)
    return lines


def _main_person(lines: list[dict[str, Any]]) -> int | None:
    seen: dict[int, int] = {}
    for line in lines:
        for person in line["people"]:
            seen[person["id"]] = seen.get(person["id"], 0) + 1
    return max(seen, key=lambda person: seen[person]) if seen else None


def _load(file: Path) -> ActionClip:
    lines = _lines(file)
    person = _main_person(lines)
    frames: list[tuple[float, Any]] = [
        (line["time"], one["keypoints"])
        for line in lines
        for one in line["people"]
        if one["id"] == person
    ]
    if len(frames) < 2 or frames[-1][0] - frames[0][0] < MIN_SECONDS:
        raise DataError(f"'{file}' shows nobody for {MIN_SECONDS} s; record longer or remove it")
    times: NDArray[np.float64] = np.array([time for time, _ in frames])
    if (np.diff(times) <= 0).any():
        raise DataError(f"'{file}': its times do not rise")
    skeleton = _skeleton(file, lines[0])
    try:
        keypoints = np.array([points for _, points in frames], np.float32)
    except ValueError as error:
        raise DataError(f"'{file}': its keypoints are not all of one shape") from error
    if keypoints.ndim != 3 or keypoints.shape[1:] != (len(skeleton), 3):
        raise DataError(
            f"'{file}' has keypoints of shape {keypoints.shape[1:]}; "
            f"({len(skeleton)}, 3) of {skeleton.name} expected"
        )
    joints = Bridge(skeleton)(keypoints[..., :2], keypoints[..., 2], MIN_SCORE)
    return ActionClip(f"{file.parent.name}/{file.stem}", file.parent.name, times, joints)


def _skeleton(file: Path, line: dict[str, Any]) -> Skeleton:
    name = line.get("skeleton")
    if not isinstance(name, str):
        raise DataError(f"'{file}' does not name its skeleton")
    return by_name(name)
