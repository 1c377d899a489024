"""A node for a framework that calls a function with every picture, as ROS does.

Subscribe `on_image` to the pictures, and pass a function that publishes text to `PoseNode`. The
arguments of `on_image` are the fields of ROS's sensor_msgs/Image with the encoding bgr8; `stamp`
is the time in seconds.
"""

import json
from collections.abc import Callable

import numpy as np

from hrtrack import Tracker


class PoseNode:
    def __init__(self, publish: Callable[[str], object]) -> None:
        self.publish, self.tracker = publish, Tracker(max_people=3, color="bgr")

    def on_image(self, stamp: float, height: int, width: int, data: bytes) -> None:
        image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        poses = self.tracker.update(image, stamp)
        self.publish(json.dumps(poses.to_dict()))
