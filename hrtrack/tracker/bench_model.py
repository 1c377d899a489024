"""The networks alone under a stopwatch: latency and crops a second by batch and back end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, ModelError
from ..models.agreement import drawn_crops
from ..models.network import on_gpu
from .inference.backends.base import EngineBuilder
from .inference.open import nvidia_driver_present, open_network
from .options import Backend, Precision

if TYPE_CHECKING:
    from rich.table import Table

ROUNDS_AT_LEAST = 5
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model on one back end; ``onnxruntime`` is there to compare with, not to track with."""

    model: str
    backend: Backend | str
    precision: Precision = "auto"

    @property
    def name(self) -> str:
        """A short name for tables."""
        return f"{Path(self.model).stem} {self.backend} {self.precision}"


@dataclass(frozen=True, slots=True)
class ModelTime:
    """One candidate at one batch size, in milliseconds a call.

    ``share`` is the part of the device's ceiling that was reached, None where none is known.
    ``opening`` is seconds from the file to the first answer: compiling it, or building a
    TensorRT engine where the cache has none. ``memory`` is what it took on the GPU, in MiB.
    """

    name: str
    about: str
    batch: int
    fastest: float
    p50: float
    p95: float
    crops_per_second: float
    share: float | None = None
    opening: float | None = None
    memory: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self)


def bench_models(
    candidates: Sequence[Candidate],
    batches: Sequence[int],
    *,
    seconds: float = 3.0,
    device: str | None = None,
    threads: int | None = None,
    ceiling: Callable[[Candidate, int], float | None] = lambda candidate, batch: None,
    progress: Callable[[str], None] = lambda name: None,
    build_engine: EngineBuilder | None = None,
) -> list[ModelTime]:
    """Times every candidate at every batch size, all of them in turn, round by round.

    Taking turns spreads whatever else the machine does over all of them alike.

    Args:
        candidates: what to time.
        batches: crops a call.
        seconds: time to spend on each candidate and batch size, at least five rounds.
        device: the back ends' device.
        threads: CPU threads.
        ceiling: the least possible seconds for a call, where they are known.
        progress: called with what is being opened or timed.
        build_engine: makes missing TensorRT engines, as in
            `hrtrack.tracker.inference.open.open_network`.

    Raises:
        BackendError, ModelError: as in `hrtrack.tracker.inference.open.open_network`.
    """
    found = []
    for batch in batches:
        calls: list[Callable[[], object]] = []
        about = []
        networks = []
        costs = []
        for candidate in candidates:
            progress(f"{candidate.name}, batch {batch}")
            before, began = _gpu_memory(device), time.perf_counter()
            network = _open(candidate, batch, device, threads, build_engine)
            crops = np.ascontiguousarray(np.resize(
                drawn_crops(network.input_hw, min(batch, 8)), (batch, *network.input_hw, 3)
            ))  # fmt: skip
            call = _call(network, crops)
            call()
            opening = time.perf_counter() - began
            costs.append((opening, (_gpu_memory(device) - before) / 2**20))
            networks.append(network)
            calls.append(call)
            about.append(network.describe())
        times = _in_turn(calls, seconds)
        rows = zip(candidates, about, networks, costs, times, strict=True)
        for candidate, line, network, (opening, memory), taken in rows:
            p50 = float(np.percentile(taken, 50))
            least = ceiling(candidate, batch)
            found.append(
                ModelTime(
                    candidate.name, line, batch, min(taken) * 1e3, p50 * 1e3,
                    float(np.percentile(taken, 95)) * 1e3, batch / p50,
                    None if least is None else least / p50,
                    opening, memory if on_gpu(network) else None,
                )
            )  # fmt: skip
        for network in networks:
            network.close()
    return found


def _gpu_memory(device: str | None) -> int:
    """Bytes in use on the GPU, by whatever library; 0 where there is none."""
    if not nvidia_driver_present() or find_spec("torch") is None:
        return 0
    import torch

    if not torch.cuda.is_available():
        return 0
    torch.cuda.empty_cache()
    chosen = torch.device(device) if device and device.lower().startswith("cuda") else None
    free, total = torch.cuda.mem_get_info(chosen)
    return total - free


