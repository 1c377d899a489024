"""Draws everybody's skeleton into a video: python video_supervision.py clip.mp4 out.mp4

supervision reads, draws and writes; rtmlib finds the poses.
"""

import sys
from typing import Any

import supervision as sv
from rtmlib import Body, PoseTracker

tracker, edges = PoseTracker(Body), sv.EdgeAnnotator()


def draw(image: Any, index: int) -> Any:
    keypoints, scores = tracker(image)
    return edges.annotate(image, sv.KeyPoints(keypoints, keypoint_confidence=scores))


sv.process_video(sys.argv[1], sys.argv[2], draw, preserve_audio=True)
