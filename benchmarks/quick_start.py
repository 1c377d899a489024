"""From the command to the first skeleton on disk: hrtrack, cold and warm, beside MediaPipe Pose.

    python -m benchmarks.quick_start CLIP --mediapipe PYTHON --turns 5

Each turn starts three commands, each in a new process: hrtrack with an empty cache folder
(``cold``: the networks are compiled and kept), hrtrack with what the first left there (``warm``),
and MediaPipe Pose full. The clock stops when the first skeleton is in the file of the results; the
process is then ended. The libraries' files may be in the system's memory in all three, and Python
keeps what it compiled of their modules, as after an installation with pip.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click

from hrtrack.cli import run
from hrtrack.cli.info import gather
from hrtrack.errors import HrtrackError

LIMIT = 120.0
PEER = """
import json, sys
import cv2
import mediapipe as mp
video = cv2.VideoCapture(sys.argv[1])
with mp.solutions.pose.Pose(model_complexity=1) as pose, open(sys.argv[2], "w") as out:
    while True:
        good, frame = video.read()
        if not good:
            break
        found = pose.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).pose_landmarks
        if found is not None:
            joints = [[one.x, one.y, one.visibility] for one in found.landmark]
            out.write(json.dumps({"keypoints": joints}) + "\\n")
            out.flush()
"""


def first_skeleton(command: Sequence[str], results: Path, environment: dict[str, str]) -> float:
    """Seconds from the start of a command to the first skeleton in its results; ends it then."""
    began = time.perf_counter()
    process = subprocess.Popen(
        list(command), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while not has_skeleton(results):
            if process.poll() is not None and not has_skeleton(results):
                said = (process.stderr.read() if process.stderr else b"").decode().split("\n")
                raise HrtrackError(
                    f"{command[0]} ended without a skeleton: {' '.join(said)[-200:]}"
                )
            if time.perf_counter() - began > LIMIT:
                raise HrtrackError(f"{command[0]} gave no skeleton in {LIMIT:.0f} s")
            time.sleep(0.002)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.communicate()


def has_skeleton(results: Path) -> bool:
    """Whether a file has a whole line with somebody in it."""
    if not results.exists():
        return False
    *lines, _ = results.read_text(encoding="utf-8").split("\n")
    return any('"keypoints"' in line for line in lines)


@click.command(help=__doc__)
@click.argument("clip", type=click.Path(exists=True, dir_okay=False))
@click.option("--mediapipe", help="A Python that has mediapipe 0.10.21.")
@click.option("--turns", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(clip: str, mediapipe: str | None, turns: int, json_path: Path | None) -> None:
    found: dict[str, list[float]] = {"hrtrack cold": [], "hrtrack warm": []}
    if mediapipe is not None:
        found["MediaPipe Pose full"] = []
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "HRTRACK_CACHE": str(Path(folder) / "cache")}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            for name, times in found.items():
                results = Path(folder) / f"{name.replace(' ', '_')}.jsonl"
                command = [sys.executable, "-m", "hrtrack", "-s", clip, "--save", str(results)]
                if name == "hrtrack warm":  # what is kept may be written after the first results
                    finish(clip, environment)
                if name.startswith("MediaPipe"):
                    assert mediapipe is not None
                    command = [mediapipe, "-c", PEER, clip, str(results)]
                times.append(first_skeleton(command, results, environment))
    lines = ["| start | seconds | all turns |", "| --- | --- | --- |"]
    for name, times in found.items():
        turns_text = ", ".join(f"{one:.2f}" for one in times)
        lines.append(f"| {name} | {median(times):.2f} | {turns_text} |")
    click.echo("\n".join(lines))
    if json_path is not None:
        whole = {"machine": gather()["machine"], "seconds": found}
        json_path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def finish(clip: str, environment: dict[str, str]) -> None:
    """Runs the first second of the clip to its end, so that all that is kept is on disk."""
    command = [sys.executable, "-m", "hrtrack", "-s", clip, "--end", "1", "-q"]
    command += ["--save", f"jsonl:{os.devnull}"]
    subprocess.run(command, env=environment, check=True, capture_output=True)


if __name__ == "__main__":
    run(main, "quick_start")
