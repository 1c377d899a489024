"""The people of two cameras at a time: python cameras_rtmlib.py 0 1 (or two videos)

Without identities, and with networks of its own for each camera.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
from rtmlib import Body, PoseTracker


def follow(name: str) -> None:
    capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
    tracker = PoseTracker(Body)
    while (read := capture.read())[0]:
        for points, scores in zip(*tracker(read[1]), strict=True):
            print(name, *points[0], scores[0])


with ThreadPoolExecutor() as pool:
    list(pool.map(follow, sys.argv[1:]))
