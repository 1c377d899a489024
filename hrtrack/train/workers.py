"""How processes that load data are started, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.context import BaseContext

GRACE = 30.0
"""Seconds that a worker goes on after SIGTERM: for the step that the training is at."""


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

    # Ctrl-C and `timeout` signal workers, too; the training, which has a step to finish and to
    # save, ends them itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _last_chance)
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


def _last_chance(*_: object) -> None:
    ending = threading.Timer(GRACE, os._exit, (1,))
    ending.daemon = True
    ending.start()
