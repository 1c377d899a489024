"""The command line: help, usage errors, and one clear line for everything that can go wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hrtrack import __version__
from hrtrack.cli import main
from hrtrack.cli.main import hrtrack as group
from hrtrack.cli.outputs import TrackSettings
from hrtrack.tracker.options import TrackerOptions, shown_options


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


def all_commands(
    command: click.Command, above: click.Context | None = None
) -> Iterator[click.Context]:
    ctx = click.Context(command, info_name=command.name, parent=above)
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None
            yield from all_commands(found, ctx)


def test_the_help_is_short_and_says_what_every_option_does() -> None:
    root = click.Context(group, info_name="hrtrack")
    assert sum(one.get_help_record(root) is not None for one in group.get_params(root)) <= 30
    for ctx in all_commands(group):
        assert ctx.command.get_short_help_str().endswith((".", "...")), ctx.command_path
        for one in ctx.command.get_params(ctx):
            if isinstance(one, click.Option) and not one.hidden:
                text = (one.help or "").split("  [")[0]
                assert text.endswith((".", ").")), (ctx.command_path, one.opts, text)
                assert len(text.split()) > 1, one.opts


def test_advanced_options_are_in_the_long_help() -> None:
    code, short, _ = run("--help")
    code_all, long, _ = run("--help-all")
    assert (code, code_all) == (0, 0)
    for name in ("--segment", "--ray", "--threads", "--max-latency"):
        assert name not in short
        assert name in long
    for name in ("--redraw", "--pixel-format", "--list-cameras"):
        assert name not in long


def test_every_tracker_option_reaches_the_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[TrackSettings] = []
    monkeypatch.setattr(
        "hrtrack.cli.track.track", lambda settings, ahead: given.append(settings) or 0
    )
    words = {
        "model": "m.onnx", "detector": "d.onnx", "skeleton": "mpii16", "action": "a.onnx",
        "backend": "torch", "device": "cpu", "precision": "fp32", "threads": 2, "flip": True,
        "detect_every": 7, "max_people": 3, "min_score": 0.5, "smooth": "off", "cuts": "off",
        "target_fps": 12.5,
    }  # fmt: skip
    assert words.keys() == shown_options().keys()
    asked = [
        f"--{name.replace('_', '-')}={value}" for name, value in words.items() if name != "flip"
    ]
    with pytest.raises(SystemExit):
        main(["--source", "x.mp4", "--flip", *asked])
    assert given[0].tracker == TrackerOptions(**words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "camera"),
    [
        (["--camera", "1280x720@30,mjpeg"], ((1280, 720), 30.0, "mjpeg")),
        (["--camera", "1280x720"], ((1280, 720), None, None)),
        (["--camera", "@29.97"], (None, 29.97, None)),
        (["--camera", "yuyv422"], (None, None, "yuyv422")),
        (["--camera", "@5,mjpeg"], (None, 5.0, "mjpeg")),
        (["--size", "64x48", "--fps", "5", "--pixel-format", "mjpeg"], ((64, 48), 5.0, "mjpeg")),
        ([], (None, None, None)),
    ],
)
def test_a_camera_s_mode(
    arguments: list[str], camera: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[TrackSettings] = []
    monkeypatch.setattr(
        "hrtrack.cli.track.track", lambda settings, ahead: given.append(settings) or 0
    )
    with pytest.raises(SystemExit):
        main(["--source", "webcam", *arguments])
    assert given[0].camera == camera
    live = given[0].live()
    assert (live.size, live.fps, live.pixel_format) == camera


@pytest.mark.parametrize(
    ("arguments", "new"),
    [
        (["--source", "nowhere.mp4", "--redraw", "a.jsonl", "--save", "b.csv"], "hrtrack draw"),
        (["--list-cameras"], "hrtrack cameras"),
        (["--source", "nowhere.mp4", "--size", "8x8", "--save", "b.csv"], "--camera 1280x720"),
        (["--source", "nowhere.mp4", "--fps", "8", "--save", "b.csv"], "--camera @30"),
        (["train", "nothing", "--ablate"], "hrtrack ablate"),
        (["eval", "--worst", "a.png"], "--report DIR"),
        (["eval", "action", "--data", "nowhere", "--out", "a"], "--report DIR"),
    ],
)
def test_an_old_spelling_names_the_new_one(
    arguments: list[str],
    new: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = fails(capsys, *arguments)
    assert new in err.splitlines()[0]
    assert sum("next version" in line for line in err.splitlines()) == 1


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
        (["--output", "a.mp4"], 2, "the source is missing"),
        (["clip.mp4"], 2, "no such command or file: clip.mp4"),
        (["trian"], 2, "no such command or file: trian; did you mean train?"),
        (["nothing/*.mp4"], 2, "no such command or file: nothing/*.mp4"),
        (["webcam:1", "--source", "a.mp4", "--jobs", "2"], 2, "several sources always run"),
        (["--source", "a.mp4", "webcam:1", "--jobs", "2"], 2, "several sources always run"),
        (["webcam", "0", "-q"], 2, "two sources, webcam and 0; name their folder"),
        (["--output", "a.mp4", "train", "body_fast"], 2, "--output stands before train"),
        (["webcam", "--start", "1:60", "--no-show"], 2, "more than 59"),
        (["webcam", "--start", "1:2:3:4"], 2, "1:30"),
        (["webcam", "--start", "0:01", "--end", "1", "--save", "a.csv"], 2, "must lie after"),
        (["--source", "x.mp4", "--draw", "wings", "--no-show"], 2, "not 'wings'"),
        (["--source", "x.mp4", "--save", "a.docx"], 2, "a.docx"),
        (["--source", "x.mp4", "--output", "a.csv"], 2, "--save"),
        (["--source", "x.mp4", "--detect-every", "often", "--no-show"], 2, "auto"),
        (["--source", "x.mp4", "--detect-every", "²", "--no-show"], 2, "auto"),
        (["--source", "x.mp4", "--camera", "²x3"], 2, "1280x720"),
        (["--source", "x.mp4", "--camera", "0x3@30"], 2, "above 0"),
        (["--source", "x.mp4", "--camera", ""], 2, "1280x720"),
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
    assert __version__ in capsys.readouterr().out


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["a clip.mp4", "--quiet", "--save", "x.jsonl"],
        ["--quiet", "--save", "x.jsonl", "a clip.mp4"],
        ["--save", "x.jsonl", "a clip.mp4", "--quiet"],
        ["-qs", "a clip.mp4", "--save", "x.jsonl"],
        ["-q", "--save", "x.jsonl", "--action", "a clip.mp4"],
        ["-q", "--save", "x.jsonl", "--", "a clip.mp4"],
    ],
)
def test_a_first_word_that_exists_is_the_source(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a clip.mp4").touch()
    found = group.make_context("hrtrack", arguments).params
    assert found["source"] == ("a clip.mp4",)
    assert found["save"] == ("x.jsonl",)
    assert found["quiet"]
    assert found["action"] == ("action_penn" if "--action" in arguments else None)


@pytest.mark.parametrize(
    "word", ["webcam", "webcam:1", "0", "-", "rtsp://host/x", "folder", "folder/*.mp4", "-odd.mp4"]
)
def test_what_else_may_be_the_source(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for name in ("folder/a.mp4", "-odd.mp4"):
        Path(name).touch()
    words = ["--", word] if word == "-odd.mp4" else [word]
    assert group.make_context("hrtrack", ["-q", *words]).params["source"] == (word,)


def test_a_first_word_that_is_a_command_is_that_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    assert fails(capsys, "models")[0] == 0
    with pytest.raises(click.UsageError, match="body_fast"):
        group.make_context("hrtrack", ["./models", "body_fast"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("0:01", 1), ("1:30", 90), ("75:00", 4500), ("1:02:03.5", 3723.5)],
)
def test_times_may_have_colons(text: str, seconds: float) -> None:
    assert group.make_context("hrtrack", ["webcam", "--start", text]).params["start"] == seconds


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_a_reader_who_has_seen_enough_is_no_fault() -> None:
    program = [sys.executable, "-c", "from hrtrack.cli import main; main()", "models"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run_on:
        assert run_on.stdout is not None
        assert run_on.stderr is not None
        run_on.stdout.close()
        told = run_on.stderr.read()
    assert (run_on.returncode, told) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_under_the_help_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [sys.executable, "-c", "from hrtrack.cli import main; main()", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert found.returncode == 1
    assert found.stderr == "hrtrack: no space left on device\n"
