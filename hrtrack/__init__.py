"""hrtrack: real-time human pose tracking with HRNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tracker.api import Tracker as Tracker
    from .tracker.api import TrackerOptions as TrackerOptions

__version__ = "0.1.0"
__all__ = ["Tracker", "TrackerOptions", "__version__"]


def __getattr__(name: str) -> object:
    # Loading the tracker loads OpenCV and a back end, which `import hrtrack` must not.
    if name in ("Tracker", "TrackerOptions"):
        from .tracker import api

        return getattr(api, name)
    raise AttributeError(f"module 'hrtrack' has no attribute '{name}'")
