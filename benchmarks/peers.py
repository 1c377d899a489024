"""hrtrack beside MediaPipe Pose and a plain loop: one table, from one run.

    python -m benchmarks.peers ONE.mp4 MANY.mp4 --four-k FOURK.mp4 --before CHECKOUT \
        --mediapipe PYTHON --detector deimv2_femto.onnx --pose tinypose_256x192.onnx --json OUT.json

ONE shows one person, MANY at least twenty; each is cut to its most likely people. Every loop runs
once a turn, in a process of its own, so that a busy minute hits all of them; the table has the
medians of the turns. ``memory``: frames in memory, nothing drawn. ``file``: from the clip to an
annotated video. ``ms`` is processor time a frame, of all threads.

The peers write MPEG-4 Part 2 by OpenCV, which costs less than hrtrack's H.264 and makes larger
files. MediaPipe Pose follows one person, so it has no row for more. ``before`` is hrtrack of
another checkout (`git worktree add FOLDER COMMIT`). ``of the cores`` is file to file FPS over what
the cores could do at most: their number over the sum of the processor times of loop, decoding,
drawing and encoding, each measured alone in the same process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import click

from hrtrack.cli import run
from hrtrack.cli.info import gather
from hrtrack.errors import HrtrackError
from hrtrack.progress import shown
from hrtrack.tracker.progress import new_bars

HERE = Path(__file__).parent
LENGTHS = {1: 240, 5: 100, 9: 60, 20: 40}
"""Frames a turn by the number of people, so that none takes very long."""
FOUR_K_LENGTH = 40
AFTER, BEFORE, PLAIN, MEDIAPIPE = "hrtrack", "hrtrack before", "plain loop", "MediaPipe Pose full"
PARTS = ("cpu_ms", "decode_ms", "draw_ms", "encode_ms")

Found = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One loop on one clip: the command that measures it, and where hrtrack is imported from."""

    clip: str
    people: int
    name: str
    command: Sequence[str]
    folder: Path | None = None

    def turn(self) -> Found:
        """Runs it once; a HrtrackError says why it failed."""
        environment = dict(os.environ)
        if self.folder is not None:
            environment["PYTHONPATH"] = str(self.folder)
        done = subprocess.run(
            list(self.command), capture_output=True, text=True, env=environment, cwd=self.folder
        )
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise HrtrackError(f"{self.name} on {self.clip} failed: {reason}")
        found: Found = json.loads(lines[-1])
        return found


@dataclass(frozen=True)
class Loops:
    """What is compared, and how: a Python with MediaPipe, another checkout, the plain models."""

    mediapipe: str | None
    before: Path | None
    detector: Path | None
    pose: Path | None

    def rows(self, clip: str, label: str, people: int, count: int) -> list[Row]:
        """Every loop that can follow so many people."""
        path, frames, most = str(Path(clip).absolute()), str(count), str(people)
        rows = []
        if self.mediapipe is not None and people == 1:
            script = str(HERE / "mediapipe_pose.py")
            command = [self.mediapipe, script, path, frames, "file"]
            rows.append(Row(label, people, MEDIAPIPE, command))
        if self.detector is not None and self.pose is not None:
            models = [str(self.detector.absolute()), str(self.pose.absolute())]
            script = str(HERE / "plain_loop.py")
            command = [sys.executable, script, path, frames, *models, most, "0", "file"]
            rows.append(Row(label, people, PLAIN, command))
        command = [sys.executable, str(HERE / "hrtrack_turn.py"), path, frames, most]
        if self.before is not None:
            rows.append(Row(label, people, BEFORE, command, self.before.absolute()))
        return [*rows, Row(label, people, AFTER, command, HERE.parent)]


def middle(turns: Sequence[Found]) -> Found:
    """The median of each figure."""
    keys = [key for key, value in turns[0].items() if isinstance(value, int | float)]
    found = {key: median(turn[key] for turn in turns) for key in keys}
    if all(part in found for part in PARTS):
        found["of_the_cores"] = median(efficiency(turn) for turn in turns)
    return found


