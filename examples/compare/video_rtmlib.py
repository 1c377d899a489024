"""Draws everybody's skeleton into a video: python video_rtmlib.py clip.mp4 out.mp4"""

import sys

import cv2
from rtmlib import Body, PoseTracker, draw_skeleton

capture = cv2.VideoCapture(sys.argv[1])
rate = capture.get(cv2.CAP_PROP_FPS)
tracker, writer = PoseTracker(Body), cv2.VideoWriter()
while (read := capture.read())[0]:
    image = read[1]
    if not writer.isOpened():
        writer.open(sys.argv[2], cv2.VideoWriter.fourcc(*"mp4v"), rate, image.shape[1::-1])
    keypoints, scores = tracker(image)
    writer.write(draw_skeleton(image, keypoints, scores))
writer.release()
