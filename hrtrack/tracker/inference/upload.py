"""Uploads each frame to the GPU once for everybody who reads it, and converts NV12 there."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..video.frame import Frame, Matrix


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


LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
}
"""Weights of red and blue in the luma (ITU-R BT.601 and BT.709); green has the rest."""


@torch.inference_mode()
def nv12_to_rgb(luma_HW: Tensor, chroma_hw2: Tensor, matrix: Matrix, full_range: bool) -> Tensor:
    """Planes (H, W) and (H/2, W/2, 2) uint8 to a picture (H, W, 3) uint8.

    The colours are worked out at the chroma's size and added to its four lumas in one pass.
    Limited range is luma 16-235 and chroma 16-240.
    """
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    scale, lift, spread = (1.0, 0.0, 1.0) if full_range else (255 / 219, 16.0, 255 / 224)
    weights = [
        [0.0, -2 * blue * (1 - blue) / green, 2 * (1 - blue)],
        [2 * (1 - red), -2 * red * (1 - red) / green, 0.0],
    ]
    to_rgb = torch.tensor(weights, device=luma_HW.device) * spread
    rows, columns = chroma_hw2.shape[:2]
    colours = (chroma_hw2.float() - 128) @ to_rgb + (0.5 - lift * scale)
    lumas = luma_HW.reshape(rows, 2, columns, 2, 1)
    pixels = torch.add(colours[:, None, :, None], lumas, alpha=scale)
    return pixels.clamp_(0, 255).to(torch.uint8).reshape(2 * rows, 2 * columns, 3)
