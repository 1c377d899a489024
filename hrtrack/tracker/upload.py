"""Frames on their way to the GPU: through one page-locked buffer, and once for all who look."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Upload:
    """Carries frames to the device through one reused page-locked buffer.

    The detector, which sees a frame first, keeps it there; the estimator takes it over. Who
    comes with another picture uploads that one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pinned = torch.empty(0, dtype=torch.uint8)
        self._done: torch.cuda.Event | None = None
        self._kept: tuple[NDArray[np.uint8], Tensor] | None = None
        # A live source's detector works on a thread of its own.
        self._lock = threading.Lock()

    def __call__(self, image_HW3: NDArray[np.uint8]) -> Tensor:
        """A frame (H, W, 3) uint8 as a tensor on the device; the copy is queued, not awaited."""
        image = np.ascontiguousarray(image_HW3)
        if self.device.type != "cuda":
            return torch.from_numpy(image.copy()).to(self.device)
        with self._lock:
            if self._pinned.shape != image.shape:
                self._pinned = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
            if self._done is not None:
                self._done.synchronize()  # the last copy may still be reading the buffer
            self._pinned.numpy()[:] = image
            there = self._pinned.to(self.device, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(self.device))
            return there

    def keep(self, image_HW3: NDArray[np.uint8]) -> Tensor:
        """Uploads a frame and leaves it for the next `take`."""
        there = self(image_HW3)
        self._kept = image_HW3, there
        return there

    def take(self, image_HW3: NDArray[np.uint8]) -> Tensor:
        """The kept frame if it was made from this very array, else a new upload."""
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] is image_HW3 else self(image_HW3)

    def forget(self) -> None:
        """Lets go of a frame that nobody took, for its array may be filled anew."""
        self._kept = None
