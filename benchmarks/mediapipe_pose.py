"""FPS of MediaPipe Pose (full) on a clip, frames in memory: a peer for `hrtrack bench`.

Run by `hrtrack bench pipeline CLIP --compare benchmarks/mediapipe_pose.py --peer-python PY`
with a Python that has mediapipe 0.10.21 and opencv. Prints one line of JSON.
"""

import json
import sys
import time

import cv2
import mediapipe as mp
import numpy as np


def main(clip: str, count: int) -> None:
    video = cv2.VideoCapture(clip)
    frames: list[np.ndarray] = []
    while len(frames) < count:
        good, frame = video.read()
        if not good:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    pose = mp.solutions.pose.Pose(model_complexity=1)
    for frame in frames[:10]:
        pose.process(frame)
    start, cpu = time.perf_counter(), time.process_time()
    people = sum(pose.process(frame).pose_landmarks is not None for frame in frames)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    count = len(frames)
    found = {"name": f"MediaPipe Pose full {mp.__version__}", "frames": count}
    found |= {"fps": count / seconds, "people": people / count, "cpu_ms": cpu / count * 1e3}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
