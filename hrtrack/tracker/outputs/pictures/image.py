"""An annotated picture, for a source that is one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....errors import SinkError, write_error
from ....writable import atomic_write
from ..base import Target

if TYPE_CHECKING:
    from ....poses import Poses
    from ...video.frame import Frame
    from ..base import Picture, Run


def write_image(path: str | Path, image_HW3: NDArray[np.uint8]) -> None:
    """Writes (H, W, 3) uint8 RGB as the suffix says; SinkError when it cannot be."""
    import cv2

    path = Path(path)
    good, data = cv2.imencode(path.suffix, cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR))
    if not good:
        raise SinkError(f"{path} cannot be encoded as {path.suffix[1:]}")
    try:
        with atomic_write(path) as part:
            part.write_bytes(data.tobytes())
    except OSError as error:
        raise write_error(path, error) from None


class Image:
    """Writes the drawn frame of a picture source."""

    def __init__(self, target: Target, run: Run) -> None:
        if run.source.kind != "image":
            raise SinkError(
                f"{target.path} is a picture but {run.source.name} is not; "
                "name a video (.mp4) to write"
            )
        self._path = target.path

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Writes the picture."""
        write_image(self._path, picture())
        return True

    def close(self, *, complete: bool) -> None:
        """Nothing is left to do."""
