"""What a machine has room for: cores and memory that this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

WORKER_BYTES = 400 << 20
"""What a loading process takes for itself, mostly libraries."""
GROUP = Path("/sys/fs/cgroup")
MEMORY = Path("/proc/meminfo")


def usable_cores() -> int:
    """Cores that this process may keep busy, a container's limit included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = count or 1
    with suppress(OSError, ValueError):  # no limit is the word "max"
        quota, period = (GROUP / "cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def free_memory() -> int | None:
    """Bytes that can still be taken, a container's limit included; None where nobody says."""
    free: int | None = None
    with suppress(OSError, ValueError, IndexError):
        rows = (line.split() for line in MEMORY.read_text().splitlines())
        free = next((1024 * int(row[1]) for row in rows if row[0] == "MemAvailable:"), None)
    with suppress(OSError, ValueError):
        limit = int((GROUP / "memory.max").read_text())
        left = max(0, limit - int((GROUP / "memory.current").read_text()))
        free = left if free is None else min(free, left)
    return free


def loaders(asked: int) -> int:
    """How many of the ``asked`` loading processes are of use beside a training on CPU cores.

    Networks take far more time than crops there: half of the cores are plenty, and more would
    take memory and time from the training. The outcome does not depend on their number.
    """
    free = free_memory()
    most = max(1, usable_cores() // 2)
    if free is not None:
        most = min(most, max(1, free // 8 // WORKER_BYTES))
    return min(asked, most)


def prefetched(batch_bytes: int, workers: int, most: int) -> int:
    """How many batches each of ``workers`` makes ahead, of ``most``, in a tenth of the memory."""
    free = free_memory()
    if free is None:
        return most
    return max(1, min(most, int(free // 10 // max(1, batch_bytes * workers))))
