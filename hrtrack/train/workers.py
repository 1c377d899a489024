"""How processes that load data are started."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import BaseContext


def worker_context() -> BaseContext:
    """The way to start worker processes, and to make what is shared with them.

    Forked copies of a process in which other libraries (OpenVINO, OpenCV) run threads can crash
    or hang, so workers come from a process that was clean when it started.
    """
    return multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
