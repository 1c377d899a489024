"""FPS of a plain two-stage loop on a clip: a detector in every frame, then one box at a time.

This is how a first script drives two ONNX files with ONNX Runtime (or rtmlib its models): the
reference that `hrtrack bench pipeline` is compared with.

    python benchmarks/plain_loop.py CLIP FRAMES DETECTOR.onnx POSE.onnx [MOST [THREADS [file]]]

takes a DEIM / RT-DETR style detector (images, orig_target_sizes -> labels, boxes, scores) and a
heatmap model with a float32 NCHW input. MOST keeps so many of the likeliest boxes of a frame, as
`--max-people` does. With ``file`` the frames are afterwards read, drawn on and written once more,
with OpenCV, as MPEG-4 Part 2, for OpenCV's wheels have no encoder for H.264. Prints one line of
JSON; its processor time counts what ONNX Runtime's threads spend waiting in a loop, so compare that
with THREADS 1 and `--threads 1`.
"""

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peer_clip import annotate, read

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
MIN_SCORE = 0.45
PADDING = 1.25
LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12), (11, 13), (13, 15),
         (12, 14), (14, 16))  # fmt: skip


def load(path: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def detect(session: onnxruntime.InferenceSession, image: np.ndarray, most: int) -> np.ndarray:
    side = session.get_inputs()[0].shape[2]
    pixels = cv2.resize(image, (side, side)).astype(np.float32).transpose(2, 0, 1)[None] / 255
    size = np.array([[image.shape[1], image.shape[0]]], np.int64)
    feeds = dict(zip([one.name for one in session.get_inputs()], (pixels, size), strict=True))
    names = [one.name for one in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds), strict=True))
    keep = (found["labels"][0] == 0) & (found["scores"][0] >= MIN_SCORE)
    best = np.argsort(-found["scores"][0][keep])[:most]
    return found["boxes"][0][keep][best]


def estimate(
    session: onnxruntime.InferenceSession, image: np.ndarray, box: np.ndarray
) -> np.ndarray:
    height, width = session.get_inputs()[0].shape[2:]
    centre = (box[:2] + box[2:]) / 2
    tall = max(box[3] - box[1], (box[2] - box[0]) * height / width) * PADDING
    scale = height / tall
    affine = np.array(
        [[scale, 0, width / 2 - scale * centre[0]], [0, scale, height / 2 - scale * centre[1]]]
    )
    crop = cv2.warpAffine(image, affine, (width, height))
    pixels = ((crop / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)[None]
    maps = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
    joints = maps.reshape(len(maps), -1).argmax(axis=1)
    points = np.stack([joints % maps.shape[2], joints // maps.shape[2]], axis=1) * 4.0
    return (points - affine[:, 2]) / scale


def draw(frame: np.ndarray, box: np.ndarray, joints: np.ndarray) -> None:
    x0, y0, x1, y1 = box.astype(int).tolist()
    cv2.rectangle(frame, (x0, y0), (x1, y1), (0, 200, 0), 2)
    points = joints.astype(int).tolist()
    for a, b in LIMBS:
        cv2.line(frame, points[a], points[b], (0, 120, 255), 2, cv2.LINE_AA)


def main(
    clip: str,
    count: int,
    detector_path: str,
    pose_path: str,
    most: int,
    threads: int,
    whole: bool,
) -> None:
    frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in read(clip, count)]
    detector, pose = load(detector_path, threads), load(pose_path, threads)
    people = 0

    def step(frame: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        boxes = detect(detector, frame, most)
        return [(box, estimate(pose, frame, box)) for box in boxes]

    def draw_people(frame: np.ndarray) -> None:
        for box, joints in step(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)):
            draw(frame, box, joints)

    for frame in frames[:5]:
        step(frame)
    start, cpu = time.perf_counter(), time.process_time()
    for frame in frames:
        people += len(step(frame))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    count = len(frames)
    found = {"name": "plain loop: detector every frame, one box at a time", "frames": count}
    found |= {"fps": count / seconds, "people": people / count, "cpu_ms": cpu / count * 1e3}
    if whole:
        frames.clear()
        found |= annotate(clip, count, draw_people)
    print(json.dumps(found))


if __name__ == "__main__":
    limit = int(sys.argv[5]) if len(sys.argv) > 5 else sys.maxsize
    count = int(sys.argv[6]) if len(sys.argv) > 6 else 0
    whole = "file" in sys.argv[7:]
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], limit, count, whole)
