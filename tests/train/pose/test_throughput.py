"""The throughput report: loader alone, network alone, and a training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from click.testing import CliRunner

from hrtrack.cli.main import hrtrack
from hrtrack.configs.pose_schema import load_config
from hrtrack.errors import ModelError
from hrtrack.train.pose.data.pseudo_labels import open_people
from hrtrack.train.pose.network import new_network
from hrtrack.train.pose.throughput import measure_throughput


def test_it_reports_all_three(sticks: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}", "fit.batch=4"])
    report = measure_throughput(config, device="cpu", seconds=0.1)
    # That the loader alone is faster is true, but no tenth of a second on a busy machine shows it.
    assert min(report.real, report.loader, report.model) > 0
    assert report.kept == report.real / min(report.loader, report.model)
    assert (report.size, report.batch, report.device) == ((64, 64), 4, "cpu")


def test_the_last_stage_is_measured_whatever_ends_the_training(sticks: Path) -> None:
    small = "{begin: 0, size: [32, 32], batch: 8, sigma: 1}"
    large = "{begin: 0.5, size: [64, 32], batch: 2, sigma: 1.5}"
    settings = [f"data.root={sticks}", "fit.steps=1", f"fit.stages=[{small}, {large}]"]
    resident = ["data.resident=true", "data.resident_side=64"]
    report = measure_throughput(load_config("tiny", settings + resident), device="cpu", seconds=0.1)
    assert (report.size, report.batch) == ((64, 32), 2)


def test_on_the_command_line(sticks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(measure_throughput, seconds=0.1)
    monkeypatch.setattr("hrtrack.train.pose.throughput.measure_throughput", quick)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(hrtrack, ["train", *words])
        return result.exit_code, result.output + repr(result.exception)

    folder = tmp_path / "run"
    code, said = run(
        "tiny", "--throughput", "--device", "cpu", f"data.root={sticks}", "fit.batch=2",
        "-o", str(folder),
    )  # fmt: skip
    assert code == 0, said
    assert "crops of 64x64, 2 at a time, on cpu in fp32" in said
    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["loader", "network", "training"]
    assert not folder.exists()
    code, said = run(
        "tiny", "--throughput", "--device", "cpu", f"data.root={sticks}", "--init", "nothing.pth"
    )
    assert code == 1
    assert "nothing.pth" in said
    code, said = run("person_fast", "--throughput")
    assert code != 0
    assert "--throughput is for pose networks" in said


def test_it_measures_what_starts_from_weights(sticks: Path, tmp_path: Path) -> None:
    config = load_config("tiny", [f"data.root={sticks}", "fit.batch=4"])
    skeleton = open_people(config.data, config.data.train).skeleton
    weights = new_network(config, skeleton, None).state_dict()
    trunk = {name: value for name, value in weights.items() if not name.startswith("final_layer.")}
    torch.save(trunk, tmp_path / "start.pth")
    report = measure_throughput(config, init=tmp_path / "start.pth", device="cpu", seconds=0.05)
    assert report.model > 0
    wider = load_config("tiny", [f"data.root={sticks}", "fit.batch=4", "model.width=16"])
    with pytest.raises(ModelError, match="does not fit the configured network"):
        measure_throughput(wider, init=tmp_path / "start.pth", device="cpu", seconds=0.05)
