"""A long live run over loopback: do memory, age of frames and identities stay flat?

    python -m benchmarks.soak CLIP [--minutes 30] [--restarts 2] [--json FILE]

A server process sends the clip forwards and backwards without end, and is killed and started anew
``--restarts`` times at even distances. Prints a line a minute, and at the end, by figures, what is
flat and what is not; the exit code is 1 where something is not. It reads ``/proc``: Linux only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.live_file import restamped
from benchmarks.stream_server import Recording, serving
from hrtrack.cli import run as run_command
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.video.open import LiveOptions, open_source

MOST_GROWTH = 0.05
"""Memory may grow by this share from the first third to the last, caches that fill included."""
MOST_AGE = 1.5
"""The 95th percentile of the age may grow by this factor, and by `AGE_SLACK` milliseconds."""
AGE_SLACK = 20.0
DOWN = 3.0
"""Seconds that a restarted server is away."""


@dataclass(frozen=True)
class Minute:
    """What happened in one minute; ``memory`` in MiB, ``age`` in milliseconds.

    ``new`` counts identities first seen in it, ``restarts`` the server's starts anew; ``files``
    are the open file descriptors.
    """

    minute: int
    frames: int
    dropped: int
    memory: float
    threads: int
    files: int
    age: float
    people: float
    new: int
    restarts: int


def memory() -> float:
    """The process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class RestartingServer:
    """Serves a recording and is killed and started anew at given seconds."""

    def __init__(self, recording: Recording, at: list[float]) -> None:
        self.count = 0
        self._recording = recording
        self._at = at
        self._over = threading.Event()
        self._stack = ExitStack()
        self.url = self._stack.enter_context(serving(recording, recording.rate)).url
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._stack.close()

    def _work(self) -> None:
        began, port = time.monotonic(), int(self.url.rsplit(":", 1)[1])
        for seconds in self._at:
            if self._over.wait(max(0.0, began + seconds - time.monotonic())):
                return
            self._stack.close()
            self.count += 1
            if self._over.wait(DOWN):
                return
            self._stack.enter_context(serving(self._recording, self._recording.rate, port))


def soak(recording: Recording, minutes: float, restarts: int, threads: int | None) -> list[Minute]:
    """Tracks the recording for so long; tells every minute on standard error."""
    at = [60 * minutes * (k + 1) / (restarts + 1) for k in range(restarts)]
    server = RestartingServer(recording, at)
    rows: list[Minute] = []
    known: set[int] = set()
    ages: list[float] = []
    people, new, dropped, started = 0, 0, 0, 0
    try:
        with Tracker(threads=threads) as tracker:
            began = time.monotonic()
            for frame, poses in tracker.track(server.url, live=LiveOptions(reconnect="forever")):
                now = time.monotonic()
                ages.append(now - (frame.arrived or now))
                people += len(poses)
                ids = set(poses.ids.tolist())
                new += len(ids - known)
                known |= ids
                if now - began < 60 * (len(rows) + 1):
                    continue
                rows.append(
                    Minute(
                        len(rows) + 1,
                        len(ages),
                        frame.dropped - dropped,
                        memory(),
                        threading.active_count(),
                        len(os.listdir("/proc/self/fd")),
                        1e3 * float(np.percentile(ages, 95)),
                        people / len(ages),
                        new,
                        server.count - started,
                    )
                )
                click.echo(" ".join(f"{k}={v:g}" for k, v in asdict(rows[-1]).items()), err=True)
                ages, people, new, dropped, started = [], 0, 0, frame.dropped, server.count
                if len(rows) >= minutes:
                    break
    finally:
        server.close()
    return rows


def verdicts(rows: list[Minute]) -> dict[str, dict[str, float | bool]]:
    """First third against last third; the first minute fills caches and does not count."""
    rows = rows[1:] if len(rows) > 3 else rows
    third = max(1, len(rows) // 3)
    first, last = rows[:third], rows[-third:]
    result: dict[str, dict[str, float | bool]] = {}
    for name in ("memory", "age", "people", "threads", "files"):
        before, after = (
            float(np.mean([getattr(row, name) for row in part])) for part in (first, last)
        )
        limit = {
            "memory": before * (1 + MOST_GROWTH),
            "age": before * MOST_AGE + AGE_SLACK,
            "people": np.inf,
            "threads": before + 0.5,
            "files": before + 0.5,
        }[name]
        flat = after <= limit and (name != "people" or after >= 0.9 * before)
        result[name] = {"first": before, "last": after, "flat": bool(flat)}
    minutes = [row.minute for row in rows]
    if len(rows) > 1:
        slope = np.polyfit(minutes, [row.memory for row in rows], 1)[0]
        result["memory"]["mib_an_hour"] = 60 * float(slope)
    # Whoever is in view when the server goes comes back as somebody new.
    shown = max(row.people for row in rows)
    allowed = sum(np.ceil(shown) * row.restarts for row in rows)
    later = sum(row.new for row in rows if row.minute > 1)
    result["identities"] = {"new": later, "allowed": float(allowed), "flat": bool(later <= allowed)}
    return result


@click.command(help=__doc__)
@click.argument("clip", type=click.Path(True, path_type=Path))
@click.option("--minutes", default=30, help="How long.")
@click.option("--restarts", default=2, help="How often the server goes and comes back.")
@click.option("--rate", type=float, help="Frames a second; the clip's own by default.")
@click.option("--threads", type=int, help="CPU threads of the networks.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything here.")
def main(
    clip: Path,
    minutes: int,
    restarts: int,
    rate: float | None,
    threads: int | None,
    json_path: Path | None,
) -> None:
    with open_source(str(clip)) as source:
        own = float(source.fps or 30)
        count = sum(1 for _ in source)
    rate = rate or own
    order = restamped(count, own, rate, None).order
    recording = Recording(clip, order + order[-2:0:-1], rate, endless=True)
    rows = soak(recording, minutes, restarts, threads)
    judged = verdicts(rows)
    for name, values in judged.items():
        figures = ", ".join(f"{key} {value:.4g}" for key, value in values.items() if key != "flat")
        click.echo(f"{name}: {figures}: {'flat' if values['flat'] else 'NOT flat'}")
    if json_path is not None:
        report = {"minutes": [asdict(row) for row in rows], "verdicts": judged}
        json_path.write_text(json.dumps(report, indent=1) + "\n")
    if not all(values["flat"] for values in judged.values()):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, "soak")
