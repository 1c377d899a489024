"""Several training processes, as `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from ..errors import BackendError
from .memory import keep_freed_memory

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