def efficiency(turn: Found) -> float:
    """File to file FPS over the most that the cores could do by the parts' processor times."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return turn["file_fps"] * sum(turn[part] for part in PARTS) / 1e3 / (cores or 1)


HEADER = (
    "clip", "people", "loop", "found a frame", "memory FPS", "ms", "file FPS", "ms", "decode ms",
    "draw ms", "encode ms", "of the cores",
)  # fmt: skip
COLUMNS = (
    ("people", 2), ("fps", 1), ("cpu_ms", 1), ("file_fps", 1), ("file_cpu_ms", 1),
    ("decode_ms", 1), ("draw_ms", 2), ("encode_ms", 1), ("of_the_cores", 2),
)  # fmt: skip


def table(rows: Sequence[Row], found: Sequence[Found]) -> str:
    """The medians in Markdown."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    for row, figures in zip(rows, found, strict=True):
        cells = [row.clip, str(row.people), row.name]
        cells += [f"{figures[key]:.{n}f}" if key in figures else "" for key, n in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.argument("one", type=click.Path(exists=True, dir_okay=False))
@click.argument("many", type=click.Path(exists=True, dir_okay=False))
@click.option("--four-k", type=click.Path(exists=True, dir_okay=False), help="ONE, but larger.")
@click.option("--before", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--mediapipe", help="A Python that has mediapipe 0.10.21.")
@click.option("--detector", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pose", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--people", multiple=True, type=click.IntRange(1), default=tuple(LENGTHS))
@click.option("--turns", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--minutes", type=click.FloatRange(0), default=24.0, show_default=True,
    help="Begin no turn that would not end within this time.",
)  # fmt: skip
@click.option(
    "--share", type=click.FloatRange(0.1, 10), default=1.0, show_default=True,
    help="So many times the usual number of frames.",
)  # fmt: skip
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(
    one: str,
    many: str,
    four_k: str | None,
    before: Path | None,
    mediapipe: str | None,
    detector: Path | None,
    pose: Path | None,
    people: tuple[int, ...],
    turns: int,
    minutes: float,
    share: float,
    json_path: Path | None,
) -> None:
    loops = Loops(mediapipe, before, detector, pose)
    rows = []
    for count in people:
        clip, frames = one if count == 1 else many, LENGTHS.get(count, 60)
        rows += loops.rows(clip, Path(clip).stem, count, max(15, round(frames * share)))
    if four_k is not None:
        rows += loops.rows(four_k, Path(four_k).stem, 1, max(15, round(FOUR_K_LENGTH * share)))
    taken: list[list[Found]] = [[] for _ in rows]
    began, begun = datetime.now(UTC), time.monotonic()

    def keep() -> None:
        if json_path is None:
            return
        whole = {
            "date": began.isoformat(timespec="seconds"),
            "machine": gather()["machine"],
            "rows": [
                {
                    "clip": row.clip, "people": row.people, "loop": row.name,
                    "medians": middle(mine) if mine else {}, "turns": mine,
                }
                for row, mine in zip(rows, taken, strict=True)
            ],
        }  # fmt: skip
        json_path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")

    with shown(new_bars(quiet=False)) as bars:
        task = bars.add_task("turns", total=turns * len(rows))
        for done in range(turns):
            passed = time.monotonic() - begun
            if done and passed * (done + 1) / done > 60 * minutes:
                click.echo(f"peers: stopped after {done} of {turns} turns", err=True)
                break
            for row, mine in zip(rows, taken, strict=True):
                bars.update(task, description=f"{row.name}, {row.people} in {row.clip}")
                mine.append(row.turn())
                bars.advance(task)
            keep()
    click.echo(table(rows, [middle(mine) for mine in taken]))


if __name__ == "__main__":
    run(main, "peers")