def _open(
    candidate: Candidate,
    batch: int,
    device: str | None,
    threads: int | None,
    build_engine: EngineBuilder | None,
) -> Any:
    if candidate.backend == "onnxruntime":
        return OnnxRuntimeNetwork(Path(candidate.model), threads)
    return open_network(
        candidate.model,
        backend=candidate.backend,  # type: ignore[arg-type]
        device=device,
        threads=threads,
        precision=candidate.precision,
        batches=(batch,),
        build_engine=build_engine,
    )


def _call(network: Any, crops: NDArray[np.uint8]) -> Callable[[], object]:
    """One timed call: arrays on a CPU; on CUDA tensors that are there already, and waits."""
    there = on_gpu(network)
    if there is None:
        return lambda: network(crops)
    import torch

    tensors = torch.from_numpy(crops).to(there.device)

    def call() -> None:
        there.on_device(tensors)
        torch.cuda.synchronize(there.device)

    return call


def _in_turn(calls: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    for call in calls:
        for _ in range(WARM_UP):
            call()
    times: list[list[float]] = [[] for _ in calls]
    started = time.perf_counter()
    while len(times[0]) < ROUNDS_AT_LEAST or time.perf_counter() - started < seconds * len(calls):
        for call, taken in zip(calls, times, strict=True):
            before = time.perf_counter()
            call()
            taken.append(time.perf_counter() - before)
    return times


class OnnxRuntimeNetwork:
    """Our ONNX on ONNX Runtime's CPU provider."""

    def __init__(self, path: Path, threads: int | None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise BackendError("onnxruntime is not installed: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        shape = self._session.get_inputs()[0].shape
        if len(shape) != 4 or shape[3] != 3:
            raise ModelError(f"{path} takes {shape}; expected uint8 crops, N x H x W x 3")
        self.input_hw = (int(shape[1]), int(shape[2]))
        self._name = f"{path.stem} on ONNX Runtime {onnxruntime.__version__}, CPU, fp32"

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """Crops (N, H, W, 3) -> ``keypoints``, on request ``heatmaps``."""
        names = ["keypoints", "heatmaps"] if heatmaps else ["keypoints"]
        crops = {self._session.get_inputs()[0].name: crops_NHW3}
        return dict(zip(names, self._session.run(names, crops), strict=True))

    def describe(self) -> str:
        """One line for the log."""
        return self._name

    def close(self) -> None:
        """Frees the session."""
        self._session = None


def gpu_ceilings(device: int = 0) -> tuple[float, float]:
    """What this GPU reaches with large float16 products and copies, measured now.

    Returns multiply-accumulates and bytes (read plus written) per second.
    """
    import torch

    with torch.inference_mode(), torch.cuda.device(device):
        size = 8192
        left = torch.randn(size, size, device="cuda", dtype=torch.float16)
        right = torch.randn(size, size, device="cuda", dtype=torch.float16)
        product = _fastest_on_gpu(lambda: torch.mm(left, right))
        source = torch.empty(1 << 28, device="cuda", dtype=torch.float32)
        target = torch.empty_like(source)
        copied = _fastest_on_gpu(lambda: target.copy_(source))
    return size**3 / product, 2 * source.numel() * 4 / copied


def _fastest_on_gpu(step: Callable[[], object], repeats: int = 20) -> float:
    import torch

    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        before = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return min(times)


def times_table(rows: Sequence[ModelTime], title: str) -> Table:
    """The measurements for the terminal."""
    from rich.table import Table

    table = Table(title=title)
    headings = ("model, back end, precision", "batch", "min ms", "p50 ms", "p95 ms", "crops/s")
    for heading in (*headings, "of ceiling", "open s", "GPU MiB"):
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for row in rows:
        table.add_row(
            row.name, str(row.batch), f"{row.fastest:.2f}", f"{row.p50:.2f}", f"{row.p95:.2f}",
            f"{row.crops_per_second:.1f}", "" if row.share is None else f"{row.share:.0%}",
            "" if row.opening is None else f"{row.opening:.1f}",
            "" if row.memory is None else f"{row.memory:.0f}",
        )  # fmt: skip
    return table
