"""PyAV, loaded after OpenCV.

Both wheels bring their own libxcb on Linux. Once PyAV's is loaded first, OpenCV's windows hang for
ever (PyAV-Org/PyAV#978, opencv/opencv#29195), so nothing else in the package imports ``av``.
"""

from __future__ import annotations

import cv2  # noqa: F401  isort: skip
import av
import av.codec.hwaccel
import av.container
import av.device
import av.error
import av.filter
import av.logging
import av.video.reformatter

__all__ = ["av"]
