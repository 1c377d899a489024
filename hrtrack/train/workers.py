"""How processes that load data are started, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.context import BaseContext


def worker_context() -> BaseContext:
    """The way to start worker processes, and to make what is shared with them.

    Forked copies of a process in which other libraries (OpenVINO, OpenCV) run threads can crash
    or hang, so workers come from a process that was clean when it started.
    """
    return multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")


def begin_worker(_: int = 0) -> None:
    """For a worker's start: one thread, and an end when the training is no more, however it went.

    A worker and the process that it comes from would otherwise keep each other alive for ever
    after a training that was killed.
    """
    import cv2
    import torch

    # More threads would fight with the training for cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()
