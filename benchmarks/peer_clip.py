"""What the peers share: reading a clip and timing it from file to annotated file.

Their Python need not have hrtrack, so only OpenCV and NumPy are used here.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np


def read(clip: str, count: int) -> Iterator[np.ndarray]:
    """The first frames of a clip, in OpenCV's BGR."""
    video = cv2.VideoCapture(clip)
    for _ in range(count):
        good, frame = video.read()
        if not good:
            return
        yield frame


def annotate(clip: str, count: int, draw_people: Callable[[np.ndarray], None]) -> dict[str, float]:
    """FPS and processor time a frame (ms) from file to annotated file.

    ``draw_people`` finds the people of a BGR frame and draws them on it. The file is MPEG-4 Part 2,
    for OpenCV's wheels have no encoder for H.264.
    """
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
            draw_people(frame)
            out.write(frame)
            seen += 1
        if out is not None:
            out.release()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"file_fps": seen / seconds, "file_cpu_ms": cpu / seen * 1e3}
