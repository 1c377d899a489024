"""Contexts of an engine that stands in for TensorRT's; the real one needs a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hrtrack.errors import BackendError
from hrtrack.models.runtimes import tensorrt as engines
from hrtrack.tracker.inference.backends.cuda import cuda_device
from hrtrack.tracker.inference.backends.tensorrt import Contexts

CPU = torch.device("cpu")
FULL = SimpleNamespace(ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="ours"))
RTX = SimpleNamespace(
    ExecutionContextAllocationStrategy=FULL.ExecutionContextAllocationStrategy,
    DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"),
)


class Cache:
    def __init__(self) -> None:
        self.known = b""

    def deserialize(self, kernels: bytes) -> bool:
        self.known = kernels
        return kernels.startswith(b"kernels")

    def serialize(self) -> bytes:
        return b"kernels and more"


class Config:
    dynamic_shapes_kernel_specialization_strategy = "lazy"
    strategy, cache = None, None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Cache:
        return Cache()

    def set_runtime_cache(self, cache: Cache) -> bool:
        self.cache = cache
        return True


class Engine:
    device_memory_size_v2 = 1000

    def __init__(self, room: int = 9) -> None:
        self.room, self.asked, self.memory = room, [], []

    def create_runtime_config(self) -> Config:
        return Config()

    def create_execution_context(self, how: Any) -> Any:
        self.asked.append(how)
        if len(self.asked) > self.room:
            return None
        return SimpleNamespace(set_device_memory=lambda *memory: self.memory.append(memory))


def test_all_contexts_share_one_scratch_memory(tmp_path: Path) -> None:
    engine = Engine()
    contexts = Contexts(FULL, engine, CPU, tmp_path / "a.kernels")
    assert contexts.make() is not contexts.make()
    contexts.keep()
    assert engine.asked == ["ours", "ours"]
    assert engine.memory[0] == engine.memory[1]
    assert engine.memory[0][1] == 1000
    assert engine.memory[0][0] % 64 == 0
    assert not list(tmp_path.iterdir())


def test_rtx_finishes_its_kernels_and_keeps_them(tmp_path: Path) -> None:
    kernels = tmp_path / "a.kernels"
    first, second = Engine(), Engine()
    contexts = Contexts(RTX, first, CPU, kernels)
    contexts.make()
    assert first.asked[0].dynamic_shapes_kernel_specialization_strategy == "eager"
    assert first.asked[0].strategy == "ours"
    assert first.asked[0].cache.known == b""
    contexts.keep()
    Contexts(RTX, second, CPU, kernels).make()
    assert second.asked[0].cache.known == b"kernels and more"
    assert [path.name for path in tmp_path.iterdir()] == ["a.kernels"]


def test_kernels_that_cannot_be_kept_cost_nothing_but_time(tmp_path: Path) -> None:
    contexts = Contexts(RTX, Engine(), CPU, tmp_path / "gone" / "a.kernels")
    contexts.make()
    contexts.keep()
    assert not list(tmp_path.iterdir())


def test_no_memory_is_one_line(tmp_path: Path) -> None:
    contexts = Contexts(FULL, Engine(room=1), CPU, tmp_path / "a.kernels")
    contexts.make()
    with pytest.raises(BackendError, match="no memory left for one more batch size"):
        contexts.make()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "no device 'nonsense'"),
        ("cpu", "'cpu' is no NVIDIA GPU"),
        ("CUDA:99", "there is no 'CUDA:99'" if torch.cuda.is_available() else "no NVIDIA GPU that"),
    ],
)
def test_what_is_no_gpu_is_one_line(name: str, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        cuda_device(name)


def test_rtx_plans_are_tied_to_turing_alone() -> None:
    assert engines.bound_to("tensorrt", "8.9") == "8.9"
    assert engines.bound_to("tensorrt-rtx", "8.9") is None
    assert engines.bound_to("tensorrt-rtx", "7.5") == "7.5"


@pytest.mark.parametrize(
    ("capability", "packages", "taken"),
    [
        ("9.0", ("tensorrt", "tensorrt-rtx"), "tensorrt"),
        ("9.0", ("tensorrt-rtx",), None),
        ("12.0", ("tensorrt-rtx",), "tensorrt-rtx"),
    ],
)
def test_auto_takes_a_package_that_knows_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: str, packages: tuple[str, ...], taken: str | None
) -> None:
    from hrtrack.tracker.inference.backends import tensorrt as loading

    def load(package: str) -> None:
        if package not in packages:
            raise BackendError("not here")

    monkeypatch.setattr(loading, "cuda_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(engines, "this_gpu", lambda index: ("a GPU", capability))
    monkeypatch.setattr(engines, "load_package", load)
    assert loading.usable_package() == taken
