"""The model bench runs real networks, in turn, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from hrtrack.cli.bench_model import model
from hrtrack.errors import UsageError
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, cost

from ..export.networks import exported


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "small.onnx"
    path.write_bytes(exported())
    return path


@pytest.mark.slow
def test_table_json_and_chart(tmp_path: Path, file: Path) -> None:
    pytest.importorskip("onnxruntime")
    arguments = [
        str(file), "--on", "openvino:fp32", "--on", "onnxruntime", "--on", "torch",
        "--batch", "1,3", "--threads", "1",
        "--seconds", "0.1", "--device", "cpu", "--json", str(tmp_path / "a.json"),
        "--chart", str(tmp_path / "a.png"),
    ]  # fmt: skip
    result = CliRunner().invoke(model, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "small openvino fp32" in result.stdout
    assert "open s" in result.stdout
    rows = json.loads((tmp_path / "a.json").read_text())["models"]
    assert [(row["name"].split()[1], row["batch"]) for row in rows] == [
        (name, batch) for batch in (1, 3) for name in ("openvino", "onnxruntime", "torch")
    ]
    for row in rows:
        assert 0 < row["fastest"] <= row["p50"] <= row["p95"]
        assert row["opening"] > 0
        assert row["memory"] is None  # not on a GPU
        assert row["crops_per_second"] == pytest.approx(row["batch"] / row["p50"] * 1e3)
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize("words", [["--on", "cuda"], ["--on", "openvino:fp8"], ["--batch", "a"]])
def test_words_it_does_not_know(file: Path, words: list[str]) -> None:
    with pytest.raises(UsageError):
        CliRunner().invoke(model, [str(file), *words], catch_exceptions=False)


@pytest.mark.parametrize(
    ("width", "hw", "gmac"),
    [
        (32, (256, 192), 7.65),
        pytest.param(32, (384, 288), 17.20, marks=pytest.mark.slow),
        pytest.param(48, (256, 192), 15.69, marks=pytest.mark.slow),
    ],
)
def test_cost_is_the_published_one(width: int, hw: tuple[int, int], gmac: float) -> None:
    with torch.device("meta"):
        network = HRNet(HRNetConfig(width=width))
    found = cost(network, hw)
    assert found.macs / 1e9 == pytest.approx(gmac, abs=0.005)
    compute_bound = found.seconds(64, 1e12, 1e15)
    memory_bound = found.seconds(64, 1e18, 1e12)
    assert compute_bound == pytest.approx(64 * found.macs / 1e12)
    assert memory_bound > 64 * found.numbers * 2 / 1e12
