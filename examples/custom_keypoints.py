"""A model with keypoints of your own (docs/custom.md): python custom_keypoints.py mine.onnx a.mp4

The model file holds the names of the joints; poses and results files use these names.
"""

import sys

from hrtrack import Tracker

with Tracker(sys.argv[1]) as tracker:
    print("joints:", ", ".join(tracker.skeleton.joints))
    for frame, poses in tracker.track(sys.argv[2]):
        for person in poses:
            for joint in tracker.skeleton.joints:
                x, y, score = person[joint]
                print(f"{frame.time:.2f} s: {joint} of {person.id} at {x:.0f}, {y:.0f}")
