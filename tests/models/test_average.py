"""`hrtrack average`: the mean of checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hrtrack.cli import main

ROOT = Path(__file__).resolve().parents[2]


def average(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hrtrack", "average", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def average_here(
    out: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> tuple[object, str]:
    """The exit code, and what is said on standard error; without a process of its own."""
    with pytest.raises(SystemExit) as stop:
        main(["average", str(out), *map(str, files)])
    return stop.value.code, capsys.readouterr().err


def test_the_mean_of_a_pose_s_checkpoints_keeps_what_describes_it(tmp_path: Path) -> None:
    notes = {"hrtrack": json.dumps({"joints": 3}), "activation_ranges": "{}"}
    for number in (1, 2, 6):
        weights = {"a": torch.full((2, 3), float(number)), "count": torch.tensor(number)}
        save_file(weights, tmp_path / f"{number}.safetensors", notes)
    out = tmp_path / "mean.safetensors"
    done = average(out, *(tmp_path / f"{number}.safetensors" for number in (1, 2, 6)))
    assert done.returncode == 0, done.stderr
    with safe_open(out, "pt") as file:
        assert file.get_tensor("a").tolist() == [[3.0] * 3] * 2
        assert file.get_tensor("count").item() == 6
        assert file.metadata() == {"hrtrack": notes["hrtrack"]}


def test_the_mean_of_a_detector_s_checkpoints_is_of_their_averages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        saved = {"ema": {"a": torch.full((2,), number / 2).half()}, "step": number}
        torch.save(saved, tmp_path / f"{number}.pt")
    out = tmp_path / "mean.pt"
    assert average_here(out, [tmp_path / "1.pt", tmp_path / "2.pt"], capsys)[0] in (0, None)
    saved = torch.load(out, weights_only=True)
    assert saved["ema"]["a"].tolist() == [0.75, 0.75]
    assert saved["ema"]["a"].dtype == torch.float16
    assert saved["step"] == 2


def test_the_state_of_a_detector_s_training_gives_its_average(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        saved = {"average": {"a": torch.full((2,), number / 2)}, "facts": {"model": "told"}}
        torch.save(saved, tmp_path / f"{number}.pt")
    files = [tmp_path / "1.pt", tmp_path / "2.pt"]
    code, told = average_here(tmp_path / "out.pt", files, capsys)
    assert code in (0, None), told
    saved = torch.load(tmp_path / "out.pt", weights_only=True)
    assert saved["ema"]["a"].tolist() == [0.75, 0.75]
    assert saved["config"] == "told"


@pytest.mark.parametrize("other", [{"b": torch.zeros(2)}, {"a": torch.zeros(3)}])
def test_other_networks_are_refused_in_one_line(
    tmp_path: Path, other: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "one.safetensors")
    save_file(other, tmp_path / "other.safetensors")
    out = tmp_path / "mean.safetensors"
    files = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    code, told = average_here(out, files, capsys)
    assert code not in (0, None)
    assert "not of one network" in told
    assert len(told.splitlines()) == 1
    assert not out.exists()


def test_files_that_are_no_checkpoints_are_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("a.pt", b"x"), ("b.pt", b"x"), ("a.safetensors", b"x")):
        (tmp_path / name).write_bytes(content)
    torch.save({"step": 1}, tmp_path / "bare.pt")
    for out, files, said in (
        ("o.pt", ("a.pt", "b.pt"), "not a PyTorch checkpoint"),
        ("o.pt", ("bare.pt", "bare.pt"), "holds no averages"),
        ("o.pt", ("missing.pt", "b.pt"), "cannot read"),
        ("o.safetensors", ("a.safetensors", "a.safetensors"), "not a safetensors file"),
        ("o.pt", ("a.pt", "a.safetensors"), "all .safetensors or all .pt"),
        ("o.pt", ("a.pt",), "at least two"),
    ):
        code, told = average_here(tmp_path / out, [tmp_path / name for name in files], capsys)
        assert code not in (0, None)
        assert said in told
        assert len(told.splitlines()) == 1
        assert not (tmp_path / out).exists()
