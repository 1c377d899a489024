"""The command line: help, usage errors, and one clear line for everything that can go wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hrtrack.cli import main


def run(*arguments: str) -> tuple[int, str, str]:
    """Runs the command in a process of its own; returns code, stdout and stderr."""
    found = subprocess.run(
        [sys.executable, "-c", "from hrtrack.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    return found.returncode, found.stdout, found.stderr


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Runs the command in this process; returns its code and what it wrote on stderr."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0), capsys.readouterr().err


def test_help_is_grouped_and_complete() -> None:
    code, out, _ = run("--help")
    assert code == 0
    for heading in ("Source:", "Output:", "Model:", "Display:", "Commands:"):
        assert heading in out
    for name in ("--source", "--output", "--save", "--detect-every", "--max-people", "--backend"):
        assert name in out


def test_no_arguments_shows_the_help() -> None:
    code, out, _ = run()
    assert code == 0
    assert "--source" in out
    assert "x<=None" not in out
    code, _, err = run("bench")
    assert code == 2
    assert len(err.splitlines()) > 5


def test_nothing_to_show_and_nothing_to_write(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"")
    code, err = fails(capsys, "--source", str(clip))
    assert code == 2
    assert "add --output" in err
    assert len(err.strip().splitlines()) == 1


def test_a_missing_source_is_named_before_a_missing_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fails(capsys, "--source", "nowhere.mp4") == (1, "hrtrack: no such file: nowhere.mp4\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--output", "a.mp4"], 2, "--source is missing"),
        (["--source", "x.mp4", "--draw", "wings", "--no-show"], 2, "not 'wings'"),
        (["--source", "x.mp4", "--save", "a.docx"], 2, "a.docx"),
        (["--source", "x.mp4", "--output", "a.csv"], 2, "--save"),
        (["--source", "x.mp4", "--detect-every", "often", "--no-show"], 2, "auto"),
        (["--source", "x.mp4", "--detect-every", "²", "--no-show"], 2, "auto"),
        (["--source", "x.mp4", "--size", "²x3"], 2, "1280x720"),
        (["--source", "x.mp4", "--reconnect", "²"], 2, "forever"),
        (["--source", "x.mp4", "--backend", "magic"], 2, "magic"),
        (["--source", "nothing/*.mp4", "--save", "jsonl:x"], 1, "nothing/*.mp4"),
    ],
)
def test_one_line_for_every_fault(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    found, err = fails(capsys, *arguments)
    assert found == code
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code in (0, None)
    assert "0.1.0" in capsys.readouterr().out


def test_info_names_every_back_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["info"])
    out = capsys.readouterr().out
    for name in ("openvino", "torch", "tensorrt", "tensorrt-rtx", "cores"):
        assert name in out


def test_unreadable_sources_fail_with_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("this is no video\n" * 50)
    nothing = tmp_path / "empty.mp4"
    nothing.write_bytes(b"")
    folder = tmp_path / "folder"
    folder.mkdir()
    missing = tmp_path / "missing.mp4"
    out = str(tmp_path / "out.jsonl")
    for source in (text, nothing, folder, missing, "webcam:77", "rtsp://127.0.0.1:9/x"):
        code, err = fails(capsys, "--source", str(source), "--save", out)
        assert code == 1, source
        assert len(err.strip().splitlines()) == 1, err
        assert err.startswith("hrtrack: ")
    assert not Path(out).exists()
