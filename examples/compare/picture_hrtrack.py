"""The keypoints of everybody in a picture: python picture_hrtrack.py photo.jpg"""

import sys

from hrtrack import Tracker

with Tracker() as tracker:
    print(tracker.image(sys.argv[1]).keypoints)
