"""Memory of a training on CPU cores."""

from __future__ import annotations

import ctypes
import os

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
