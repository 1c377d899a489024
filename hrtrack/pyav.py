"""PyAV, loaded after OpenCV.

Both wheels bring their own libxcb on Linux. Once PyAV's is loaded first, OpenCV's windows hang for
ever (PyAV-Org/PyAV#978, opencv/opencv#29195), so nothing else in the package imports ``av``.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

import cv2  # noqa: F401  isort: skip
import av
import av.codec.hwaccel
import av.container
import av.device
import av.error
import av.filter
import av.logging
import av.video.reformatter

__all__ = ["av", "open_behind"]

BEHIND = 5
"""Threads that are so much nicer get a third of the time of others that want the same core."""
LEAST = 19
"""The lowest priority that there is (nice(2))."""


def open_behind(codec: av.CodecContext) -> None:
    """Opens a codec so that its own threads stand behind the loop's, where the system is Linux.

    A decoder or an encoder that takes its share as soon as there is a picture waits afterwards,
    and leaves a core idle while the loop computes on one thread. Behind the others its work fills
    such gaps. Python's threads keep their priority, for a thread that holds the interpreter's lock
    must not wait. What is wrong with the codec is said where it is first used.
    """
    if not sys.platform.startswith("linux"):
        return

    def work() -> None:  # a thread inherits the priority of the one that starts it
        with suppress(av.error.FFmpegError, ValueError, OSError):
            here = threading.get_native_id()
            given = os.getpriority(os.PRIO_PROCESS, here)
            os.setpriority(os.PRIO_PROCESS, here, min(given + BEHIND, LEAST))
            codec.open()

    opener = threading.Thread(target=work, name="open", daemon=True)
    opener.start()
    opener.join()
