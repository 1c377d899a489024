"""A training takes no more of a machine's cores and memory than there are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hrtrack.configs.detector_schema import load_detector_config  # noqa: E402
from hrtrack.configs.pose_schema import load_config  # noqa: E402
from hrtrack.errors import ConfigError  # noqa: E402
from hrtrack.train.pose import settle  # noqa: E402
from hrtrack.train.pose.data.pseudo_labels import open_people  # noqa: E402
from hrtrack.train.pose.network import new_network  # noqa: E402
from hrtrack.trainer import processes  # noqa: E402
from hrtrack.trainer.processes import Team  # noqa: E402

ALONE = Team(0, 1, torch.device("cpu"))


def test_a_container_s_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GROUP", tmp_path)
    monkeypatch.setattr(processes, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(
        processes.os, "sched_getaffinity", lambda process: set(range(8)), raising=False
    )
    assert processes.usable_cores() == 8
    assert processes.free_memory() is None
    (tmp_path / "meminfo").write_text("MemFree: 5 kB\nMemAvailable:   2048 kB\n")
    assert processes.free_memory() == 2 << 20
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (processes.usable_cores(), processes.free_memory()) == (8, 2 << 20)
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "memory.max").write_text(f"{1 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 18}\n")
    assert (processes.usable_cores(), processes.free_memory()) == (2, 3 << 18)


def give(monkeypatch: pytest.MonkeyPatch, cores: int, free: float | None) -> None:
    for module in (processes, settle):
        monkeypatch.setattr(module, "free_memory", lambda: free)
    monkeypatch.setattr(processes, "usable_cores", lambda: cores)


@pytest.mark.parametrize(
    ("cores", "gigabytes", "asked", "given"),
    [(2, 16, 16, 1), (16, 64, 4, 4), (16, 64, 16, 8), (16, 8, 16, 2), (1, 1, 3, 1), (8, 9, 0, 0)],
)
def test_loaders(
    monkeypatch: pytest.MonkeyPatch, cores: int, gigabytes: int, asked: int, given: int
) -> None:
    give(monkeypatch, cores, gigabytes << 30)
    assert processes.loaders(asked) == given


def test_what_is_loaded_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, 2, 1 << 30)
    assert processes.prefetched(1 << 20, 2, 4) == 4
    assert processes.prefetched(25 << 20, 2, 4) == 2
    assert processes.prefetched(1 << 30, 2, 4) == 1
    give(monkeypatch, 2, None)
    assert processes.prefetched(1 << 30, 2, 4) == 4


def test_a_batch_is_parted_until_it_fits(
    sticks: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"data.root={sticks}", "fit.batch=24", "data.workers=16"]
    config = load_config("tiny", words)
    people = open_people(config.data, config.data.train)
    network = new_network(config, people.skeleton, None)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    crop = settle.OVER_SAVED * settle.saved_bytes(network, config)
    fixed = 5 * weights + processes.WORKER_BYTES  # one worker on two cores

    def accumulate(crops: float, *more: str) -> Any:
        give(monkeypatch, 2, (fixed + crops * crop) / settle.USABLE + 1)
        settled = settle.settle(load_config("tiny", [*words, *more]), people, ALONE)
        assert settled.data.workers == 1
        return settled.fit.accumulate

    monkeypatch.setattr(settle, "loaders", lambda asked: 1)
    assert accumulate(24) == 1
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING, "hrtrack"):
        assert accumulate(23) == 2
    assert "it is computed in 2 parts (fit.accumulate=2)" in caplog.text
    assert accumulate(7) == 4  # of 6; 5 parts would not be even
    assert accumulate(23, "fit.accumulate=3") == 3
    assert accumulate(6, "input.size=[32, 32]") == 1
    with pytest.raises(ConfigError, match="even in its smallest parts"):
        accumulate(1.5)


def test_saved_bytes_are_what_the_backward_pass_needs(sticks: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}"])
    skeleton = open_people(config.data, config.data.train).skeleton
    torch.manual_seed(0)
    network = new_network(config, skeleton, None)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = settle.saved_bytes(network, config)
    assert all(torch.equal(before[name], v) for name, v in network.state_dict().items())
    # The stem alone keeps its outputs before and after both norms: 32 x 32 and 16 x 16 of 64.
    assert 4 * 64 * 2 * (32 * 32 + 16 * 16) < found < 1 << 25
    half = load_config("tiny", [f"data.root={sticks}", "fit.precision=bf16"])
    assert settle.saved_bytes(network, half) < 0.8 * found


def test_bundled_recipes_leave_room_for_what_is_decided() -> None:
    # Both ask for more loaders than most machines have cores to spare.
    assert load_config("mpii_w32_256x256").data.workers == 16
    assert load_detector_config("person_fast").fit.workers >= 1
