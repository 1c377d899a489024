"""One person in each of two cameras: python cameras_mediapipe.py 0 1 (or two videos)"""

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import mediapipe as mp


def follow(name: str) -> None:
    capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
    pose = mp.solutions.pose.Pose()
    while (read := capture.read())[0]:
        height, width = read[1].shape[:2]
        found = pose.process(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)).pose_landmarks
        if found:
            nose = found.landmark[mp.solutions.pose.PoseLandmark.NOSE]
            print(name, nose.x * width, nose.y * height, nose.visibility)


with ThreadPoolExecutor() as pool:
    list(pool.map(follow, sys.argv[1:]))
