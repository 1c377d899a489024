"""Your own OpenCV loop: python opencv_loop.py clip.mp4 out.mp4"""

import sys

import cv2

from hrtrack import Tracker

capture = cv2.VideoCapture(sys.argv[1])
size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
fps, codec = capture.get(cv2.CAP_PROP_FPS), cv2.VideoWriter.fourcc(*"mp4v")
writer = cv2.VideoWriter(sys.argv[2], codec, fps, size)
with Tracker(color="bgr") as tracker:
    while (read := capture.read())[0]:
        # For a camera, leave out the time: hrtrack then takes the clock's.
        poses = tracker.update(read[1], capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        for person in poses:
            print(poses.frame, person.id, person["left_wrist"].x, person["left_wrist"].y)
        writer.write(tracker.draw(read[1], poses))
writer.release()
