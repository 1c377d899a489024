"""Which trainings compute in bfloat16."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hrtrack.configs.detector_schema import load_detector_config  # noqa: E402
from hrtrack.models import precision  # noqa: E402
from hrtrack.models.precision import in_bf16, quicker, to_be_tried  # noqa: E402

CPU = torch.device("cpu")


def test_only_auto_looks_at_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in ((), ("amx_bf16",), ("avx512_bf16",), ("amx_bf16", "avx512_bf16")):
        monkeypatch.setattr(precision, "cpu_has", lambda name, has=has: name in has)
        assert in_bf16("bf16", CPU)
        assert not in_bf16("fp32", CPU)
        assert in_bf16("auto", CPU) is ("amx_bf16" in has)
        assert to_be_tried("auto", CPU) is bool(has)
        assert not to_be_tried("bf16", CPU)
        assert not to_be_tried("fp32", CPU)


def test_a_cpu_is_asked_for_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = precision.cpu_has.__wrapped__
    for said, expected in (({"amx_bf16": True}, True), ({"avx512_bf16": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda said=said: said, raising=False)
        assert ask("amx_bf16") is expected
    # A PyTorch without the question.
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert ask("amx_bf16") is False


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected", "rounds"),
    [(1.0, 0.5, "bf16", 3), (0.1, 0.2, "fp32", 5), (1.0, 0.95, "fp32", 2), (9.0, 1.0, "bf16", 1)],
)
def test_the_trial_takes_the_faster_within_seconds(
    fp32: float, bf16: float, expected: str, rounds: int
) -> None:
    now, seen = [0.0], []

    def step(kind: str) -> None:
        slow = 10 if kind not in seen else 1  # what PyTorch makes once is not counted
        disturbed = 3 if len(seen) == 3 else 1  # nor what others did on the machine meanwhile
        seen.append(kind)
        now[0] += slow * disturbed * (fp32 if kind == "fp32" else bf16)

    assert quicker(step, clock=lambda: now[0]) == expected
    assert len(seen) == 2 * (1 + rounds)


def test_the_bundled_recipes_leave_it_to_the_device() -> None:
    assert load_detector_config("person_fast").fit.precision == "auto"
    assert load_detector_config("person_fast", ["fit.precision=fp32"]).fit.precision == "fp32"


@pytest.mark.gpu
def test_a_gpu_with_bfloat16_uses_it() -> None:
    major, _ = torch.cuda.get_device_capability()
    assert in_bf16("auto", torch.device("cuda")) is (major >= 8)
