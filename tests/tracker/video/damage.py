"""Damages clips by a seeded rule and tells what became of each.

``python -m tests.tracker.video.damage CLIP`` prints the table of docs/robustness.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import av
import numpy as np

KINDS = ("bytes flipped", "cut", "headers swapped", "block zeroed", "blocks exchanged")
CONTAINERS = (".mp4", ".avi", ".mkv", ".ts")
OUTCOMES = ("all frames", "fewer, and said so", "fewer, no word", "refused", "traceback", "hang")
SECONDS = 5
LIMIT = 30.0
"""Seconds after which one input counts as a hang."""

WORKER = """
import logging, sys
from pathlib import Path
from hrtrack.errors import HrtrackError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.video.open import open_source
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.base import parse_save

class Count(logging.Handler):
    def emit(self, record):
        self.count += 1

warned = Count()
logging.getLogger("hrtrack").addHandler(warned)
for line in sys.stdin:
    path = line.strip()
    frames, code, warned.count, said = 0, 0, 0, ""
    out = Path(path).with_suffix(".out.mp4")
    try:
        with open_source(path) as source, open_sinks(
            [parse_save(str(out)), parse_save(str(out.with_suffix(".jsonl")))],
            source=source, skeleton=COCO17, overwrite=True,
        ) as sinks:
            for frame in source:
                sinks.write(
                    frame, Poses.empty(frame.index, frame.time, 17), lambda: frame.image
                )
                frames += 1
    except HrtrackError as error:
        code, said = error.exit_code, str(error)
    print(frames, code, warned.count, said.count("\\n"), flush=True)
"""


def bases(clip: Path, folder: Path) -> dict[str, bytes]:
    """The beginning of a clip, packet by packet, in every container."""
    found = {}
    for suffix in CONTAINERS:
        path = folder / f"base{suffix}"
        with av.open(str(clip)) as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is None or float(packet.dts * packet.time_base) >= SECONDS:
                    continue
                packet.stream = stream
                out.mux(packet)
        found[suffix] = path.read_bytes()
    return found


def damaged(data: bytes, other: bytes, kind: str, random: np.random.Generator) -> bytes:
    """One damaged copy; ``other`` is the same clip in another container."""
    broken = bytearray(data)
    size = len(broken)
    if kind == "bytes flipped":
        # Half of them near the beginning, where the structure is.
        span = size if random.random() < 0.5 else min(size, 4096)
        for at in random.integers(0, span, random.integers(1, 65)):
            broken[at] ^= int(random.integers(1, 256))
    elif kind == "cut":
        del broken[int(size * random.uniform(0.02, 0.98)) :]
    elif kind == "headers swapped":
        length = int(random.integers(16, 2048))
        broken[:length] = other[:length]
    elif kind == "block zeroed":
        begin, length = int(random.integers(0, size)), int(random.integers(16, 8192))
        broken[begin : begin + length] = bytes(len(broken[begin : begin + length]))
    else:
        length = int(random.integers(64, 4096))
        a, b = (int(at) for at in random.integers(0, size - length, 2))
        broken[a : a + length], broken[b : b + length] = (
            broken[b : b + length],
            broken[a : a + length],
        )
    return bytes(broken)


def run_all(clip: Path, count: int, folder: Path) -> Counter[tuple[str, str, str]]:
    """How often each (container, kind, outcome) came up among ``count`` damaged inputs."""
    whole = bases(clip, folder)
    worker = _Worker()
    expected = {suffix: worker.run(folder / f"base{suffix}") for suffix in whole}
    found: Counter[tuple[str, str, str]] = Counter()
    for number in range(count):
        random = np.random.default_rng(number)
        suffix = CONTAINERS[number % len(CONTAINERS)]
        kind = KINDS[number // len(CONTAINERS) % len(KINDS)]
        other = whole[CONTAINERS[(number + 1) % len(CONTAINERS)]]
        path = folder / f"damaged{number}{suffix}"
        path.write_bytes(damaged(whole[suffix], other, kind, random))
        outcome = worker.run(path)
        if isinstance(outcome, str):
            name, worker = outcome, _Worker()
        else:
            frames, code, warnings, breaks = outcome
            assert not breaks, "an error of more than one line"
            if frames == 0:
                name = "refused" if code else "traceback"
            elif frames >= expected[suffix][0] and not code:
                name = "all frames"
            else:
                name = "fewer, and said so" if code or warnings else "fewer, no word"
        found[suffix, kind, name] += 1
        path.unlink()
    worker.end()
    return found


class _Worker:
    """The process that opens the inputs, so that a crash or a hang costs only itself."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, path: Path) -> tuple[int, int, int, int] | str:
        """Frames, exit code, warnings and line breaks in the error; or how it went wrong."""
        import threading

        assert self._process.stdin is not None
        assert self._process.stdout is not None
        alarm = threading.Timer(LIMIT, self._process.kill)
        alarm.start()
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        hung = not alarm.is_alive()
        alarm.cancel()
        if not line:
            self._process.wait()
            return "hang" if hung else "traceback"
        frames, code, warnings, breaks = (int(field) for field in line.split())
        return frames, code, warnings, breaks

    def end(self) -> None:
        """Lets the process go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)


def table(found: Counter[tuple[str, str, str]]) -> str:
    """The outcomes as a Markdown table, by container and by kind of damage."""
    lines = ["| | inputs | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for place, names in ((0, CONTAINERS), (1, KINDS)):
        for name in names:
            row = [sum(n for key, n in found.items() if key[place] == name and key[2] == outcome)
                   for outcome in OUTCOMES]  # fmt: skip
            lines.append(f"| {name} | {sum(row)} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(table(run_all(Path(sys.argv[1]), 200, Path(scratch))))
