"""The processes of a training: those that `torchrun` starts, loader workers, and what cores and
memory the machine has for them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import BaseContext
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from ..errors import BackendError
from ..interrupt import SIGNALS

PATIENCE = timedelta(hours=2)
"""The others wait for so long while the first process validates."""


@dataclass(frozen=True, slots=True)
class Team:
    """This process's number among ``world``, and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world > 1:
            distributed.all_reduce(value)
        return value

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            distributed.barrier()

    def wrap(self, network: nn.Module, *, sync_norm: bool) -> nn.Module:
        """The network with its gradients averaged over the processes.

        On GPUs batch norms can share their statistics (SyncBatchNorm); on a CPU each process
        normalises its own part of the batch.
        """
        if self.world == 1:
            return network
        if sync_norm and self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids)


@contextmanager
def team(device: str = "auto") -> Iterator[Team]:
    """Joins the processes of `torchrun`, or works alone.

    Args:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        BackendError: a device was asked for that is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()
    if world == 1:
        yield Team(0, 1, chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(rank, world, chosen)
    finally:
        distributed.destroy_process_group()


def choose_device(name: str, local: int = 0) -> torch.device:
    """What ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` means here; ``local`` is this process's number
    on its machine. BackendError where there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BackendError(f"'{name}' is no device; give cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError("no CUDA device is available to torch; give --device cpu")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", local)
    return device


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

    # Ctrl-C, `timeout` and a closed terminal signal workers, too; the training, which has a step
    # to finish and to save, ends them itself.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
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


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's malloc.h."""
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Lets tensors that come and go each step reuse their memory, in pages of 2 MB where allowed.

    As it comes, glibc hands every large block back to the system and fetches it anew a moment
    later, each page of 4 KB by a fault; on virtual machines that is a tenth of a step's
    time. Does nothing without glibc, and leaves alone what the user has set in
    ``MALLOC_MMAP_MAX_``, ``MALLOC_TRIM_THRESHOLD_`` or ``THP_MEM_ALLOC_ENABLE``. To be called
    before the first tensor is made.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by PyTorch at its first tensor
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: musl, macOS, Windows
        return
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        mallopt(M_TRIM_THRESHOLD, NEVER)
    if "MALLOC_MMAP_MAX_" not in os.environ:
        mallopt(M_MMAP_MAX, 0)


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
