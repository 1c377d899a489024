"""Training, evaluation and export at the command line: what does not fit is said first."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from hrtrack.cli import main
from hrtrack.models.checkpoints import save_weights
from hrtrack.models.info import PoseInfo
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise

from ..dots import DOTS


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit code and what went to standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    assert isinstance(code, int)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train tiny --epochs 3", "--scope, --epochs and --seeds are for hrtrack ablate"),
        ("train tiny --seeds 2", "--scope, --epochs and --seeds are for hrtrack ablate"),
        ("train tiny --scope stem --throughput", "--seeds are for hrtrack ablate"),
        ("train tiny --throughput --resume", "leave out --resume"),
        ("train tiny --throughput --ablate", "do not go together"),
        ("train tiny --ablate --init bundled", "leave out --init and --resume"),
        ("train tiny --ablate --resume", "leave out --init and --resume"),
        ("export body_fast --portable -o never.onnx", "are for --to tensorrt"),
        ("export body_fast --timing-cache t -o never.onnx", "are for --to tensorrt"),
        (
            "eval --annotations a --images b --detector person_fast",
            "works only with --boxes detector",
        ),
        ("eval --annotations a --images b --share 1 0.5", "write two numbers between 0 and 1"),
        ("eval --annotations a --images b --precision fp64", "'fp64' is not one of"),
    ],
)
def test_options_that_would_be_ignored(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, *words.split())
    assert code == 2
    assert message in " ".join(text.split())


@pytest.mark.parametrize("config", [".", "/", "data/set", ""])
def test_a_folder_is_no_configuration(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "train", config)
    assert code == 2
    assert "configuration" in text
    assert len(text.splitlines()) == 1


@pytest.fixture
def model(dots: Path) -> Path:
    """Weights that fit the made set."""
    network = HRNet(HRNetConfig(joints=4, width=8, modules=(1, 1, 1), blocks=1))
    initialise(network, "he")
    path = dots / "dots.safetensors"
    save_weights(network, PoseInfo(DOTS, (64, 64)), path)
    return path


def evaluation(dots: Path, model: Path) -> list[object]:
    return [
        "eval", "--annotations", dots / "dots.json", "--images", dots, "-m", model,
        "--backend", "torch", "--device", "cpu", "--quiet",
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_places_are_looked_at_before_measuring(
    dots: Path, model: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for photo in dots.glob("*.png"):  # so that the measurement would fail in its own way
        photo.unlink()
    (dots / "0.png").touch()
    name = "out.json" if option == "--json" else "out"
    for folder in (dots / "dots.json", Path("/proc")):
        code, text = said(capsys, *evaluation(dots, model), option, folder / name)
        assert code == 1
        assert "cannot be written" in text
        assert len(text.splitlines()) == 1


def test_a_training_s_folder_is_looked_at_first(
    sticks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (sticks / "train.json" / "run", Path("/proc/run")):
        for command in ("train", "ablate"):
            code, text = said(
                capsys, command, "tiny", f"data.root={sticks}", "--device", "cpu", "-o", folder
            )
            assert code == 1
            assert f"{folder} cannot be written" in " ".join(text.split())
            assert len(text.splitlines()) == 1


def test_photos_in_a_zip_and_a_model_named_twice(
    dots: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(dots / "photos.zip", "w") as archive:
        for photo in dots.glob("*.png"):
            archive.write(photo, photo.name)
            photo.unlink()
    monkeypatch.chdir(dots)
    words = evaluation(dots, model)
    words[words.index(dots)] = dots / "photos.zip"
    code, text = said(capsys, *words, "-m", f"./{model.name}", "--json", dots / "out.json")
    assert code == 0, text
    assert json.loads((dots / "out.json").read_text())["n_people"] == 3
