"""Which trainings compute in bfloat16."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hrtrack.configs.person_fast_schema import load_detector_config  # noqa: E402
from hrtrack.train import precision  # noqa: E402
from hrtrack.train.precision import in_bf16  # noqa: E402

CPU = torch.device("cpu")


def test_only_auto_looks_at_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (False, True):
        monkeypatch.setattr(precision, "_amx", lambda has=has: has)
        assert in_bf16("bf16", CPU)
        assert not in_bf16("fp32", CPU)
        assert in_bf16("auto", CPU) is has


def test_a_cpu_is_asked_for_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = precision._amx.__wrapped__
    for said, expected in (({"amx_bf16": True}, True), ({"avx512_bf16": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda said=said: said, raising=False)
        assert ask() is expected
    # A PyTorch without the question.
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert ask() is False


def test_the_bundled_recipes_leave_it_to_the_device() -> None:
    assert load_detector_config("person_fast").fit.precision == "auto"
    assert load_detector_config("person_fast", ["fit.precision=fp32"]).fit.precision == "fp32"


@pytest.mark.gpu
def test_a_gpu_with_bfloat16_uses_it() -> None:
    major, _ = torch.cuda.get_device_capability()
    assert in_bf16("auto", torch.device("cuda")) is (major >= 8)
