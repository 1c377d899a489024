"""hrtrack: real-time human pose tracking with HRNet."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import HrtrackError as HrtrackError
    from .poses import Poses as Poses
    from .skeleton import Skeleton as Skeleton
    from .tracker.api import Tracker as Tracker
    from .tracker.options import TrackerOptions as TrackerOptions
    from .tracker.outputs.results.read import read_results as read_results
    from .tracker.outputs.results.read import to_dataframe as to_dataframe

__version__ = "0.2.0"
__all__ = [
    "HrtrackError",
    "Poses",
    "Skeleton",
    "Tracker",
    "TrackerOptions",
    "__version__",
    "read_results",
    "to_dataframe",
]

_PLACES = {
    "HrtrackError": "errors",
    "Poses": "poses",
    "Skeleton": "skeleton",
    "Tracker": "tracker.api",
    "TrackerOptions": "tracker.options",
    "read_results": "tracker.outputs.results.read",
    "to_dataframe": "tracker.outputs.results.read",
}


def __getattr__(name: str) -> object:
    # Loading the tracker loads OpenCV and a back end, which `import hrtrack` must not.
    if name in _PLACES:
        return getattr(import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module 'hrtrack' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
