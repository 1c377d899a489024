"""Several cameras share one tracker, each in a thread: python two_cameras.py left.mp4 right.mp4"""

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2

from hrtrack import Tracker


def follow(name: str) -> int:
    stream, capture = tracker.new_stream(), cv2.VideoCapture(name)
    people = set[int]()
    while (read := capture.read())[0]:
        poses = stream.update(read[1], capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        people |= {person.id for person in poses}
    return len(people)


with Tracker(color="bgr") as tracker, ThreadPoolExecutor() as pool:
    for name, count in zip(sys.argv[1:], pool.map(follow, sys.argv[1:]), strict=True):
        print(f"{name}: {count} people")
