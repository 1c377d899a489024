"""The angle of everybody's left knee over time: python knee_rtmlib.py clip.mp4

Nobody has an identity, so a curve of one person needs a clip of one person.
"""

import sys

import cv2
import numpy as np
from rtmlib import Body, PoseTracker

capture, tracker = cv2.VideoCapture(sys.argv[1]), PoseTracker(Body)
while (read := capture.read())[0]:
    time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    for points in tracker(read[1])[0]:
        hip, knee, ankle = (complex(*points[joint]) for joint in (11, 13, 15))
        angle = abs(np.angle((hip - knee) * (ankle - knee).conjugate(), deg=True))
        print(f"{time:.2f} s: {angle:.0f} degrees")
