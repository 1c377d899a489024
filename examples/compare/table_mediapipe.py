"""One person's joints in a clip as a table: python table_mediapipe.py clip.mp4 out.csv"""

import csv
import sys

import cv2
import mediapipe as mp

capture, pose = cv2.VideoCapture(sys.argv[1]), mp.solutions.pose.Pose()
rate, frame = capture.get(cv2.CAP_PROP_FPS), 0
with open(sys.argv[2], "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["frame", "time", "joint", "x", "y", "score"])
    while (read := capture.read())[0]:
        height, width = read[1].shape[:2]
        found = pose.process(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)).pose_landmarks
        for joint, point in enumerate(found.landmark if found else ()):
            x, y = point.x * width, point.y * height
            table.writerow([frame, frame / rate, joint, x, y, point.visibility])
        frame += 1
