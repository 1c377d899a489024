"""hrtrack: real-time human pose tracking with HRNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tracker.api import Tracker as Tracker

__version__ = "0.1.0"
__all__ = ["Tracker", "__version__"]


def __getattr__(name: str) -> object:
    # Loading the tracker loads OpenCV and a back end, which `import hrtrack` must not.
    if name == "Tracker":
        from .tracker.api import Tracker

        return Tracker
    raise AttributeError(f"module 'hrtrack' has no attribute '{name}'")
