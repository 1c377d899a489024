"""The angle of everybody's left knee over time: python knee_hrtrack.py clip.mp4"""

import sys

import numpy as np

from hrtrack import Tracker

with Tracker() as tracker:
    for frame, poses in tracker.track(sys.argv[1]):
        for person in poses:
            joints = ("left_hip", "left_knee", "left_ankle")
            hip, knee, ankle = (complex(*person[joint][:2]) for joint in joints)
            angle = abs(np.angle((hip - knee) * (ankle - knee).conjugate(), deg=True))
            print(f"{frame.time:.2f} s: person {person.id}, {angle:.0f} degrees")
