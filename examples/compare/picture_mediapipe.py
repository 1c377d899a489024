"""The keypoints of one person in a picture: python picture_mediapipe.py photo.jpg"""

import sys

import cv2
import mediapipe as mp
import numpy as np

image = cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2RGB)
found = mp.solutions.pose.Pose(static_image_mode=True).process(image).pose_landmarks
if found:
    places = np.array([[point.x, point.y] for point in found.landmark])
    print(places * image.shape[1::-1])
