"""Frames on their way to the GPU: through one page-locked buffer, and once for all who look."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .frame import Frame
from .nv12 import nv12_to_rgb


class Upload:
    """Carries frames to the device through one reused page-locked buffer.

    The detector, which sees a frame first, keeps it there; the estimator takes it over. Who
    comes with another picture uploads that one. Each thread has its own kept frame, for each
    follows a stream of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pinned = torch.empty(0, dtype=torch.uint8)
        self._done: torch.cuda.Event | None = None
        self._mine = threading.local()
        # A live source's detector works on a thread of its own.
        self._lock = threading.Lock()

    def __call__(self, image_HW3: NDArray[np.uint8]) -> Tensor:
        """A frame (H, W, 3) uint8 as a tensor on the device; the copy is queued, not awaited."""
        return self._copy(image_HW3)[0]

    def keep(self, image_HW3: NDArray[np.uint8]) -> Tensor:
        """Uploads a frame and leaves it for the next `take`."""
        there = self(image_HW3)
        self._mine.kept = image_HW3, there
        return there

    def take(self, frame: Frame) -> Tensor:
        """The kept picture if it was made from this frame's very array, else a new upload.

        A frame that has its picture as NV12 too comes in half the bytes.
        """
        kept: tuple[NDArray[np.uint8], Tensor] | None = getattr(self._mine, "kept", None)
        self.forget()
        if kept is not None and kept[0] is frame.image:
            return kept[1]
        if frame.nv12 is None:
            return self(frame.image)
        luma, chroma = self._copy(frame.nv12.luma, frame.nv12.chroma)
        return nv12_to_rgb(luma, chroma, frame.nv12.matrix, frame.nv12.full_range)

    def forget(self) -> None:
        """Lets go of a frame that nobody took, for its array may be filled anew."""
        self._mine.kept = None

    def _copy(self, *arrays: NDArray[np.uint8]) -> list[Tensor]:
        if self.device.type != "cuda":
            return [torch.from_numpy(array.copy()).to(self.device) for array in arrays]
        size = sum(array.size for array in arrays)
        with self._lock:
            if len(self._pinned) < size:
                self._pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            if self._done is not None:
                self._done.synchronize()  # the last copy may still be reading the buffer
            buffer, start = self._pinned.numpy(), 0
            for array in arrays:
                buffer[start : start + array.size].reshape(array.shape)[:] = array
                start += array.size
            there = self._pinned[:size].to(self.device, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(self.device))
        parts = there.split([array.size for array in arrays])
        return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]
