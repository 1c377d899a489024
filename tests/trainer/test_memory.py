"""Memory that a training gives back is kept for its next step."""

import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import os, resource, sys
import torch
from hrtrack.trainer.processes import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
def step():
    return [torch.ones(3_000_000) for _ in range(4)]
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
OURS = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "THP_MEM_ALLOC_ENABLE")


def faults(how: str, **set_by_user: str) -> int:
    environment = {key: value for key, value in os.environ.items() if key not in OURS}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, how],
        env={**environment, **set_by_user}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_step_finds_the_memory_of_the_one_before():
    fetched_anew = faults("leave", MALLOC_MMAP_THRESHOLD_="1048576")
    assert fetched_anew > 100_000  # 40 blocks of 12 MB in pages of 4 KB
    assert faults("keep", MALLOC_MMAP_THRESHOLD_="1048576") < fetched_anew / 20


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_the_user_set_stands():
    user = {"MALLOC_MMAP_MAX_": "65536", "MALLOC_MMAP_THRESHOLD_": "1048576"}
    assert faults("keep", **user, THP_MEM_ALLOC_ENABLE="0") > 100_000
