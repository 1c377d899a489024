"""What a sink is, and what it is told about the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..stopwatch import Stopwatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...poses import Poses
    from ...skeleton import Skeleton
    from ..frame import Frame
    from ..source_base import Source

    Picture = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class Run:
    """The run whose results are written; ``model`` is what the outputs say of its maker."""

    source: Source
    skeleton: Skeleton
    model: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False
    stopwatch: Stopwatch = field(default_factory=Stopwatch)


class Sink(Protocol):
    """Takes every frame's people; calls ``picture`` only when it needs to see them drawn, now or
    later, on whatever thread."""

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Takes one frame; False asks the run to end. SinkError when it cannot be kept."""
        ...

    def close(self, *, complete: bool) -> None:
        """Finishes the output; ``complete`` unless the run was broken off."""
        ...
