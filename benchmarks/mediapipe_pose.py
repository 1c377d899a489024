"""FPS of MediaPipe Pose (full) on a clip: a peer for `hrtrack bench` and `benchmarks.peers`.

    python benchmarks/mediapipe_pose.py CLIP FRAMES [file]

Run by `hrtrack bench pipeline CLIP --compare benchmarks/mediapipe_pose.py --peer-python PY`
with a Python that has mediapipe 0.10.21 and opencv. Frames are in memory; with ``file`` the frames
are afterwards read, drawn on and written once more, with OpenCV, as MPEG-4 Part 2, for OpenCV's
wheels have no encoder for H.264. Prints one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peer_clip import annotate, read


def drawn() -> Callable[[np.ndarray], None]:
    """Finds the person of a frame with a network of its own, already warm, and draws them."""
    drawing, lines = mp.solutions.drawing_utils, mp.solutions.pose.POSE_CONNECTIONS
    pose = mp.solutions.pose.Pose(model_complexity=1)
    pose.process(np.zeros((64, 64, 3), np.uint8))

    def draw(frame: np.ndarray) -> None:
        found = pose.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).pose_landmarks
        if found is not None:
            drawing.draw_landmarks(frame, found, lines)

    return draw


def main(clip: str, count: int, whole: bool) -> None:
    frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in read(clip, count)]
    pose = mp.solutions.pose.Pose(model_complexity=1)
    for frame in frames[:10]:
        pose.process(frame)
    start, cpu = time.perf_counter(), time.process_time()
    people = sum(pose.process(frame).pose_landmarks is not None for frame in frames)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    count = len(frames)
    found = {"name": f"MediaPipe Pose full {mp.__version__}", "frames": count}
    found |= {"fps": count / seconds, "people": people / count, "cpu_ms": cpu / count * 1e3}
    if whole:
        frames.clear()
        found |= annotate(clip, count, drawn())
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "file" in sys.argv[3:])
