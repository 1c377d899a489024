"""The angle of one person's left knee over time: python knee_mediapipe.py clip.mp4

From MediaPipe's estimate of depth, which the others do not have, it could be an angle in space.
"""

import sys

import cv2
import mediapipe as mp
import numpy as np

capture, pose = cv2.VideoCapture(sys.argv[1]), mp.solutions.pose.Pose()
while (read := capture.read())[0]:
    time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    height, width = read[1].shape[:2]
    found = pose.process(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)).pose_landmarks
    if found:
        points = (found.landmark[joint] for joint in (23, 25, 27))
        hip, knee, ankle = (complex(point.x * width, point.y * height) for point in points)
        angle = abs(np.angle((hip - knee) * (ankle - knee).conjugate(), deg=True))
        print(f"{time:.2f} s: {angle:.0f} degrees")
