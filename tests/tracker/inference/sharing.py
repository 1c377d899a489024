"""Waiting for what is compiled beside the loop."""

from __future__ import annotations

import time

from hrtrack.tracker.inference.backends.openvino import OpenVinoNetwork

PATIENCE = 60.0


def until_shared(network: OpenVinoNetwork) -> None:
    """Returns when the network may run several crops at a time."""
    end = time.monotonic() + PATIENCE
    while not network._may_share():
        assert time.monotonic() < end, "nothing was compiled for several crops"
        time.sleep(0.01)
