"""A quick start: the pose network loads while a command's other modules are imported.

Importing them takes Python's lock, compiling a network does not: on two cores both take as long
as the longer of the two.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..tracker.options import TrackerOptions

if TYPE_CHECKING:
    from ..models.network import PoseNetwork


class Ahead:
    """Begins to open the pose network of ``options`` on a thread, if OpenVINO may run it."""

    def __init__(self, options: TrackerOptions) -> None:
        # NumPy's threads for large matrices, of which the tracker has none, take a tenth of a
        # second to start.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._coming: Future[PoseNetwork | None] | None = None
        if options.backend in ("auto", "openvino"):
            worker = ThreadPoolExecutor(1, "load")
            self._coming = worker.submit(_open, options)
            worker.shutdown(wait=False)

    def network(self) -> PoseNetwork | None:
        """The network, once it is open; None if nobody opens it ahead.

        Raises:
            HrtrackError: what opening it raised.
        """
        return None if self._coming is None else self._coming.result()


def _open(options: TrackerOptions) -> PoseNetwork | None:
    from ..models.runtimes.openvino import import_lean
    from ..models.zoo import local_path
    from ..tracker.inference.backends.base import CHECKPOINTS
    from ..tracker.inference.open import nvidia_driver_present, open_pose

    if nvidia_driver_present():
        return None  # which takes PyTorch
    # Ctrl-C could not end a download on this thread, and a checkpoint is converted by the command.
    path = local_path(options.model)
    if path is None or path.suffix in CHECKPOINTS:
        return None
    import_lean()
    return open_pose(options)
