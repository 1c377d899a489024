"""Zones and annotators of supervision on hrtrack's poses: python supervision_zone.py a.mp4 out.png

Prints who is in the left half of a picture of 640x360, and writes the last picture.
"""

import sys

import cv2
import numpy as np
import supervision as sv

from hrtrack import Tracker

left_half = sv.PolygonZone(np.array([[0, 0], [320, 0], [320, 360], [0, 360]]))
with Tracker(color="bgr") as tracker:
    for frame, poses in tracker.track(sys.argv[1]):
        key_points, detections = poses.to_supervision()
        inside = detections[left_half.trigger(detections)]
        print(frame.index, "in the left half:", inside.tracker_id)
        scene = sv.EdgeAnnotator().annotate(frame.image.copy(), key_points)
        scene = sv.BoxAnnotator().annotate(scene, detections)
cv2.imwrite(sys.argv[2], scene)
