"""Draws one person's skeleton into a video: python video_mediapipe.py clip.mp4 out.mp4"""

import sys

import cv2
import mediapipe as mp

capture = cv2.VideoCapture(sys.argv[1])
rate = capture.get(cv2.CAP_PROP_FPS)
pose, writer = mp.solutions.pose.Pose(), cv2.VideoWriter()
while (read := capture.read())[0]:
    image = read[1]
    if not writer.isOpened():
        writer.open(sys.argv[2], cv2.VideoWriter.fourcc(*"mp4v"), rate, image.shape[1::-1])
    found = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).pose_landmarks
    mp.solutions.drawing_utils.draw_landmarks(image, found, mp.solutions.pose.POSE_CONNECTIONS)
    writer.write(image)
writer.release()
