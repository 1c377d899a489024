"""scripts/extrapolate_weights.py: weights further along a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

from hrtrack.models.detector import DetectorConfig, PersonDetector, load_detector
from hrtrack.train.detector.predict import as_function
from hrtrack.train.detector.state import save_weights
from scripts.extrapolate_weights import extrapolated, main, measure_norms

from .test_detector import config, make_set

pytest.importorskip("onnx")

SMALL = DetectorConfig((16, 16, 32, 32, 32), (1, 1, 1, 1), 32)


def networks(count: int) -> list[PersonDetector]:
    torch.manual_seed(4)
    return [PersonDetector(SMALL).eval() for _ in range(count)]


def test_weights_go_on_by_a_share_of_the_way() -> None:
    begin, end = networks(2)
    one, other = (net.stem[0].weight.detach().clone() for net in (begin, end))
    found = extrapolated(begin, end, 0.5).stem[0].weight
    torch.testing.assert_close(found.detach(), 1.5 * other - 0.5 * one)


def test_norms_are_those_of_the_pictures() -> None:
    (network,) = networks(1)
    dice = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=dice)
    seen: list[torch.Tensor] = []
    norm = network.stem[1]
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    measure_norms(network, [pictures[:2], pictures[2:]])
    assert not network.training
    assert norm.momentum == pytest.approx(0.03)
    torch.testing.assert_close(norm.running_mean, torch.cat(seen).mean((0, 2, 3)))


def test_it_writes_weights_and_a_detector(tmp_path: Path) -> None:
    make_set(tmp_path / "set", 6)
    settings = config(tmp_path / "set", steps=1).model_dump(mode="json", exclude_none=True)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    for name, network in zip(("begin", "end"), networks(2), strict=True):
        save_weights(network, tmp_path / f"{name}.pt")
    words = ["own.yaml", "begin.pt", "end.pt", "out"]
    result = CliRunner().invoke(
        main, [*(str(tmp_path / word) for word in words), "--batches", "2"], catch_exceptions=False
    )
    assert result.output.splitlines()[-1] == str(tmp_path / "out/tiny.onnx")
    kept, exported = (
        load_detector(tmp_path / "out" / name) for name in ("weights.pt", "tiny.onnx")
    )
    begin, end = (load_detector(tmp_path / f"{name}.pt") for name in ("begin", "end"))
    wanted = 1.15 * end.stem[0].weight - 0.15 * begin.stem[0].weight
    for found in (kept, exported):
        torch.testing.assert_close(found.stem[0].weight, wanted, rtol=2e-3, atol=2e-3)
    as_function(exported, (64, 96))
