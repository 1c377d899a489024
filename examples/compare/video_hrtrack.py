"""Draws everybody's skeleton into a video: python video_hrtrack.py clip.mp4 out.mp4

The command `hrtrack clip.mp4 -o out.mp4` does the same, and keeps the sound and the times.
"""

import sys

import cv2

from hrtrack import Tracker

rate = cv2.VideoCapture(sys.argv[1]).get(cv2.CAP_PROP_FPS)
writer = cv2.VideoWriter()
with Tracker(color="bgr") as tracker:
    for frame, poses in tracker.track(sys.argv[1]):
        if not writer.isOpened():
            size = frame.image.shape[1::-1]
            writer.open(sys.argv[2], cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        writer.write(tracker.draw(frame.image, poses))
writer.release()
