"""A clip's joints with identities as a table: python table_supervision.py clip.mp4 out.csv

rtmlib finds the poses, and trackers, which supervision's makers offer, gives the identities:
rtmlib's own tracker does not return them.
"""

import csv
import sys

import numpy as np
import supervision as sv
from rtmlib import Body
from trackers import ByteTrackTracker

rate = sv.VideoInfo.from_video_path(sys.argv[1]).fps
body, tracker = Body(), ByteTrackTracker(frame_rate=rate)
with open(sys.argv[2], "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["frame", "time", "id", "joint", "x", "y", "score"])
    for frame, image in enumerate(sv.get_video_frames_generator(sys.argv[1])):
        keypoints, scores = body(image)
        people = sv.Detections(
            xyxy=np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1),
            confidence=scores.mean(axis=1),
            data={"keypoints": keypoints, "scores": scores},
        )
        tracked = tracker.update(people)
        for person, identity in enumerate(tracked.tracker_id):
            points = zip(tracked["keypoints"][person], tracked["scores"][person], strict=True)
            for joint, ((x, y), score) in enumerate(points):
                table.writerow([frame, frame / rate, identity, joint, x, y, score])
