"""What every step works with: the device, the clock, the models, and the report it writes to."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrtrack.models.zoo import weights_folder
from hrtrack.tracker.inference.backends.torch import TorchNetwork
from hrtrack.tracker.inference.detectors.torch import TorchDetector
from hrtrack.writable import atomic_write

LEFT_OUT = "left out"


@dataclass
class Session:
    """Where it runs, until when, what has been found so far, and the file that it is written to.

    ``models`` are checkpoints by name (`benchmarks.gpu.checkpoints`); ``folder`` is for files that
    nobody needs afterwards; ``deadline`` is on the monotonic clock; ``pace`` shortens
    every measurement.
    """

    device: str
    output: Path
    lspe: Path | None
    folder: Path
    deadline: float
    pace: float = 1.0
    report: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """False in a rehearsal."""
        return self.device == "cuda"

    def put(self, step: str, name: str, value: object) -> None:
        """Enters a figure and writes the report."""
        self.report.setdefault(step, {})[name] = value
        print(f"{step}: {name}: {json.dumps(value)}", flush=True)
        # Whole or not at all: the run may be cut off at any moment.
        with atomic_write(self.output / "gpu.json") as part:
            part.write_text(json.dumps(self.report, indent=1) + "\n")

    def has(self, seconds: float, step: str, what: str) -> bool:
        """Whether so much of the budget is left at this pace; if not, the report says so."""
        left = self.deadline - time.monotonic()
        if left < seconds * self.pace and self.cuda:
            self.put(step, f"{what} {LEFT_OUT}", f"{left:.0f} s of the budget remained")
            return False
        return True

    @contextmanager
    def attempt(self, step: str, what: str) -> Iterator[None]:
        """One missing package or fault must not cost the rest its time on the machine."""
        try:
            yield
        except Exception as error:
            self.put(step, f"{what} failed", repr(error))
            traceback.print_exc()

    def sizes(self, full: tuple[int, ...], rehearsal: tuple[int, ...]) -> tuple[int, ...]:
        """What to go through: all of it, or in a rehearsal a little."""
        return full if self.cuda else rehearsal

    def wait(self) -> None:
        """Until the GPU has done what was queued."""
        if self.cuda:
            torch.cuda.synchronize()

    def timed(self, call: Callable[[], object], seconds: float) -> list[float]:
        """Seconds of each of many calls that have been waited for."""
        for _ in range(5 if self.cuda else 1):
            call()
        self.wait()
        times: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds * (self.pace if self.cuda else 0.1):
            before = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - before)
        return times

    def memory_gib(self) -> float:
        """GPU memory in use, by whatever library; 0 in a rehearsal."""
        if not self.cuda:
            return 0.0
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 2**30

    def back_end(self, name: str, batches: tuple[int, ...] | None = None) -> TorchNetwork:
        """The torch back end as the tracker opens it: float16 in CUDA graphs."""
        return TorchNetwork(
            self.models[name], self.device, None, "fp16" if self.cuda else "fp32", batches
        )

    def reference(self, name: str) -> TorchNetwork:
        """The same model in float32 on the CPU."""
        return TorchNetwork(self.models[name], "cpu", None, "fp32", None)

    def detector(self, device: str | None = None) -> TorchDetector:
        """The bundled person detector as it runs beside a pose network there."""
        path = weights_folder() / "person_fast.onnx"
        return TorchDetector(path, "person_fast", torch.device(device or self.device), 0.1)

    def crops(self, batch: int, hw: tuple[int, int]) -> torch.Tensor:
        """Random pictures: blank ones compute faster than real ones."""
        return torch.randint(0, 256, (batch, *hw, 3), dtype=torch.uint8, device=self.device)


def row(times: list[float], count: int = 1, unit: str = "crops") -> dict[str, float]:
    """Speed and latency of calls on ``count`` crops or frames each."""
    p50 = float(np.percentile(times, 50))
    return {
        f"{unit}_per_s": round(count / p50, 1),
        "p50_ms": round(p50 * 1e3, 3),
        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 3),
    }


def machine() -> dict[str, Any]:
    """What stands beside every figure."""
    found: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "eager_fp32_convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["driver, power limit, highest clock"] = _nvidia_smi()
    return found


def _nvidia_smi() -> str:
    query = "--query-gpu=driver_version,power.limit,clocks.max.sm"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return repr(error)
    return done.stdout.strip()
