"""The people of two cameras at a time: python cameras_hrtrack.py 0 1

Two videos work, too, but their times are not the clock's: see examples/two_cameras.py.
The command `hrtrack -s webcam:0 -s webcam:1 --save all.csv` keeps them in one table.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2

from hrtrack import Tracker


def follow(name: str) -> None:
    capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
    stream = tracker.new_stream()
    while (read := capture.read())[0]:
        for person in stream.update(read[1]):
            print(name, person.id, *person["nose"])


with Tracker(color="bgr") as tracker, ThreadPoolExecutor() as pool:
    list(pool.map(follow, sys.argv[1:]))
