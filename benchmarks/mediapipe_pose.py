"""FPS of MediaPipe Pose (full) on a clip: a peer for `hrtrack bench` and `benchmarks.peers`.

    python benchmarks/mediapipe_pose.py CLIP FRAMES [file]

Run by `hrtrack bench pipeline CLIP --compare benchmarks/mediapipe_pose.py --peer-python PY`
with a Python that has mediapipe 0.10.21 and opencv. Frames are in memory; with ``file`` the frames
are afterwards read, drawn on and written once more, with OpenCV, as MPEG-4 Part 2, for OpenCV's
wheels have no encoder for H.264. Prints one line of JSON.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator

import cv2
import mediapipe as mp
import numpy as np


def read(clip: str, count: int) -> Iterator[np.ndarray]:
    """The first frames of a clip, in OpenCV's BGR."""
    video = cv2.VideoCapture(clip)
    for _ in range(count):
        good, frame = video.read()
        if not good:
            return
        yield frame


def annotate(clip: str, count: int) -> dict[str, float]:
    """The same, from file to annotated file."""
    drawing, lines = mp.solutions.drawing_utils, mp.solutions.pose.POSE_CONNECTIONS
    pose = mp.solutions.pose.Pose(model_complexity=1)
    pose.process(np.zeros((64, 64, 3), np.uint8))
    rate = cv2.VideoCapture(clip).get(cv2.CAP_PROP_FPS)
    out: cv2.VideoWriter | None = None
    seen = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "out.mp4")
        start, cpu = time.perf_counter(), time.process_time()
        for frame in read(clip, count):
            if out is None:
                size = frame.shape[1], frame.shape[0]
                out = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            found = pose.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).pose_landmarks
            if found is not None:
                drawing.draw_landmarks(frame, found, lines)
            out.write(frame)
            seen += 1
        if out is not None:
            out.release()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"file_fps": seen / seconds, "file_cpu_ms": cpu / seen * 1e3}


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
        found |= annotate(clip, count)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "file" in sys.argv[3:])
